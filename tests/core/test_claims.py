"""Claims: what beats what, completely; and how long a suspect has."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtcache.core.claims import ALIVE, Claim, Standing, Suspicion

SECOND = 1_000_000_000


def test_what_beats_what() -> None:
    """Every pair: the higher incarnation; at one incarnation left, down, suspect, alive."""
    table = [
        (Claim(1, Standing.ALIVE), Claim(0, Standing.LEFT)),
        (Claim(0, Standing.LEFT), Claim(0, Standing.DOWN)),
        (Claim(0, Standing.DOWN), Claim(0, Standing.SUSPECT)),
        (Claim(0, Standing.SUSPECT), Claim(0, Standing.ALIVE)),
    ]
    assert all(winner > loser for winner, loser in table)
    claims = [Claim(i, s) for i, s in product((0, 1, 2), Standing)]
    assert sorted(claims) == claims, "in the order of the product: incarnation first"
    assert [claim.reachable for claim in claims[:4]] == [True, True, False, False]


@given(st.lists(st.builds(Claim, st.integers(0, 3), st.sampled_from(Standing)), min_size=1))
def test_members_that_heard_the_same_claims_in_any_order_believe_the_same(claims: list[Claim]) -> None:
    believed = ALIVE
    for claim in claims:
        believed = max(believed, claim)
    assert believed == max([ALIVE, *claims])


@pytest.mark.parametrize(
    ("members", "accusers", "seconds"),
    [(50, 1, 40.8), (50, 2, 23.8), (50, 3, 13.8), (50, 4, 6.8), (50, 9, 6.8), (2, 1, 24), (3, 1, 24), (3, 2, 4)],
)
def test_a_suspect_has_the_less_time_the_more_suspect_it(members: int, accusers: int, seconds: float) -> None:
    suspicion = Suspicion(Claim(0, Standing.SUSPECT), members, 4_000, 10 * SECOND)
    for accuser in range(1, accusers + 1):
        suspicion.confirm(accuser)
    assert (suspicion.ends_ns - 10 * SECOND) / SECOND == pytest.approx(seconds, abs=0.1)


def test_one_accuser_counts_once() -> None:
    suspicion = Suspicion(Claim(0, Standing.SUSPECT), 50, 4_000, 0)
    assert suspicion.confirm(1)
    before = suspicion.ends_ns
    assert not suspicion.confirm(1)
    assert suspicion.ends_ns == before


def test_after_a_stall_the_time_begins_anew() -> None:
    suspicion = Suspicion(Claim(0, Standing.SUSPECT), 50, 4_000, 0)
    before = suspicion.ends_ns
    suspicion.restart(5 * SECOND)
    assert suspicion.ends_ns == before + 5 * SECOND
