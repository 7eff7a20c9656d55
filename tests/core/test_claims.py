"""Claims: what beats what, completely; and how long a suspect has."""

from __future__ import annotations

from itertools import product

import pytest

from crdtcache.core.claims import Claim, Standing, Suspicion

SECOND = 1_000_000_000


def test_what_beats_what() -> None:
    """Every pair: the higher generation, then the higher incarnation; at one of both left, down, suspect, alive."""
    table = [
        (Claim(6, 0, Standing.ALIVE), Claim(5, 9, Standing.LEFT)),
        (Claim(5, 1, Standing.ALIVE), Claim(5, 0, Standing.LEFT)),
        (Claim(5, 0, Standing.LEFT), Claim(5, 0, Standing.DOWN)),
        (Claim(5, 0, Standing.DOWN), Claim(5, 0, Standing.SUSPECT)),
        (Claim(5, 0, Standing.SUSPECT), Claim(5, 0, Standing.ALIVE)),
    ]
    assert all(winner > loser for winner, loser in table)
    claims = [Claim(g, i, s) for g, i, s in product((5, 6), (0, 1, 2), Standing)]
    assert sorted(claims) == claims, "in the order of the product"
    assert [claim.gone for claim in claims[:4]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("members", "accusers", "seconds"),
    [(50, 1, 40.8), (50, 2, 23.8), (50, 3, 13.8), (50, 4, 6.8), (50, 9, 6.8), (2, 1, 24), (3, 1, 24), (3, 2, 4)],
)
def test_a_suspect_has_the_less_time_the_more_suspect_it(members: int, accusers: int, seconds: float) -> None:
    suspicion = Suspicion(members, 4_000, 10 * SECOND)
    for accuser in range(1, accusers + 1):
        suspicion.confirm(accuser)
    assert (suspicion.ends_ns - 10 * SECOND) / SECOND == pytest.approx(seconds, abs=0.1)


def test_one_accuser_counts_once() -> None:
    suspicion = Suspicion(50, 4_000, 0)
    assert suspicion.confirm(1)
    before = suspicion.ends_ns
    assert not suspicion.confirm(1)
    assert suspicion.ends_ns == before


def test_after_a_stall_the_time_begins_anew() -> None:
    suspicion = Suspicion(50, 4_000, 0)
    before = suspicion.ends_ns
    suspicion.restart(5 * SECOND)
    assert suspicion.ends_ns == before + 5 * SECOND
