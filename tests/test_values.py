"""Values: whatever the API names comes back equal and of the same types; whatever bytes arrive, one error at most."""

from __future__ import annotations

import dataclasses
import enum
import os
import random
import struct
import subprocess
import sys
import threading
import tracemalloc
import zoneinfo
from collections import OrderedDict, defaultdict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import msgpack
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from crdtcache import values
from crdtcache.core.entry import Packed
from crdtcache.errors import ConfigError, EncodeError, ValueTooLarge
from crdtcache.values import MAX_DEPTH, Unknown, decode, encode, register, size


def come_back(value: object) -> object:
    stored = encode(value, None)
    return decode(stored) if stored.__class__ is Packed else stored


def shape(value: object) -> object:
    """Everything that `==` overlooks: types at every level, the order of keys, NaN, -0.0, `fold`, time zones."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted((shape(item) for item in value), key=repr)
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is complex:
        return kind, struct.pack(">dd", value.real, value.imag)
    if kind is datetime or kind is time:
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, repr(value.tzinfo)
    return kind, repr(value)


FIXED_ZONES = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
NAMED_ZONES = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(min_size=1))
ZONES = st.none() | st.just(UTC) | FIXED_ZONES | NAMED_ZONES
TEXT = st.text()  # no surrogates: hypothesis leaves them out
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary()
ATOMS = (
    SCALARS
    | st.integers(min_value=-(1 << 200), max_value=1 << 200)
    | st.decimals()
    | st.complex_numbers()
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
)


# Functions, because hypothesis describes a strategy by its parts, and these descriptions would be a page each.
@st.composite
def leaves(draw):
    return draw(ATOMS)


@st.composite
def hashable_leaves(draw):
    atom = draw(ATOMS)
    return None if isinstance(atom, Decimal) and atom.is_snan() else atom  # a signalling NaN has no hash


HASHABLE = st.recursive(
    hashable_leaves(),
    lambda inner: st.tuples(inner, inner) | st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=4,
)
VALUES = st.recursive(
    leaves(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=5)
        | st.sets(HASHABLE, max_size=5)
        | st.frozensets(HASHABLE, max_size=5)
    ),
    max_leaves=10,
)


class TestRoundTrip:
    @given(VALUES)
    @example([True, 1, 1.0, 0, False, 0.0, -0.0])
    @example({True: 1, 2: True, 1.5: None, None: "none", (1, (2,)): [(), []], b"b": {}})
    @example([float("nan"), float("inf"), Decimal("sNaN123"), Decimal("-0E+5")])
    @example([(1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 63) - 1])
    @example({"a": [()], "b": (set(), frozenset({frozenset(), ()}))})
    def test_equal_and_of_the_same_types(self, value):
        assert shape(come_back(value)) == shape(value)

    @given(VALUES)
    def test_encoding_what_was_decoded_gives_the_same_bytes(self, value):
        stored = encode(value, None)
        if stored.__class__ is Packed:
            assert encode(decode(stored), None) == stored

    @given(SCALARS)
    def test_a_scalar_is_stored_itself(self, value):
        assume(value.__class__ is not int or -(1 << 63) <= value < 1 << 64)
        assert encode(value, None) is value

    @pytest.mark.parametrize("value", [True, False, 1, 0, 1.0])
    def test_bool_int_and_float_stay_apart_inside(self, value):
        assert shape(come_back([value])) == shape([value])
        assert shape(come_back({value: value})) == shape({value: value})

    def test_each_reader_gets_its_own_copy(self):
        original = {"rows": [1, [2]], "seen": {3}}
        stored = encode(original, None)
        original["rows"].append("changed by the writer")
        first = decode(stored)
        first["rows"][1].append("changed by a reader")
        assert decode(stored) == {"rows": [1, [2]], "seen": {3}}

    @pytest.mark.parametrize("fold", [0, 1])
    def test_a_named_zone_keeps_its_rules_and_the_fold(self, fold):
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
        at = datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold)
        back = come_back(at)
        assert back.tzinfo is zone
        assert back.utcoffset() == at.utcoffset()
        assert shape(come_back(time(2, 30, tzinfo=zone, fold=fold))) == shape(time(2, 30, tzinfo=zone, fold=fold))

    def test_the_zone_of_utc_is_the_one_of_the_standard_library(self):
        assert come_back(datetime(2026, 1, 1, tzinfo=UTC)).tzinfo is UTC

    @given(st.lists(HASHABLE, max_size=8))
    def test_a_set_has_the_same_bytes_whatever_its_history(self, items):
        distinct = list({repr(shape(item)): item for item in items}.values())
        assume(len(set(distinct)) == len(distinct))
        backwards = set()
        for item in reversed(distinct):
            backwards.add(item)
        assert encode(set(distinct), None) == encode(backwards, None)

    def test_the_hash_seed_does_not_show(self):
        program = (
            "from crdtcache.values import encode\n"
            "words = ['alpha', 'beta', 'gamma', 'delta', 'epsilon']\n"
            "print(encode([set(words), frozenset([*words, 1, None, ('a', 2), frozenset(words)])], None).hex())"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": seed},
                check=True,
                capture_output=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        assert len(outputs) == 1


class TestFormat:
    """Golden bytes: what one release wrote, every later one reads. Never edit a line; add lines."""

    GOLDEN = (
        ([1, "a", None], "0193 01 a161 c0"),
        ({"k": [True, 1.5]}, "0181 a16b 92c3 cb3ff8000000000000"),
        ((1, 2), "0293 01 02 c70001"),
        ({"b", "a"}, "0293 a161 a162 c70002"),
        (frozenset(), "0291 c70003"),
        ([(1,)], "0291 92 01 c70001"),
        (1 << 64, "02c70910 010000000000000000"),
        (-(1 << 64), "02c70910 ff0000000000000000"),
        (Decimal("1.50"), "02d611 312e3530"),
        (datetime(2026, 1, 2, 3, 4, 5, 6), "02c70c12 07ea0102030405 00000006 00"),
        (datetime(2026, 1, 2, tzinfo=UTC), "02c71512 07ea0102000000 00000000 00 66 0000000000000000"),
        (
            time(1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1), "CET"), fold=1),
            "02c71414 010203 00000004 01 66 00000000d693a400 434554",
        ),
        (time(1, tzinfo=zoneinfo.ZoneInfo("UTC")), "02c70c14 010000 00000000 00 7a 555443"),
        (date(2026, 1, 2), "02d613 07ea0102"),
        (timedelta(-1, 2, 3), "02c70c15 ffffffff 00000002 00000003"),
        (UUID(int=5), "02d816 00000000000000000000000000000005"),
        (1 + 2j, "02d817 3ff0000000000000 4000000000000000"),
    )

    @pytest.mark.parametrize(("value", "written"), GOLDEN)
    def test_written_and_read(self, value, written):
        assert encode(value, None) == bytes.fromhex(written)
        assert shape(decode(Packed(bytes.fromhex(written)))) == shape(value)

    def test_a_registered_type(self):
        register(Point)
        assert encode(Point(1, 2), None) == bytes.fromhex("0293 a5506f696e74 82 a17801 a17902 c70004")

    def test_golden_bytes_cover_every_code(self):
        seen = set()
        for _, written in self.GOLDEN:
            msgpack.unpackb(bytes.fromhex(written)[1:], ext_hook=lambda code, _: seen.add(code), strict_map_key=False)
        assert seen == {*values.ATOM_READERS, *values._MARKS} - {4}  # 4: the test above


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    number: int
    lines: list[tuple[str, int]]
    note: str = "none"
    total: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


Pair = namedtuple("Pair", "a b")


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Each test starts with nothing registered, and leaves nothing behind."""
    monkeypatch.setattr(values, "_named", {})
    monkeypatch.setattr(values, "_WRITERS", dict(values._WRITERS))


