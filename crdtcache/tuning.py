"""One frozen `Tuning`: each number of the protocol with its unit, its range and how to choose it.

Decision: one flat record instead of a dozen constructor arguments spread over rooms; what two numbers must
satisfy together is checked here, once, with the rule that would break.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from crdtcache.errors import ConfigError

__all__ = ["Tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The protocol's numbers; all members of a cluster should use the same. Source: DESIGN section 15.

    Times are ms, sizes bytes, unless a comment says otherwise. Raises `ConfigError` for a value out of range
    and for combinations that would break a rule.
    """

    # pushing
    frame_bytes: int = 65_536  # a frame made here; larger batches better, smaller keeps probes prompt
    max_frame_bytes: int = 262_144  # a frame accepted from a peer; at least twice frame_bytes
    graft_delay_ms: int = 100  # how long a gap may wait for its missing slice before it is pulled
    context_ms: int = 500  # between context messages; the time within which a lost push is noticed
    keepalive_ms: int = 1_000  # an idle link says so this often
    silent_ms: int = 3_000  # a link that says nothing for so long is closed; > 2 x keepalive_ms
    full_mesh: int = 64  # members that are all linked with each other; of more, only those that tell each other
    star_members: int = 24  # a region of so many is told by one member; a larger one by a tree
    fan_out: int = 8  # of that tree
    log_records: int = 131_072  # recent writes kept for slices, all origins together
    dots_per_origin: int = 4_096  # versions accounted for beyond a frontier
    # sessions
    window_entries: int = 512  # entries per window of a streamed map; the lock is held for one window
    windows_in_flight: int = 4  # unanswered windows per session
    compare_ms: int = 10_000  # between comparisons of digests with a random member of the region
    compare_remote_ms: int = 30_000  # the same with a remote one
    list_entries: int = 16  # a branch with so few entries on both sides is listed; 64 sends twice the bytes
    session_leaves: int = 512  # branches listed in one session; at least 16
    session_bytes: int = 1_048_576  # sent in one session by each side, but for what is streamed
    session_idle_ms: int = 10_000  # a session without progress for so long ends
    busy_ms: int = 1_000  # the least wait after BUSY; full jitter up to 15 x
    # data
    max_drift_ms: int = 1_000  # a stamp further ahead is parked; above the clock error of healthy hosts
    reject_ms: int = 60_000  # a stamp further ahead is rejected and its link closed
    max_frame_age_ms: int = 60_000  # an older frame is discarded; a stalled link must not replay the past
    min_dead_age_ms: int = 120_000  # a dead entry is held at least so long; > 2 x max_frame_age_ms
    gc_hold_ms: int = 3_600_000  # a member that is down keeps the dead from being collected so long
    dead_share: float = 0.10  # of the index that deleted entries may take before the oldest are forced out
    inline_bytes: int = 32_768  # a larger value is refused (until values travel in chunks)
    key_bytes: int = 1_024  # encoded
    # membership
    probe_ms: int = 1_000  # silence of a member of the own region, beyond its timeout, after which others are asked
    probe_remote_ms: int = 5_000  # the same of a member elsewhere
    probe_timeout_ms: int = 200  # at least, and 3 x the round trip
    probe_timeout_remote_ms: int = 1_000  # the same of a member elsewhere
    helpers: int = 3  # members that are asked about one that has fallen silent
    suspect_ms: int = 4_000  # how long at least a suspect has to say otherwise; x log10 of the members
    forget_ms: int = 7_776_000_000  # members that are gone, their addresses and rows, are kept so long (90 days)
    origins: int = (
        4_096  # processes accounted for; beyond it the rows of those gone first are pruned, an hour old or so
    )
    # links
    dial_timeout_ms: int = 1_000
    redial_ms: int = 1_000  # the cap of the back-off in the first redial_patience_ms
    redial_patience_ms: int = 600_000
    redial_slow_ms: int = 60_000  # the cap afterwards
    # housekeeping
    sweep_ms: int = 100  # how late an expiry event may be
    step_entries: int = 512  # entries handled per step of clearing, collecting and evicting

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            if number <= 0:
                raise ConfigError(f"tuning {field.name}={number!r}: must be positive")
        for smaller, factor, larger, why in (
            ("max_frame_age_ms", 2, "min_dead_age_ms", "a delayed frame could bring a forgotten entry back"),
            ("keepalive_ms", 2, "silent_ms", "a healthy idle link would be closed"),
            ("max_drift_ms", 1, "reject_ms", "nothing could be parked"),
            ("frame_bytes", 1, "max_frame_bytes", "peers would refuse full frames"),
            ("inline_bytes", 1, "frame_bytes", "a value would not fit a frame"),
        ):
            low, high = getattr(self, smaller), getattr(self, larger)
            if low * factor > high:
                raise ConfigError(f"tuning {larger}={high} must be at least {factor} x {smaller}={low}: {why}")
        if self.frame_bytes < 4_096:
            raise ConfigError(f"tuning frame_bytes={self.frame_bytes}: at least 4096, a key and its entry must fit")
        if self.frame_bytes < self.inline_bytes + self.key_bytes + 256:
            raise ConfigError(
                f"tuning inline_bytes={self.inline_bytes}: with its key it must fit frame_bytes={self.frame_bytes}"
            )
        if self.session_leaves < 16:
            raise ConfigError(f"tuning session_leaves={self.session_leaves}: at least 16, the children of one branch")
        if self.forget_ms < self.least_prune_ms():
            raise ConfigError(
                f"tuning forget_ms={self.forget_ms} must be at least gc_hold_ms + 2 x min_dead_age_ms = "
                f"{self.least_prune_ms()}: deletes of those who are gone would not be accounted for"
            )
        if self.dead_share >= 1:
            raise ConfigError(f"tuning dead_share={self.dead_share}: a share below 1")

    def least_prune_ms(self) -> int:
        """No row is pruned earlier: its deletes are collected by then."""
        return self.gc_hold_ms + 2 * self.min_dead_age_ms
