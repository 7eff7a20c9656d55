"""What this wall clock is corrected by: a clock that is wrong is not believed by its own replica either.

All clocks are compared as *lines*: wall ms minus own monotonic ms, a number that stands still while both run well.
A peer's line comes with each context message, and with it the monotonic time that the peer last heard from here: so
the round trip is known, and a message that was late counts for little instead of looking like a slow clock.

    the own line jumps           the time goes on by monotonic time until peers have confirmed the jump
    3 clocks or more, own too    off by more than max_drift / 2 from the median of what they really say: use the median
    2 clocks                     the younger generation takes over the time of the older one, as it was when they met
    they agree within half of it the correction ends

Decision: the median is of the clocks as they are, not as they are corrected. Of corrected ones a wrong time that all
have agreed on would be held for ever, and whoever came with a right clock would be talked into it. The own clock has
a vote from the third clock on (design section 11 asks for three peers): with two peers that agree, the oldest of
three replicas would otherwise take both of them along.
Decision: a correction ends at half of what begins it, or where it does not help. A clock at the threshold was corrected
and believed in turns, and each time had stamps of a future to take back (kitchen-sink, seed 20374). Of two, the older
may be corrected still by what a process before the younger one said: it follows nobody, and without its correction the
two are nearer (seed 1001730: two nodes 28 s apart for good).
Source: DESIGN section 11; the half round trip as the error of an offset is Cristian's (1989).
"""

from __future__ import annotations

from typing import NamedTuple

from crdtcache.core.clock import Reading

__all__ = ["Correction", "Line", "line_of", "plausible"]

_MS = 1_000_000
_EARLIEST_MS, _LATEST_MS = 1_600_000_000_000, 1 << 46


def line_of(wall_ms: int, mono_ns: int) -> int:
    """Where a wall clock stands against the own monotonic one, ms."""
    return wall_ms - mono_ns // _MS


def plausible(wall_ms: int) -> bool:
    """Whether a clock can be right at all: after this was written (some machines have no battery), not absurd."""
    return _EARLIEST_MS < wall_ms < _LATEST_MS


class Line(NamedTuple):
    """What is known of a peer's clock: as it is, as the peer corrects it, and how far the truth may be from that.

    `moved`: the clock itself has jumped since it is known.
    """

    plain: int
    used: int
    error_ms: int
    since_ns: int
    moved: bool = False

    def error_at(self, now_ns: int) -> int:
        """The error grows by a thousandth of the age: machines drift apart, and a fresh look should win in the end."""
        return self.error_ms + (now_ns - self.since_ns) // (1_000 * _MS)

    def followed_by(self, later: Line) -> Line:
        """The better of two looks; the later one also where they contradict each other: the clock has moved."""
        error = self.error_at(later.since_ns)
        moved = abs(later.plain - self.plain) > later.error_ms + error
        better = moved or abs(later.used - self.used) > later.error_ms + error or later.error_ms <= error
        return later._replace(moved=self.moved or moved) if better else self


class Correction:
    """`reason` says in words why the clock is suspect, "" where it is not. `holds`: there are peers to ask.

    `state` is `(line, ms)`: the own line as last seen, and what is added to whatever the wall clock says. One tuple,
    because readings are taken by many threads without a lock: each sees, and replaces, a whole one.
    """

    __slots__ = ("_half", "holds", "reason", "state")

    def __init__(self, max_drift_ms: int, reading: Reading) -> None:
        self.state = (line_of(*reading), 0)
        self.reason = ""
        self.holds = False
        self._half = max_drift_ms // 2

    @property
    def ms(self) -> int:
        """What is added to whatever the wall clock says."""
        return self.state[1]

    def now(self, reading: Reading) -> Reading:
        """The corrected reading; after a jump the time goes on by monotonic time, where there are peers to ask."""
        wall_ms, mono_ns = reading
        before, ms = self.state
        line = wall_ms - mono_ns // _MS
        if line != before:
            if self.holds and abs(line - before) > self._half:
                ms += before - line
                self.reason = f"it has jumped by {line - before:+} ms, which no peer has confirmed yet" if ms else ""
            self.state = line, ms
        return Reading(wall_ms + ms, mono_ns) if ms else reading

    def judge(self, peers: list[tuple[bool, Line]], now_ns: int) -> int:
        """Compare with the peers' clocks, each with whether it is older; by how many ms the time has moved."""
        if not peers:
            return 0
        own, before = self.state
        follows = True
        if len(peers) == 1:
            follows, peer = peers[0]
            plain, used, error = peer.plain, peer.used, peer.error_at(now_ns)
            follows = follows and not peer.moved  # a jump that nobody confirms, of whoever's clock it is
        else:
            lines = sorted([(own, 0), *((peer.plain, peer.error_at(now_ns)) for _, peer in peers)])
            plain, error = lines[(len(lines) - 1) // 2]
            used = plain
        ms = before
        if abs(own - plain) > self._half + error:
            whose = f"the median of {len(peers) + 1} clocks" if len(peers) > 1 else "its only peer's"
            self.reason = f"it is {own - plain:+} ms off {whose}"
            if follows and abs(own + before - used) > self._half + error:
                ms = used - own
            elif not follows and 2 * abs(own - plain) < abs(own + before - plain):
                ms = 0
        elif error <= self._half and abs(own - plain) <= max(self._half // 2, abs(own + before - plain)):
            ms, self.reason = 0, ""
        self.state = own, ms
        return ms - before
