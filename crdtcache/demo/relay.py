"""The network between the demo's processes, itself a process: `crdtcache.relay`, led by the conductor's commands."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import trio

from crdtcache.demo.lines import commands, run_child, say
from crdtcache.relay import Relay

__all__ = ["main"]


async def _run() -> None:
    targets: dict[str, tuple[str, int]] = {}
    delays: dict[tuple[str, str], float] = {}
    async with trio.open_nursery() as nursery:
        relay: Relay | None = None
        async for command in commands():
            answer: dict[str, Any] = {"id": command["id"]}
            match command["do"]:
                case "open":
                    delays.update({(source, target): ms / 1000 for source, target, ms in command["delays"]})
                    relay = Relay(
                        command["services"],
                        field="region",
                        target=targets.get,
                        delay=lambda source, target: delays.get((source, target), 0.0),
                    )
                    answer["ports"] = await relay.listen(nursery)
                    nursery.start_soon(_report, relay)
                case "target" if relay is not None:
                    targets[command["node"]] = ("127.0.0.1", command["port"])
                case "gone" if relay is not None:
                    targets.pop(command["node"], None)
                case "cut" if relay is not None:
                    cut = relay.cut(partial(_leaves, command["region"]))
                    answer["reset"], answer["dropped_bytes"] = cut
                case "heal" if relay is not None:
                    relay.heal()
                case other:
                    raise ValueError(f"relay: no command {other!r} now")
            answer["at"] = time.monotonic()
            say(answer)
        nursery.cancel_scope.cancel()


def _leaves(region: str, source: str, target: str) -> bool:
    return (source == region) != (target == region)


async def _report(relay: Relay) -> None:
    while True:
        await trio.sleep(0.25)
        say({"say": "status", "counts": relay.status()})


def main() -> int:
    """The relay process; ends when the conductor closes its stdin or is gone."""
    return run_child(_run)
