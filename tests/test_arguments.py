"""Times and sizes as users write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.arguments import byte_count, milliseconds, moment_ms


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        (1, 1_000),
        (0, 0),
        (-2, -2_000),
        (0.25, 250),
        (0.0001, 1),  # what is positive stays positive
        (1e-300, 1),
        (-1e-300, 0),
        (timedelta(microseconds=1), 1),
        (1.1, 1_100),
        (timedelta(minutes=1, microseconds=1), 60_001),
        ("90", 90_000),
        (" 0.25 ", 250),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        (" 1 H 30 M ", 5_400_000),
        ("1.5h", 5_400_000),
        ("250ms", 250),
        ("1d", 86_400_000),
        ("2w", 1_209_600_000),
    ],
)
def test_times(written, ms):
    assert milliseconds(written, "ttl") == ms


@pytest.mark.parametrize(
    "written",
    [
        "",
        "-5",
        "h",
        "1x",
        "1h-",
        "-1h",
        "1e3s",
        "1h 5",
        float("nan"),
        float("-inf"),
        1e16,
        timedelta.max,
        timedelta.min,
        "9" * 400 + "s",
    ],
)
def test_times_that_are_none(written):
    with pytest.raises(ValueError, match="ttl="):
        milliseconds(written, "ttl")


@pytest.mark.parametrize("written", [None, True, b"1h", [1]])
def test_types_that_are_no_time(written):
    with pytest.raises(TypeError, match="ttl="):
        milliseconds(written, "ttl")


@given(st.integers(-(10**9), 10**9))
def test_whole_ms_are_exact(ms):
    assert milliseconds(ms / 1_000, "ttl") == ms
    assert milliseconds(timedelta(milliseconds=ms), "ttl") == ms


def test_moments():
    assert moment_ms(datetime(2026, 1, 1, tzinfo=UTC), "at") == 1_767_225_600_000
    assert moment_ms(1_767_225_600, "at") == 1_767_225_600_000
    with pytest.raises(ValueError, match="time zone"):
        moment_ms(datetime(2026, 1, 1), "at")


@pytest.mark.parametrize(
    ("written", "count"),
    [(5, 5), ("5", 5), ("5b", 5), ("256MB", 256_000_000), ("1 GiB", 1 << 30), ("1.5kb", 1_500), ("2tib", 2 << 40)],
)
def test_sizes(written, count):
    assert byte_count(written, "max_bytes") == count


def test_a_size_beyond_all_numbers_is_no_bound():
    assert byte_count("9" * 400 + "MB", "max_bytes") == 1 << 62


@pytest.mark.parametrize(
    ("written", "error"), [("", ValueError), ("MB", ValueError), ("5XB", ValueError), (0, ValueError)]
)
def test_sizes_that_are_none(written, error):
    with pytest.raises(error, match="max_bytes="):
        byte_count(written, "max_bytes")


@pytest.mark.parametrize("written", [None, True, 1.5, b"5"])
def test_types_that_are_no_size(written):
    with pytest.raises(TypeError, match="max_bytes="):
        byte_count(written, "max_bytes")
