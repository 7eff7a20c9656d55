"""Who is alive: silence is asked about, suspected, judged; the accused refutes; a stall of one's own accuses nobody."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from crdtcache.core.claims import Claim, Standing
from crdtcache.core.codec import Limits, decode, frame
from crdtcache.core.detector import Detector
from crdtcache.core.links import Link
from crdtcache.core.members import Member, Members
from crdtcache.core.messages import Claims, Heard, Hello, Message, Probe, Statement
from crdtcache.tuning import Tuning
from tests.core.test_redial import hello

MS = 1_000_000
ALIVE, SUSPECT, DOWN, LEFT = Standing
TUNING = Tuning()
GENERATION = 100
ME = 1_000


class Bench:
    """One detector, its members, linked as number 1, 2, ..., and a clock in ms."""

    def __init__(self, members: int, tuning: Tuning = TUNING, region: str = "r") -> None:
        self.now_ms = 1_000_000
        self.links: dict[int, Link] = {}
        rng = random.Random(1)
        self.members = Members(ME, tuning, rng)
        self.detector = Detector(self.members, self.links, tuning, rng, region, GENERATION)
        for origin in range(1, members + 1):
            self.meet(hello(origin))

    @property
    def now(self) -> int:
        return self.now_ms * MS

    def __getitem__(self, origin: int) -> Member:
        return self.members.known[origin]

    def meet(self, who: Hello) -> list[Message]:
        """Link a member; what it is told at once."""
        link = self.links[who.origin] = Link(who.origin, who, self.now, our_dial=False)
        self.detector.met(self.members.up(who, who.origin, self.now, None), link, self.now)
        return self.said(who.origin)

    def lose(self, origin: int) -> None:
        self.detector.lost(self[origin], self.links.pop(origin), self.now)
        self.members.down(self[origin], self.now)

    def said(self, origin: int) -> list[Message]:
        """What waits for a member; it does not wait any longer."""
        link = self.links[origin]
        messages = decode(frame(0, list(link.control)), Limits(1_024, 32_768))[1]
        while link.control:
            link.take()
        return messages

    def told(self, origin: int, *statements: Statement) -> None:
        """A member says what it believes."""
        self.detector.told(self.links[origin], Claims(list(statements)), self.now)

    def hears(self, *origins: int) -> None:
        for origin in origins:
            self.links[origin].heard_ns = self.now

    def run(self, ms: int, *heard: int, look_ms: int = 50) -> None:
        """Time passes, in which these members are heard."""
        until = self.now_ms + ms
        while self.now_ms < until:
            self.now_ms += min(look_ms, until - self.now_ms)
            self.hears(*heard)
            if self.detector.due_ns <= self.now:
                self.detector.look(self.now)

    def standing(self, origin: int) -> int:
        return self[origin].claim.standing


def statement(origin: int, standing: int, incarnation: int = 0, *, witness: bool = False) -> Statement:
    return Statement(origin, 1, incarnation, standing, witness)


def asked(bench: Bench, about: int) -> list[int]:
    """Who has been asked whether it hears a member."""
    return [origin for origin in bench.links if Probe(about) in bench.said(origin)]


def test_who_is_heard_costs_no_message() -> None:
    bench = Bench(9)
    bench.run(60_000, *bench.links)
    assert [bench.said(origin) for origin in bench.links] == [[]] * 9
    assert bench.detector.judged == []


def test_the_silent_one_and_three_others_are_asked_before_anybody_is_suspected() -> None:
    bench = Bench(9)
    rest = [origin for origin in bench.links if origin != 5]
    bench.run(1_150, *rest)
    assert asked(bench, 5) == []
    bench.run(150, *rest)
    those = asked(bench, 5)
    assert 5 in those
    assert len(those) == 1 + TUNING.helpers
    assert bench.standing(5) == ALIVE
    bench.run(1_200, *rest)
    assert bench.standing(5) == SUSPECT
    assert statement(5, SUSPECT, witness=True) in bench.said(5)[0].statements, "the accused is told so"


def test_who_is_slow_by_nature_is_given_three_round_trips() -> None:
    bench = Bench(3)
    bench[2].round_trip_ms = 400
    bench.run(2_150, 1, 3)
    assert asked(bench, 2) == []
    bench.run(150, 1, 3)
    assert asked(bench, 2)


def test_a_member_of_another_region_is_probed_each_five_seconds_and_its_neighbours_are_asked_first() -> None:
    bench = Bench(6)
    for origin in (7, 8, 9, 10):
        bench.meet(hello(origin)._replace(region="far"))
    rest = [origin for origin in bench.links if origin != 7]
    bench.run(5_900, *rest)
    assert asked(bench, 7) == []
    bench.run(200, *rest)
    assert asked(bench, 7) == [7, 8, 9, 10]


def test_one_who_hears_it_vouches_for_it_as_of_when_it_did() -> None:
    bench = Bench(4)
    bench.run(1_300, 1, 2, 3)
    assert sorted(asked(bench, 4)) == [1, 2, 3, 4]
    bench.detector.vouched(Heard(4, 400), bench.now)
    bench.run(750, 1, 2, 3)
    assert asked(bench, 4) == []
    bench.run(200, 1, 2, 3)
    assert sorted(asked(bench, 4)) == [1, 2, 3, 4], "1.2 s after it was heard by anybody"
    for _ in range(30):
        bench.run(500, 1, 2, 3)
        bench.detector.vouched(Heard(4, 100), bench.now)
    assert bench.standing(4) == ALIVE


def test_only_what_one_hears_oneself_is_vouched_for() -> None:
    bench = Bench(3)
    bench.run(400, 1, 2)
    for about, answer in ((ME, [Heard(ME, 0)]), (3, [Heard(3, 400)]), (77, [])):
        bench.detector.asked(bench.links[1], Probe(about), bench.now)
        assert bench.said(1) == answer
    bench.run(900, 1, 2)
    bench.said(1)
    bench.detector.vouched(Heard(3, 0), bench.now)
    bench.detector.asked(bench.links[1], Probe(3), bench.now)
    assert bench.said(1) == [], "hearsay"


def down_after(bench: Bench, origin: int, *witnesses: int, incarnation: int = 0) -> float:
    """Seconds from its last word until a member is down, if these say that they do not hear it either."""
    rest = [each for each in bench.links if each != origin]
    began = bench.now_ms
    while bench.standing(origin) < DOWN:
        bench.run(50, *rest)
        if bench.standing(origin) == SUSPECT:
            for witness in witnesses:
                bench.told(witness, statement(origin, SUSPECT, incarnation, witness=True))
        assert bench.now_ms - began < 120_000
    return (bench.now_ms - began) / 1_000


@pytest.mark.parametrize(
    ("members", "witnesses", "seconds"), [(1, 0, 26.2), (2, 1, 6.2), (49, 0, 43), (49, 3, 9.0), (49, 8, 9.0)]
)
def test_a_suspect_that_more_do_not_hear_is_down_the_sooner(members: int, witnesses: int, seconds: float) -> None:
    bench = Bench(members)
    assert down_after(bench, 1, *range(2, 2 + witnesses)) == pytest.approx(seconds, abs=0.4)
    assert bench.detector.judged[-1] is bench[1]


def test_who_only_repeats_a_suspicion_does_not_confirm_it() -> None:
    bench = Bench(49)
    bench.told(2, statement(1, SUSPECT))
    for origin in range(3, 40):
        bench.told(origin, statement(1, SUSPECT))
    ends = bench[1].suspicion.ends_ns if bench[1].suspicion else 0
    assert ends - bench.now == pytest.approx(6 * 6_800 * MS, rel=0.01)


def test_nobody_is_down_for_a_member_that_hears_it() -> None:
    """Whatever the others say: that one is on the wrong side of a cut, or too old to know what a claim is."""
    bench = Bench(5)
    bench.told(2, statement(1, SUSPECT, witness=True))
    bench.told(3, statement(1, SUSPECT, witness=True))
    bench.run(60_000, *bench.links)
    assert bench.standing(1) == SUSPECT


def test_the_accused_refutes_in_a_higher_incarnation_and_tells_all() -> None:
    bench = Bench(3)
    for incarnation, standing in ((0, SUSPECT), (1, DOWN), (7, SUSPECT)):
        bench.told(2, Statement(ME, GENERATION, incarnation, standing, False))
        bench.run(100, *bench.links)
        refuted = Claims([Statement(ME, GENERATION, incarnation + 1, ALIVE, False)])
        assert [bench.said(origin) for origin in bench.links] == [[refuted]] * 3


def test_an_accusation_that_was_refuted_long_ago_is_answered_to_whoever_still_makes_it() -> None:
    bench = Bench(3)
    bench.told(2, Statement(ME, GENERATION, 4, SUSPECT, False))
    bench.run(100, *bench.links)
    for origin in bench.links:
        bench.said(origin)
    bench.told(3, Statement(ME, GENERATION, 1, DOWN, False))
    bench.run(100, *bench.links)
    own = Claims([Statement(ME, GENERATION, 5, ALIVE, False)])
    assert [bench.said(origin) for origin in bench.links] == [[], [], [own]]


def test_a_refutation_ends_the_suspicion_and_brings_back_who_was_down() -> None:
    bench = Bench(3)
    bench.told(2, statement(1, SUSPECT))
    bench.told(3, statement(1, ALIVE, 1))
    bench.run(60_000, *bench.links)
    assert bench[1].claim == Claim(1, 1, ALIVE)
    bench.told(2, statement(1, DOWN, 1))
    assert bench.standing(1) == DOWN
    bench.told(3, statement(1, SUSPECT, 1))
    assert bench.standing(1) == DOWN, "down beats suspect"
    bench.told(1, statement(1, ALIVE, 2))
    assert bench.standing(1) == ALIVE
    assert down_after(bench, 1, 2, 3, incarnation=2) < 10, "and it is watched again"


def test_who_was_away_is_told_what_is_said_of_it_and_of_others() -> None:
    bench = Bench(3)
    bench.lose(1)
    bench.told(2, statement(1, DOWN), statement(3, ALIVE, 2))
    bench.run(50, 2, 3)
    [claims] = bench.meet(hello(1))
    assert claims == Claims([statement(1, DOWN), statement(3, ALIVE, 2)])


def test_after_a_stall_of_this_process_nobody_is_suspected_for_what_it_did_not_hear() -> None:
    bench = Bench(9)
    bench.run(2_000, *bench.links)
    bench.told(2, statement(1, SUSPECT, witness=True))
    bench.run(1_500, *(origin for origin in bench.links if origin != 1))
    assert bench[1].asked_ns
    bench.now_ms += 30_000
    bench.detector.stalled(bench.now)
    bench.run(1_000)
    assert {origin: bench.standing(origin) for origin in bench.links} == {1: SUSPECT} | dict.fromkeys(
        range(2, 10), ALIVE
    )
    assert not any(bench[origin].asked_ns for origin in bench.links)
    bench.run(5_000, *bench.links)
    assert bench.detector.judged == [bench[1]], "only when it was suspected"


def test_who_leaves_says_so_and_is_not_waited_for() -> None:
    bench = Bench(3)
    bench.detector.leave()
    goodbye = Claims([Statement(ME, GENERATION, 0, LEFT, False)])
    assert [bench.said(origin) for origin in bench.links] == [[goodbye]] * 3
    bench.told(1, Statement(ME, GENERATION, 0, DOWN, False))
    assert bench.detector.own.standing == LEFT
    other = Bench(3)
    other.told(1, statement(1, LEFT))
    other.lose(1)
    assert [member.row.origin for member in other.members.in_use(other.now)] == [2, 3]


def test_who_has_left_and_goes_on_is_alive_in_a_higher_incarnation() -> None:
    bench = Bench(0)
    bench.detector.back()
    assert bench.detector.own == Claim(GENERATION, 0, ALIVE)
    bench.detector.leave()
    bench.detector.back()
    [claims] = bench.meet(hello(5))
    assert claims == Claims([Statement(ME, GENERATION, 1, ALIVE, False)])


def test_a_process_whose_clock_is_behind_that_of_the_one_before_it_becomes_the_later_one() -> None:
    bench = Bench(2)
    bench.detector.succeed(GENERATION - 1, bench.now)
    assert bench.detector.own.generation == GENERATION
    bench.detector.succeed(GENERATION + 50, bench.now)
    bench.run(50, *bench.links)
    assert bench.said(1) == [Claims([Statement(ME, GENERATION + 51, 0, ALIVE, False)])]
    bench.told(1, Statement(2, 8, 0, ALIVE, False))
    assert bench[2].row.generation == 8


def test_words_of_later_versions_and_made_up_numbers_are_passed_over() -> None:
    bench = Bench(2)
    bench.told(1, Statement(2, 1, 0, 4, False), Statement(2, 1, 1 << 62, DOWN, False), Statement(99, 1, 0, DOWN, False))
    bench.told(1, Statement(ME, GENERATION, 1 << 63, DOWN, False))
    assert bench.standing(2) == ALIVE
    assert bench.detector.own == Claim(GENERATION, 0, ALIVE)


def test_whatever_incarnation_is_claimed_the_accused_can_answer_and_is_believed() -> None:
    accused, other = Bench(2), Bench(2)
    for incarnation in ((1 << 60) - 1, 1 << 60):
        accused.told(1, Statement(ME, GENERATION, incarnation, DOWN, False))
        other.told(1, statement(2, DOWN, incarnation))
    other.told(1, statement(2, ALIVE, accused.detector.own.incarnation))
    assert other.standing(2) == ALIVE


def test_who_is_gone_for_ninety_days_is_forgotten_with_its_addresses() -> None:
    bench = Bench(
        3, replace(TUNING, forget_ms=60_000, gc_hold_ms=30_000, min_dead_age_ms=15_000, max_frame_age_ms=5_000)
    )
    bench.lose(1)
    bench.run(50_000, 2, 3, look_ms=500)
    assert 1 in bench.members.known
    bench.run(80_000, 2, 3, look_ms=500)
    assert list(bench.members.known) == [2, 3]
    assert hello(1).advertise not in bench.members.addresses


def test_one_of_the_gone_is_called_each_minute_and_all_at_once_when_they_are_back() -> None:
    bench = Bench(5)
    for origin in (1, 2, 3):
        bench.told(5, statement(origin, LEFT))
        bench.lose(origin)

    def calls(seconds: int) -> list[str]:
        found = []
        for _ in range(seconds):
            bench.now_ms += 1_000
            for address in bench.members.calls(bench.now):
                bench.members.failed(address, bench.now)
                found.append(address)
        return found

    first = calls(180)
    assert first == [hello(origin).advertise for origin in (1, 2, 3)]
    assert calls(180) == first
    for origin in (1, 2, 3):
        bench.told(5, statement(origin, ALIVE, 1))
    assert set(calls(2)) == set(first)
