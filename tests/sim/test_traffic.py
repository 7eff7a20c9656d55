"""One copy of a write for each member and one across for each region, and soon; also past entry nodes that lie dead."""

from __future__ import annotations

from sim.traffic import measure, with_dead


def test_a_write_is_sent_once_to_everybody_and_is_there_after_little_more_than_the_slowest_way() -> None:
    found = measure(25, writes=100)
    assert found.copies <= 1.05
    assert found.crossings <= 1.1
    assert found.last_most <= 1.6


def test_where_the_entry_nodes_of_all_regions_are_dead_the_living_have_the_write_within_a_second() -> None:
    assert max(dead.last_ms for dead in with_dead(25)) <= 1_000