class TestRegistered:
    def test_enums_flags_and_dataclasses_need_no_functions(self):
        for kind in (Colour, Rights, Order, Point):
            assert register(kind) is kind
        order = Order(7, [("tea", 2)], note="late")
        value = {"colour": [Colour.RED], Point(1, 2): (order, Rights.READ | Rights.WRITE), "set": {Point(3, 4)}}
        back = come_back(value)
        assert back == value
        assert back["colour"][0] is Colour.RED
        assert back[Point(1, 2)][0].lines == [("tea", 2)]

    def test_own_functions(self):
        register(Celsius, name="temperature", encode=lambda t: t.degrees, decode=Celsius)
        assert come_back(Celsius(21.5)).degrees == 21.5
        register(Pair, encode=tuple, decode=lambda plain: Pair(*plain))
        back = come_back([Pair(1, (2,))])
        assert back == [Pair(1, (2,))]
        assert back[0].__class__ is Pair

    def test_a_class_decorator(self):
        @register
        @dataclasses.dataclass
        class Local:
            n: int

        assert come_back(Local(4)) == Local(4)

    def test_a_field_added_or_removed_later(self):
        written = encode(Unknown("Order", {"number": 1, "lines": [], "gone": 3}), None)
        register(Order)
        assert decode(written) == Order(1, [], note="none")

    def test_not_registered_here_passes_through(self):
        register(Point)
        stored = encode([{Point(1, 2): "a"}, {Point(3, 4)}], None)
        values._named.clear()
        values._WRITERS.pop(Point)
        back = decode(stored)
        assert back[0] == {Unknown("Point", {"x": 1, "y": 2}): "a"}
        assert encode(back, None) == stored

    def test_defined_again_takes_its_place(self):
        register(Point)
        again = dataclasses.make_dataclass("Point", ["x", "y"])
        again.__module__, again.__qualname__ = Point.__module__, Point.__qualname__
        register(again)
        assert come_back(again(1, 2)).__class__ is again

    def test_a_taken_name(self):
        register(Point, name="p")
        with pytest.raises(ConfigError, match=r"'p' is taken by .*Point"):
            register(Colour, name="p")

    @pytest.mark.parametrize("kind", [int, str, dict, list, tuple, datetime, Packed, Unknown])
    def test_what_is_built_in_is_not_registered(self, kind):
        with pytest.raises(ConfigError, match=r"register\(3\): not a class"):
            register(3, name="three")
        with pytest.raises(ConfigError, match="built in"):
            register(kind, encode=repr, decode=repr)

    def test_what_cannot_be_guessed(self):
        with pytest.raises(ConfigError, match="neither a dataclass nor an enum"):
            register(Celsius)
        with pytest.raises(ConfigError, match="give both"):
            register(Celsius, encode=lambda t: t.degrees)

    def test_its_functions_fail(self):
        register(Celsius, encode=lambda t: t.missing, decode=Celsius)
        with pytest.raises(EncodeError, match="encode= registered for 'Celsius' failed"):
            encode([Celsius(1)], None)
        register(Celsius, encode=lambda t: t.degrees, decode=lambda plain: plain.missing)
        with pytest.raises(EncodeError, match="decode= registered for 'Celsius'"):
            come_back(Celsius(1))

    def test_it_returns_what_has_no_encoding(self):
        register(Celsius, encode=lambda t: [t.__dict__, object()], decode=Celsius)
        with pytest.raises(EncodeError, match=r"value\[1\] is a builtins.object"):
            encode(Celsius(1), None)

    def test_it_returns_itself(self):
        register(Celsius, encode=lambda t: [t], decode=Celsius)
        with pytest.raises(EncodeError):
            encode(Celsius(1), None)

    def test_it_stores_something_itself(self):
        """A registered `encode` may call `encode`: the packer in use must not be touched."""
        register(Celsius, encode=lambda t: encode((t.degrees, ("inner",)), None), decode=decode_celsius)
        # A Packed is no value, so hand on its bytes.
        register(Celsius, encode=lambda t: bytes(encode((t.degrees,), None)), decode=decode_celsius)
        back = come_back([("before",), Celsius(3.5), ("after",)])
        assert back[0] == ("before",)
        assert back[1].degrees == 3.5
        assert back[2] == ("after",)


