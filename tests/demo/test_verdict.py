"""The verdict on made-up evidence: it holds where everything holds, and each thing that can go wrong is named."""

from __future__ import annotations

import pytest

from crdtcache.demo.ledger import Ledger, honours, stamp_ms
from crdtcache.demo.verdict import Facts, decide, percentile

WALL = 1_700_000_000_000
NODES = ["eu-1", "us-1", "ap-1"]
ORIGINS = {"eu-1": 1, "us-1": 2, "ap-1": 3}


def version(ms: int, node: str) -> str:
    """As str(Version) writes it, `ms` after the start of the story."""
    return f"{(WALL + ms) << 16:016x}-{ORIGINS[node]:016x}"


WINNER = version(2_500, "ap-1")


def story() -> Facts:
    """A run without fault: ap was cut off at 2000 ms; "both" was written on both sides, "gone" deleted on one."""
    ledger = Ledger(lambda node: node == "ap-1")
    ledger.wrote("eu-1", [["kept", "set", version(1_000, "eu-1"), 0], ["gone", "set", version(1_100, "eu-1"), 0]])
    ledger.wrote("us-1", [["short", "set", version(1_200, "us-1"), WALL + 5_000]])
    ledger.saw([["kept", "set", version(1_000, "eu-1"), 0], ["gone", "set", version(1_100, "eu-1"), 0]])
    ledger.saw([["short", "set", version(1_200, "us-1"), WALL + 5_000]])
    ledger.cut_ms = WALL + 2_000
    ledger.wrote("eu-1", [["both", "set", version(2_100, "eu-1"), 0], ["gone", "deleted", version(2_200, "eu-1"), 0]])
    ledger.wrote("ap-1", [["both", "set", WINNER, 0]])
    ledger.cut_ms = None
    ledger.saw([["both", "set", WINNER, 0], ["gone", "deleted", version(2_200, "eu-1"), 0]])
    shown = {"kept": version(1_000, "eu-1"), "both": WINNER}
    return Facts(
        ledger,
        nodes=NODES,
        converged_s=dict.fromkeys(NODES, 0.5),
        owed_at_heal=3,
        settled_s=0.2,
        rejoined_s=1.5,
        rejoined_keys=2,
        victim="us-1",
        overwritten=1,
        finals={node: dict(shown) for node in NODES},
        digests=dict.fromkeys(NODES, "00c0ffee"),
        wall_ms=WALL + 9_000,
    )


def failed(facts: Facts) -> set[str]:
    return {check.name for check in decide(facts) if not check.ok}


def test_a_run_without_fault_holds():
    facts = story()
    assert failed(facts) == set()
    assert [check.name for check in decide(facts)] == [
        "cut",
        "converge",
        "conflicts",
        "deletes",
        "rejoin",
        "lost",
        "digests",
    ]


def lose_a_write(facts):
    del facts.finals["ap-1"]["kept"]


def show_an_older_write(facts):
    facts.finals["us-1"]["both"] = version(2_100, "eu-1")


def bring_a_deleted_key_back(facts):
    facts.finals["eu-1"]["gone"] = version(1_100, "eu-1")


def show_a_deleted_key_for_a_while(facts):
    facts.resurrections.append("eu-1: gone")


def end_with_two_digests(facts):
    facts.digests["ap-1"] = "0badf00d"


def miss_a_process_at_the_end(facts):
    del facts.finals["us-1"]
    del facts.digests["us-1"]


def never_settle(facts):
    facts.settled_s = None


def converge_late(facts):
    facts.converged_s["ap-1"] = 5.1


def never_converge(facts):
    facts.converged_s["eu-1"] = None


def forget_to_ask_one_whether_it_converged(facts):
    del facts.converged_s["eu-1"]


def have_nothing_to_converge_to(facts):
    facts.owed_at_heal = 0


def come_back_late(facts):
    facts.rejoined_s = 5.1


def come_back_without_everything(facts):
    facts.rejoined_s = None


def leak_through_the_cut(facts):
    facts.leaks = 1


def tell_no_loser(facts):
    facts.overwritten = 0


def have_no_conflict(facts):
    facts.ledger.sides.clear()


def delete_nothing_during_the_cut(facts):
    facts.ledger.cut_deletes.clear()


