"""Whom to call when: a link that never lasts is called less and less, and who has gone for good costs nothing."""

from __future__ import annotations

import random

from crdtcache.core.members import Members
from crdtcache.core.messages import Hello
from crdtcache.tuning import Tuning

_MS = 1_000_000
_S = 1_000 * _MS


def hello(origin: int, name: str = "", generation: int = 1) -> Hello:
    return Hello(1, 1, (), "c", 1, name or f"n{origin}", "r", "", origin, generation, f"10.0.0.{origin}:2738", 1, False)


def called(members: Members, now: int) -> tuple[int, str]:
    """The next call from `now` on: when, and where to."""
    while not (addresses := members.calls(now)):
        now = members.next_call_ns
    (address,) = addresses
    return now, address


def calls_in(members: Members, origin: int, lasts_ns: int, seconds: int) -> int:
    """How often this member is called in `seconds` if each link ends `lasts_ns` after it came up."""
    now, calls = _S, 0
    members.up(hello(origin), 1, now, None)
    while now < (seconds + 1) * _S:
        now += lasts_ns
        members.down(members.known[origin], now)
        now, address = called(members, now)
        calls += 1
        members.up(hello(origin), calls + 1, now, address)
    return calls


def test_links_that_end_at_once_are_called_less_and_less():
    tuning = Tuning()
    members = Members(99, tuning, random.Random(1))
    first = calls_in(members, 5, _MS, 60)
    assert first <= 60 * 1_000 / (tuning.redial_ms / 2) + 10
    later = Members(99, tuning, random.Random(1))
    total = calls_in(later, 5, _MS, 1_200)
    patience_s = tuning.redial_patience_ms // 1_000
    assert total <= patience_s * 2 + 10 + (1_200 - patience_s) * 1_000 / (tuning.redial_slow_ms / 2)


def test_a_link_that_lasted_is_called_again_at_once():
    members = Members(99, Tuning(), random.Random(1))
    calls_in(members, 5, _MS, 10)
    member = members.known[5]
    now = 100 * _S
    members.up(hello(5), 1_000, now, None)
    now += Tuning().silent_ms * _MS
    members.down(member, now)
    due, _ = called(members, now)
    assert due - now <= Tuning().redial_ms * _MS / 10


def test_a_new_process_at_an_address_owes_nothing_for_the_old_one():
    members = Members(99, Tuning(), random.Random(1))
    calls_in(members, 5, _MS, 10)
    address = hello(5).advertise
    members.up(hello(6)._replace(advertise=address), 1_000, 20 * _S, address)
    members.down(members.known[6], 20 * _S)
    due, _ = called(members, 20 * _S)
    assert due - 20 * _S <= Tuning().redial_ms * _MS / 16


def test_of_one_name_only_the_latest_process_is_in_use_and_called():
    members = Members(99, Tuning(), random.Random(1))
    for generation in (2, 3, 1):
        members.up(hello(generation, "web", generation), generation, _S, None)
    assert [m.row.generation for m in members.in_use(_S) if not members.succeeded(m)] == [3]
    for origin in (1, 2, 3):
        members.down(members.known[origin], _S)
    assert members.calls(10 * _S) == ["10.0.0.3:2738"]
