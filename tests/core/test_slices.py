"""C2 and slices: what a frontier passes has come, whatever cut the slice and however often a key was written."""

from __future__ import annotations

from crdtcache.core.clock import Reading
from crdtcache.core.codec import Limits, decode
from crdtcache.core.entry import DEAD, LIVE, Key, live_entry
from crdtcache.core.lwwmap import LWWMap
from crdtcache.core.messages import Item, Pull, Slice
from crdtcache.core.slices import apply_slice, make_slice
from crdtcache.core.store import Store
from crdtcache.tuning import Tuning
from tests.core.world import FAST, WALL_MS, World

A, B, C = 0xA1B2C3D4E5F60718, 0xB1B2C3D4E5F60718, 0xC1B2C3D4E5F60718
NOW = Reading(WALL_MS, 1)
AT = WALL_MS << 16


def a_map(origin: int = C) -> LWWMap:
    return LWWMap(origin, FAST, Store(None, None), 7)


def item(key: Key, first: int, latest: int | None = None, *, version: int | None = None, origin: int = A) -> Item:
    """An item written at `first` and again at `latest`, whose entry now is `version` of `origin`."""
    latest = first if latest is None else latest
    stamp = latest if version is None else version
    return Item(first, latest, 0, 0, key, live_entry(stamp, origin, 0, "v"))


def a_slice(lo: int, hi: int, *items: Item, origin: int = A) -> Slice:
    return Slice(origin, lo, hi, max((i.latest for i in items), default=0), (0, 0), (), list(items))


PARKED = AT + ((FAST.max_drift_ms + 50) << 16)


def test_a_slice_is_applied_up_to_its_first_parked_item() -> None:
    held = a_map()
    part = a_slice(0, AT + 30, item("x", AT + 10), item("y", AT + 20, version=PARKED, origin=B), item("z", AT + 30))
    applied = apply_slice(held, part, NOW, None)
    assert held.context.frontier[A] == AT + 19
    assert not applied.whole
    assert applied.parked_until_ms == WALL_MS + 50
    assert sorted(held.store.entries) == ["x", "z"]  # what lies behind the cut is an offer
    assert [r[:2] for r in held.log.after(A, 0)] == [(AT + 10, "x")]


def test_a_cut_does_not_pass_a_write_whose_key_was_written_again_beyond_it() -> None:
    """The relay would log x at its first stamp and keep silent about the write in between."""
    held = a_map()
    part = a_slice(0, AT + 40, item("x", AT + 10, AT + 40), item("y", AT + 30, version=PARKED, origin=B))
    apply_slice(held, part, NOW, None)
    assert held.context.frontier[A] < AT + 10
    assert "x" in held.store.entries  # taken as an offer


def test_a_relay_tells_since_when_a_record_stands_for_its_key() -> None:
    """Otherwise a third replica, cut between the two by a parked item, covers a write of which it has nothing."""
    relay = a_map(B)
    apply_slice(relay, a_slice(0, AT + 40, item("x", AT + 10, AT + 40), item("y", AT + 20)), NOW, None)
    part = make_slice(relay, A, AT + 15, 10_000)
    assert part is not None
    assert [(i.key, i.first, i.latest) for i in part.items] == [("y", AT + 20, AT + 20), ("x", AT + 16, AT + 40)]


def test_a_relay_does_not_end_a_slice_between_a_record_and_what_it_stands_for() -> None:
    relay = a_map(B)
    items = [item(f"k{i}", AT + 10 + i) for i in range(4)]
    apply_slice(relay, a_slice(0, AT + 20, item("x", AT + 1, AT + 20), *items), NOW, None)
    part = make_slice(relay, A, AT, 150)  # room for two or three items
    assert part is not None
    assert part.hi == AT + 20
    assert {i.key for i in part.items} == {"x", "k0", "k1", "k2", "k3"}
    part = make_slice(relay, A, 0, 150)
    assert part is not None
    assert (part.hi, part.items) == (AT, [])  # before the first of them, there is nothing
    # With a part that can be ended, it is ended there.
    apply_slice(relay, a_slice(AT + 20, AT + 90, item("m", AT + 50), item("n", AT + 60, AT + 90)), NOW, None)
    part = make_slice(relay, A, AT + 20, 60)
    assert part is not None
    assert (part.hi, [i.key for i in part.items]) == (AT + 50, ["m"])


def test_what_has_grown_beyond_a_frame_and_may_not_be_parted_is_left_to_a_session() -> None:
    relay = LWWMap(B, Tuning(), Store(None, None), 7)
    items = [item(f"k{i:03}", AT + 10 + i) for i in range(140)]
    apply_slice(relay, a_slice(0, AT + 200, item("x", AT + 1, AT + 200), *items), NOW, None)
    for i in range(140):
        relay.put(f"k{i:03}", "v" * 1_000, 0, NOW)
    relay.settle()
    assert make_slice(relay, A, AT, 4_000) is None
    assert relay.log.floor(A) == AT + 200


def test_the_dot_cap_binds_what_lies_behind_a_gap_and_not_what_a_contiguous_slice_replaces() -> None:
    for lo, verdicts in ((0, 5), (AT + 1, 2)):
        held = LWWMap(C, Tuning(dots_per_origin=2), Store(None, None), 7)
        for i in range(5):  # versions of B beyond its frontier, to be replaced
            held.offer(f"b{i}", live_entry(AT + i + 1, B, 0, "old"), NOW, None)
        applied = apply_slice(held, a_slice(lo, AT + 900, *(item(f"b{i}", AT + 600 + i) for i in range(5))), NOW, None)
        assert applied.contiguous is (lo == 0)
        assert applied.whole is (lo == 0)
        assert sum(entry[1] == A for entry in held.store.entries.values()) == verdicts
        held.check()


def test_nothing_is_missing_where_the_slice_only_reaches_further_than_the_own_clock_allows() -> None:
    """The end of a slice is the sender's now; a gap there would be pulled again and again, and never come."""
    world = World("ab", offsets={"b": -FAST.max_drift_ms - 100})
    world.link_all()
    world.run(60)
    world.put("b", "k", 1)
    world.put("a", "k", 2)
    world.run(400)
    assert world["b"].caught_up()


def test_a_slice_that_was_encoded_is_not_sent_again_once_an_entry_of_it_has_changed() -> None:
    """Its bytes are reused for every peer; but what was removed meanwhile may be covered there by an adopted row."""
    world = World("ab")
    world.link_all()
    world.put("a", "k", "v")
    world.run(100)
    world.cut_off("a")
    sent = []
    for name in ("c", "d", "e"):
        world.add(name)
        world.link("b", name)
        world.inject(name, "b", Pull(world["a"].origin, 0))
        data = world["b"].poll(world.pipes["b", name].sender_link, world.reading("b"))
        assert data is not None
        [part] = [m for m in decode(data, Limits(64, 1_024))[1] if isinstance(m, Slice)]
        sent.append(part.items[0].entry[5])
        if name == "d":
            world["b"].map.gone("k", world.held("b", "k")[:2], world.reading("b"))
    assert sent == [LIVE, LIVE, DEAD]
