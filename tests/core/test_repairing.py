"""Repair by hand says `ok` only where the whole maps were compared."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from crdtcache.core.clock import Reading
from crdtcache.core.sessions import Sessions
from crdtcache.repairing import Repairing
from tests.core.world import FAST, World


class At:
    """The clock of a node of a world."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def reading(self) -> Reading:
        return self.world.reading(self.name)


def differing(names: str = "ab") -> tuple[World, Repairing]:
    """All hold the same but b, which has lost a key: only a session shows it, and none is due by itself."""
    world = World(names, tuning=replace(FAST, compare_ms=3_600_000, compare_remote_ms=3_600_000))
    world.link_all()
    world.put("a", "k", "v")
    world.run(100)
    b = world["b"]
    b.map.replace("k", None, b.store.entries["k"], world.reading("b"), remote=True)
    assert not world.agree()
    return world, Repairing(world["a"], threading.RLock(), At(world, "a"), lambda: None, None)  # type: ignore[arg-type]


def go_on(world: World, repairing: Repairing, ms: int) -> bool:
    for _ in range(ms // 10):
        if repairing.step():
            return True
        world.run(10)
    return False


def test_what_only_a_session_shows_is_repaired() -> None:
    world, repairing = differing()
    assert go_on(world, repairing, 1_000)
    assert repairing.report()[:2] == (True, 1)
    assert world.agree()


def test_a_busy_peer_is_asked_again_and_others_have_their_turn_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    world, repairing = differing("abc")
    monkeypatch.setattr(Sessions, "_taken", lambda self, *_: self is world["b"]._sessions)
    assert not go_on(world, repairing, 1_000)
    assert repairing.report()[:2] == (False, 1)
    monkeypatch.undo()
    assert go_on(world, repairing, 1_000)
    assert repairing.report()[:2] == (True, 2)
    assert world["a"].digest() == world["b"].digest()


@pytest.mark.parametrize("what", ["stuck", "cleared", "linked anew"])
def test_a_session_that_came_to_nothing_is_held_again(what: str) -> None:
    world, repairing = differing()
    assert not repairing.step()
    [link] = world["a"]._links.values()
    assert link.session is not None
    if what == "stuck":
        link.session = None
    elif what == "cleared":
        world["a"].clear(world.reading("a"))
    else:
        world.cut("a", "b")
        world.link("a", "b")
    repairing.step()
    assert repairing.report()[:2] == (False, 0)
    assert go_on(world, repairing, 2_000)
    assert repairing.report()[:2] == (True, 1)
    assert world.agree()


def test_where_nobody_is_connected_nothing_was_repaired() -> None:
    world, _ = differing()
    world.cut("a", "b")
    alone = Repairing(world["a"], threading.RLock(), At(world, "a"), lambda: None, None)  # type: ignore[arg-type]
    assert alone.step()
    assert alone.report()[:2] == (False, 0)