def lose_a_process(facts):
    facts.deaths.append("eu-1")


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lose_a_write, {"lost"}),
        (show_an_older_write, {"lost", "conflicts"}),
        (bring_a_deleted_key_back, {"deletes"}),
        (show_a_deleted_key_for_a_while, {"deletes"}),
        (end_with_two_digests, {"digests"}),
        (miss_a_process_at_the_end, {"digests", "lost"}),
        (never_settle, {"digests"}),
        (converge_late, {"converge"}),
        (never_converge, {"converge"}),
        (forget_to_ask_one_whether_it_converged, {"converge"}),
        (have_nothing_to_converge_to, {"converge"}),
        (come_back_late, {"rejoin"}),
        (come_back_without_everything, {"rejoin"}),
        (leak_through_the_cut, {"cut"}),
        (tell_no_loser, {"conflicts"}),
        (have_no_conflict, {"conflicts"}),
        (delete_nothing_during_the_cut, {"deletes"}),
        (lose_a_process, {"processes"}),
    ],
)
def test_what_goes_wrong_is_named(spoil, names):
    facts = story()
    spoil(facts)
    assert failed(facts) == names


def test_what_expired_is_not_lost_and_what_has_not_is():
    facts = story()
    facts.wall_ms = WALL + 3_000
    assert failed(facts) == {"lost"}


def test_a_write_that_only_the_killed_process_knew_is_not_owed_and_one_that_was_seen_is():
    facts = story()
    facts.ledger.wrote("us-1", [["alone", "set", version(3_000, "us-1"), 0]])
    assert failed(facts) == {"lost"}  # as long as it lives it still holds it
    facts.ledger.forget_own("us-1")
    assert failed(facts) == set()
    facts.ledger.saw([["alone", "set", version(3_000, "us-1"), 0]])
    assert failed(facts) == {"lost"}


def test_a_write_after_a_delete_is_owed_and_a_delete_after_a_write_too():
    facts = story()
    facts.ledger.saw([["gone", "set", version(4_000, "ap-1"), 0]])
    assert failed(facts) == {"lost", "deletes"}  # nothing deleted during the cut is left to prove
    facts = story()
    facts.ledger.saw([["kept", "deleted", version(4_000, "ap-1"), 0]])
    assert failed(facts) == {"deletes"}


def test_the_target_of_convergence_leaves_out_what_expires():
    assert story().ledger.target(NODES) == {
        "kept": (version(1_000, "eu-1"), "set"),
        "both": (WINNER, "set"),
        "gone": (version(2_200, "eu-1"), "deleted"),
    }


def test_what_was_written_or_deleted_again_need_not_be_waited_for():
    facts = story()
    target = facts.ledger.target(NODES)
    assert facts.ledger.superseded(target) == []
    facts.ledger.saw([["kept", "deleted", version(4_000, "ap-1"), 0]])
    assert facts.ledger.superseded(target) == ["kept"]


def test_only_what_was_written_while_apart_makes_a_conflict():
    ledger = Ledger(lambda node: node == "ap-1")
    ledger.cut_ms = WALL + 2_000
    ledger.wrote("eu-1", [["key", "set", version(1_999, "eu-1"), 0]])  # reported during the cut, written before it
    ledger.wrote("ap-1", [["key", "set", version(2_001, "ap-1"), 0]])
    assert ledger.conflicts() == []
    ledger.wrote("eu-1", [["key", "set", version(2_002, "eu-1"), 0]])
    assert ledger.conflicts() == ["key"]


@pytest.mark.parametrize(
    ("kind", "shown", "honoured"),
    [
        ("set", None, False),
        ("set", version(0, "eu-1"), False),
        ("set", version(1, "eu-1"), True),
        ("set", version(1, "us-1"), True),
        ("deleted", None, True),
        ("deleted", version(0, "eu-1"), False),
        ("deleted", version(1, "eu-1"), False),
        ("deleted", version(2, "eu-1"), True),
    ],
)
def test_honours(kind, shown, honoured):
    assert honours(kind, version(1, "eu-1"), shown) is honoured


def test_a_row_that_is_no_operation_is_refused():
    with pytest.raises(ValueError, match="evicted"):
        Ledger(bool).saw([["key", "evicted", version(1, "eu-1"), 0]])


def test_the_stamp_of_a_version():
    assert stamp_ms(version(7, "eu-1")) == WALL + 7


def test_percentile_is_the_nearest_rank():
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 1.0) == 100