def decode_celsius(plain: bytes) -> Celsius:
    return Celsius(decode(Packed(plain))[0])


class TestRefused:
    @pytest.mark.parametrize(
        "value",
        [
            object(),
            bytearray(b"b"),
            memoryview(b"m"),
            Pair(1, 2),
            OrderedDict(a=1),
            defaultdict(list),
            Colour.RED,
            Rights.READ,
            Point(1, 2),
            SimpleNamespace(a=1),
            range(3),
            iter(()),
            len,
            int,
            Packed(b"\x01\x01"),
            msgpack.ExtType(1, b""),
            msgpack.Timestamp(1),
            type("Text", (str,), {})("t"),
            type("Number", (int,), {})(1),
        ],
    )
    def test_with_its_place(self, value):
        for nested, place in (
            (value, "value is a"),
            ([0, value], r"value\[1\] is a"),
            ({"k": (1, [value])}, r"value\['k'\]\[1\]\[0\] is a"),
        ):
            with pytest.raises(EncodeError, match=place):
                encode(nested, None)

    def test_as_a_key(self):
        with pytest.raises(EncodeError, match=r"Pair"):
            encode({Pair(1, 2): 1}, None)

    @pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\udfff": 1}, ("\ud800",), {"\ud800"}])
    def test_lone_surrogates(self, value):
        with pytest.raises(EncodeError, match="surrogate"):
            encode(value, None)

    @pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {0: [v]}])
    def test_too_deep(self, wrap):
        value = 0
        levels = 0
        while levels < MAX_DEPTH:
            last, value = value, wrap(value)
            levels += 1 + (wrap(0) == {0: [0]})
        assert shape(come_back(last if levels > MAX_DEPTH else value)) is not None
        for _ in range(3):
            value = wrap(value)
        with pytest.raises(EncodeError, match=f"deeper than {MAX_DEPTH}"):
            encode(value, None)

    def test_far_too_deep(self):
        value = []
        for _ in range(100_000):
            value = [value]
        with pytest.raises(EncodeError, match="deeper"):
            encode(value, None)

    def test_a_value_that_contains_itself(self):
        loop = [1]
        loop += [loop, loop]
        table = {}
        table["self"] = (table,)
        for value in (loop, table, {"deep": [loop]}):
            with pytest.raises(EncodeError, match="contains itself"):
                encode(value, None)

    def test_a_zone_of_somebodys_code(self):
        class Own(tzinfo):
            def utcoffset(self, at):
                return timedelta(0)

        with pytest.raises(EncodeError, match="time zone"):
            encode(datetime(2026, 1, 1, tzinfo=Own()), None)
        with zoneinfo_file().open("rb") as stream:
            nameless = zoneinfo.ZoneInfo.from_file(stream)
        with pytest.raises(EncodeError, match="time zone"):
            encode([datetime(2026, 1, 1, tzinfo=nameless)], None)

    def test_the_error_is_a_type_error_too(self):
        with pytest.raises(TypeError):
            encode(object(), None)


