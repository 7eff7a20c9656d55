"""Keys, values, entries and messages as hypothesis draws them: all that the wire may carry, corners first."""

from __future__ import annotations

from operator import itemgetter

from hypothesis import strategies as st

from crdtcache.core.digest import apart
from crdtcache.core.entry import DEAD, GHOST, LIVE, Entry, Packed
from crdtcache.core.messages import (
    Answered,
    Busy,
    Claims,
    Context,
    End,
    Equal,
    Gone,
    Heard,
    Item,
    List,
    MemberRow,
    Nodes,
    Offer,
    Open,
    Probe,
    Pull,
    Ready,
    Receipt,
    Row,
    Slice,
    Statement,
    TooOld,
    Turn,
    Want,
)
from tests.core.world import WALL_MS

NOW = (WALL_MS + 50) << 16
#: Stamps that a replica at that time accepts, parks and rejects.
near = st.builds(
    lambda ms, count: NOW + (ms << 16) + count, st.sampled_from([-60, 0, 100, 300, 10_000]), st.integers(0, 3)
)
words64 = st.one_of(st.integers(0, 3), near, st.integers(0, (1 << 64) - 1))
origins = st.one_of(st.integers(1, 3), st.integers(1, (1 << 64) - 1))
stamps = st.one_of(st.integers(1, 4), near, st.integers(1, (1 << 64) - 1))
expiries = st.one_of(st.just(0), st.integers(1, 3), st.integers(0, (1 << 64) - 1))

key_atoms = st.one_of(st.text(max_size=8), st.binary(max_size=8), st.integers(-(1 << 63), (1 << 64) - 1))
keys = st.one_of(key_atoms, st.lists(key_atoms, max_size=3).map(tuple), st.tuples(st.tuples(key_atoms), key_atoms))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
)
values = st.one_of(scalars, st.binary(min_size=1, max_size=20).map(Packed))
removed = st.one_of(st.none(), st.tuples(stamps, origins))


@st.composite
def entries(draw: st.DrawFn, versions: st.SearchStrategy[tuple[int, int]] | None = None) -> Entry:
    """An entry in any state, with a lease of its own or one that was touched."""
    stamp, origin = draw(versions if versions is not None else st.tuples(stamps, origins))
    touch, toucher = draw(st.one_of(st.just((stamp, origin)), st.tuples(stamps, origins)))
    state = draw(st.sampled_from([LIVE, LIVE, LIVE, GHOST, DEAD, 3, 200]))
    value = draw(removed) if state == DEAD else None if state == GHOST else draw(values)
    if state == DEAD and value is not None and value >= (stamp, origin):
        value = None
    return (stamp, origin, touch, toucher, draw(expiries), state, value)


rows = st.builds(
    lambda origin, last, more: Row(origin, last, min(last + more, (1 << 64) - 1)), origins, words64, words64
)
marks = st.tuples(words64, words64)
texts = st.text(max_size=10)
members = st.builds(MemberRow, origins, words64, texts, texts, texts, texts, words64)


@st.composite
def slices(draw: st.DrawFn) -> Slice:
    """A slice whose items lie within it, a few of them written twice or touched."""
    lo, hi = sorted((draw(words64), draw(words64)))
    items = []
    for key in draw(st.lists(keys, max_size=4, unique=True)) if hi > lo else []:
        first, latest = sorted((draw(st.integers(lo + 1, hi)), draw(st.integers(lo + 1, hi))))
        entry = draw(st.one_of(entries(), entries(st.tuples(st.just(latest), origins))))
        touched = st.tuples(st.integers(1, latest - 1), origins) if latest > 1 else st.nothing()
        base = draw(st.one_of(st.just((0, 0)), touched))
        items.append(Item(first, latest, *base, key, entry))
    clears = draw(st.lists(st.integers(lo + 1, hi), max_size=2, unique=True)) if hi > lo else []
    return Slice(draw(origins), lo, hi, draw(st.integers(0, hi)), draw(marks), tuple(sorted(clears)), items)


offered = st.lists(st.tuples(keys, entries()), max_size=4, unique_by=itemgetter(0))
sessions = st.one_of(st.integers(2, 5), words64)
any_node = st.integers(0, 4).flatmap(lambda level: st.integers(1 << 4 * level, (2 << 4 * level) - 1))
nodes = st.lists(any_node, max_size=3).filter(apart).map(tuple)


@st.composite
def sums(draw: st.DrawFn) -> Nodes:
    """The children of some nodes that have any."""
    parents = tuple(node for node in draw(nodes) if node < 1 << 16)
    count = 16 * len(parents)
    return Nodes(
        draw(sessions),
        parents,
        tuple(draw(st.lists(words64, min_size=count, max_size=count))),
        tuple(draw(st.lists(st.integers(0, 99), min_size=count, max_size=count))),
    )


messages = st.one_of(
    slices(),
    st.builds(
        Context, st.lists(rows, max_size=4), words64, marks, st.lists(members, max_size=2), words64, *[words64] * 4
    ),
    st.builds(Pull, origins, words64),
    st.builds(TooOld, origins, words64),
    st.builds(Open, sessions, words64, words64, marks, words64, words64),
    st.builds(Equal, sessions),
    st.builds(
        Ready, sessions, st.lists(rows, max_size=4), words64, marks, words64, st.lists(origins).map(tuple), words64
    ),
    st.builds(Busy, sessions, st.integers(0, 3_600_000)),
    sums(),
    st.builds(List, sessions, nodes, offered),
    st.builds(Want, sessions, st.lists(keys, max_size=4)),
    st.builds(Turn, sessions, nodes, st.booleans()),
    st.builds(Offer, sessions, words64, offered),
    st.builds(End, sessions, words64, st.booleans()),
    st.builds(Answered, sessions, words64, st.booleans()),
    st.builds(Gone, st.lists(st.tuples(keys, stamps, origins), max_size=4)),
    st.builds(Claims, st.lists(st.builds(Statement, origins, words64, words64, st.integers(0, 5), st.booleans()))),
    st.builds(Probe, origins),
    st.builds(Heard, origins, words64),
    st.builds(Receipt, origins, origins, words64),
)
