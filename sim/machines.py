"""What a node is given by the plan: its place, its clock, its memory; and the names that follow from its number.

Decision: apart from `adapter`, because a plan is made and read by code that runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.rand import Luck

__all__ = ["Machine", "address_of", "of_next_version", "origin_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a node is given: written in the plan."""

    index: int
    region: int = 0
    region_name: str = "r0"
    seeds: tuple[int, ...] = ()
    offset_ms: int = 0
    drift_ppm: int = 0
    maxsize: int | None = None
    max_bytes: int | None = None
    listening: bool = True
    start_ms: int = 0
    stubborn: bool = False  # its processes believe their own clock, whatever their peers say
    wire_next: bool = False  # speaks the synthetic next wire version


def of_next_version(frame: bytes) -> bytes:
    """The frame with a message more, of a type that nobody knows: what a newer version may send."""
    count = frame[0] & 0x0F if frame[0] >> 4 == 9 else 0
    return bytes((frame[0] + 1,)) + frame[1:] + b"\x93\x63\xa3new\x07" if 0 < count < 15 else frame


def address_of(index: int) -> str:
    """Where node `index` listens."""
    return f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}:2738"


def origin_of(luck: Luck, index: int, process: int) -> int:
    """The origin of a process: 64 bits, never 0."""
    return luck.number(7, index, process) | 1