def zoneinfo_file() -> Path:
    for folder in zoneinfo.TZPATH:
        path = Path(folder, "Europe", "Berlin")
        if path.exists():
            return path
    pytest.skip("no time zone files on this host")


class TestLimits:
    @pytest.mark.parametrize(
        ("value", "length"),
        [("abcd", 4), ("äöü", 6), (b"abc", 3), ("", 0), ([1, 2, 3], 5), ((1, 2), 7), (1 << 64, 13)],
    )
    def test_bytes_of_content(self, value, length):
        stored = encode(value, length)
        assert size(stored) == length
        if length:
            with pytest.raises(ValueTooLarge, match=rf"{length} bytes is above the limit of {length - 1} "):
                encode(value, length - 1)

    @pytest.mark.parametrize(("value", "length"), [(None, 1), (True, 1), (5, 8), (1.5, 8)])
    def test_small_scalars_are_never_too_large(self, value, length):
        assert encode(value, 0) is value
        assert size(value) == length

    def test_the_error_is_a_value_error_too(self):
        with pytest.raises(ValueError, match="limit"):
            encode("abc", 2)


class TestForeignBytes:
    @given(st.binary(max_size=200), st.sampled_from([b"", b"\x01", b"\x02"]))
    def test_one_error_at_most(self, body, form):
        with suppress(EncodeError):
            decode(Packed(form + body))

    @given(VALUES, st.data())
    def test_damaged(self, value, data):
        stored = encode([value], None)
        where = data.draw(st.integers(0, len(stored) - 1))
        with_byte = stored[:where] + data.draw(st.binary(max_size=3)) + stored[where + 1 :]
        for damaged in (with_byte, stored[:where], stored + b"\x00"):
            with suppress(EncodeError):
                decode(Packed(damaged))

    @pytest.mark.parametrize(
        "written",
        [
            "",
            "01",
            "02",
            "01c1",
            "01c70001",  # an extension in the plain format
            "0101 01",  # something after the value
            "02c70001",  # a mark that ends no array
            "029201 c70001 01",  # the same
            "0292 c70001 01",  # not at the end
            "0281 c70001 01",  # as a key
            "0292 c70002 c70002",  # a mark inside the set that another ends
            "0292 90 c70002",  # a list in a set
            "0181 90 01",  # a list as a key
            "0291 c70004",  # a registered object without a name
            "0293 01 01 c70004",  # its name is no str
            "02d411 ff",  # a Decimal that is no ASCII
            "02d411 78",  # and none that is no number
            "02d412 00",  # a short datetime
            "02d613 00000000",  # the year 0
            "02c70914 ff0000 00000000 00 66",  # an hour of 255
            "02c70914 000000 00000000 00 67",  # a zone of an unknown kind
            "02c71114 000000 00000000 00 667fffffffffffffff",  # an offset of centuries
            "02c70f14 000000 00000000 00 7a2e2e2f2e2e2f78",  # a zone with a path for a name
            "02c70c15 7fffffff 00000000 00000000",  # a span of more days than there are
            "02d416 00",  # a UUID of one byte
            "02d417 00",
        ],
    )
    def test_refused(self, written):
        with pytest.raises(EncodeError):
            decode(Packed(bytes.fromhex(written)))

    @given(st.integers(3, 255), st.binary())
    def test_a_later_format_is_passed_on(self, form, body):
        stored = Packed(bytes((form,)) + body)
        read = decode(stored)
        assert read == Unknown(form, body, whole=True)
        assert encode(read, None) == stored
        assert encode(read, None).__class__ is Packed
        with pytest.raises(EncodeError, match="inside another"):
            encode([read], None)

    @given(st.integers(0, 127), st.binary(min_size=1))
    def test_a_later_extension_is_passed_on(self, code, payload):
        assume(code not in values.ATOM_READERS)
        unknown = Unknown(code, payload)
        value = {"k": [1, (unknown,)], unknown: {unknown}}
        stored = encode(value, None)
        assert decode(stored) == value
        assert encode(decode(stored), None) == stored

    @pytest.mark.parametrize("unknown", [Unknown(300, b""), Unknown(1, "text"), Unknown("n", object())])
    def test_an_unknown_that_nobody_read(self, unknown):
        with pytest.raises(EncodeError):
            encode([unknown], None)
        with pytest.raises(EncodeError):
            encode(dataclasses.replace(unknown, whole=True), None)

    def test_a_zone_that_this_host_lacks(self):
        with pytest.raises(EncodeError, match="not known on this host"):
            decode(Packed(bytes.fromhex("02c70c14 000000 00000000 00 7a") + b"X/Y"))

    @pytest.mark.parametrize("form", [b"\x01", b"\x02"])
    @pytest.mark.parametrize("length", [600, 5_000, 32_000, 250_000])
    @pytest.mark.parametrize("head", ["array16", "array32", "mixed"])
    def test_memory_before_lengths_are_checked(self, form, length, head):
        """Nested heads, each claiming as many elements as the body has bytes."""
        claim = min(length - 10, 65_000)
        heads = {"array16": b"\xdc" + claim.to_bytes(2), "array32": b"\xdd" + claim.to_bytes(4)}
        heads["mixed"] = b"\x81\x01" + heads["array16"]
        depth = min(900, length // 2 // len(heads[head]))
        body = heads[head] * depth
        body += b"\x01" * (length - len(body))
        assert reserved_for(Packed(form + body)) < 80 * length + 100_000

    @pytest.mark.parametrize("element", [b"\x90", b"\x80", b"\xa2ab", b"\x91\x90", b"\x81\xc0\xc0", b"\xd4\x11\x31"])
    def test_memory_of_what_is_really_there(self, element):
        count = 60_000 // len(element)
        stored = Packed(b"\x02\xdd" + count.to_bytes(4) + element * count)
        assert reserved_for(stored) < 110 * len(stored)

    def test_content_that_looks_like_long_arrays(self):
        noise = random.Random(1).randbytes(50_000)
        value = [noise, b"\xdd" * 30_000, list(range(3_000)), {"k": ["x" * 300] * 20}]
        assert come_back(value) == value


def reserved_for(stored: Packed) -> int:
    """The peak of bytes that decoding takes, whatever comes of it."""
    tracemalloc.start()
    try:
        with suppress(EncodeError):
            decode(stored)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_threads_do_not_share_a_packer():
    failures = []

    def work(number):
        value = {"n": number, "t": tuple(range(50)), "s": {number, "x"}}
        failures.extend(number for _ in range(300) if come_back(value) != value)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
