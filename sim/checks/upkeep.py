"""What costs time and traffic where it goes wrong, and never an answer: no ping-pong, no rash verdicts, no old frames.

Apart from `safety`, because the other rules answer for what these let through: only a check of its own sees them.
"""

from __future__ import annotations

from crdtcache.core.entry import DEAD, STATE, Key
from crdtcache.core.replica import Replica
from sim.adapter import Node
from sim.checks.base import Check, Watched, text_of
from sim.checks.verdicts import Verdicts
from sim.engine import MS

__all__ = ["UPKEEP", "FrameAge", "Stalled", "StaysForgotten"]


class FrameAge(Check):
    """Design section 13: what a stalled link held back for longer than `max_frame_age` is not taken in.

    `min_dead_age` counts on it. Monotonic clocks of two machines may differ by a thousandth.
    """

    name = "age"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._limit_ms = world.plan.tuned().max_frame_age_ms

    def took(self, node: Node, age: int) -> None:
        """Against the rule itself: the context answers for nearly all that an old frame could bring back."""
        limit = self._limit_ms
        if age > limit * MS * 101 // 100 + MS:
            raise self.fail(f"took in a frame {age // MS} ms old; the limit is {limit}", node=node.index)


class Stalled(Check):
    """I12: who is healthy and reachable is not given up, only because the one that judges stood still itself."""

    name = "I12"

    def judged(self, node: Node, origin: int, reason: str, unread: int) -> None:  # noqa: ARG002
        """What waits may be the word of the accused."""
        self.gave_up(node, unread)

    def gave_up(self, node: Node, unread: int) -> None:
        """A frame that has waited for longer than a timer may be late: it was the reader that was silent.

        One that takes its time for each call is some calls behind: the alarm that judges may have been set for
        something else, which is settled by then, and is not late itself (seed 40002573).
        """
        if unread > 250 * MS + 5 * node.service_ns:
            raise self.fail(
                f"gave up as silent somebody whose frame it has not read for {unread // MS} ms", node=node.index
            )


class StaysForgotten(Check):
    """I14: no ping-pong: a dead entry that was forgotten is not stored again, or it would go round for ever (O4).

    Unless something older may have come in its place meanwhile, which it then has to remove again.
    """

    name = "I14"

    def __init__(self, world: Watched) -> None:
        super().__init__(world)
        self._dead: dict[tuple[int, int], dict[Key, tuple[int, int]]] = {}
        self._forgotten: dict[tuple[int, int, Key], tuple[tuple[int, int], int]] = {}

    def sample(self) -> None:
        """Which of the dead are new, and which are gone, since the last time."""
        for node in self.world.nodes:
            if node.replica is None:
                continue
            place, entries = (node.index, node.replica.origin), node.replica.store.entries
            before, dead = self._dead.get(place, {}), {k: e[:2] for k, e in entries.items() if e[STATE] == DEAD}
            self._dead[place] = dead
            for key in before.keys() - entries.keys():
                if self._nothing_older(node.replica, key, before[key]):
                    self._forgotten[*place, key] = before[key], self.world.now
            for key in dead.keys() - before.keys():
                version, since = self._forgotten.pop((*place, key), ((0, 0), 0))
                if version == dead[key] and not any(
                    w.version < version and w.at > since for w in self.world.oracle.writes[str(key)]
                ):
                    raise self.fail(
                        f"holds the dead {text_of(dead[key])} again, forgotten since {since // MS} ms",
                        node=node.index,
                        key=key,
                    )

    def _nothing_older(self, replica: Replica, key: Key, version: tuple[int, int]) -> bool:
        covers = replica.map.context.covers
        return all(covers(*w.version) for w in self.world.oracle.writes.get(str(key), []) if w.version <= version)


UPKEEP: tuple[type[Check], ...] = (FrameAge, Stalled, StaysForgotten, Verdicts)
