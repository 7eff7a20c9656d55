"""What a node costs where it runs: bytes per key, per ghost and per peer, and what so many workers in one pod cost.

`python -m tests.bench.capacity [WORKERS]`, 48 where left out. Workers are started in both ways that servers have: each
by itself, and forked from a process that had filled the cache. Each is a full replica with a link to every other;
"of its own" is what `smaps_rollup` counts as private to a process. Linux.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from crdtcache import Node
from tests.bench.memory import resident_bytes

ENTRIES = 200_000
WARM = 10_000
FEW = 4  # workers; more of them are compared with these
IDLE_S = 20
PATIENCE_S = 60
VALUE_BYTES = 100


def pairs(entries: int) -> list[tuple[str, bytes]]:
    """Keys of 13 bytes with values of `VALUE_BYTES`."""
    rng = random.Random(4)
    return [(f"user:{number:08d}", rng.randbytes(VALUE_BYTES)) for number in range(entries)]


def entry_bytes(maxsize: int | None) -> float:
    """Growth of this process per entry that a peer fills it with: key, value and account, or without the value."""
    node: Node[str, bytes] = Node(listen="127.0.0.1:0", maxsize=maxsize, max_bytes=None).start()
    donor = [sys.executable, "-m", "tests.bench.capacity", "--donor", node.status()["address"]]
    with subprocess.Popen(donor, stdin=subprocess.PIPE) as filling:
        gc.collect()
        before = resident_bytes()
        while node.stats()["visible"] < ENTRIES + 1:
            time.sleep(0.1)
        time.sleep(2)
        gc.collect()
        grown = resident_bytes() - before
        filling.communicate()
    node.close()
    return grown / ENTRIES


def cost(pids: list[int]) -> tuple[float, float, float, float]:
    """(median resident MB, median MB of its own, all of them together in MB, seconds of CPU of all together)."""
    resident, own, proportional, cpu = [], [], 0, 0.0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        resident.append(kb["Rss"] / 1024)
        own.append((kb["Private_Clean"] + kb["Private_Dirty"]) / 1024)
        proportional += kb["Pss"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return median(resident), median(own), proportional / 1024, cpu


def live(node: Node[Any, Any], others: int) -> None:
    """What a worker does: join, say what it took until it was linked to all others, sit until it is told to end."""
    began, used = time.monotonic(), time.process_time()
    node.get("end")  # the first use: in a fork it runs from here on
    leader = os.getppid()
    told = False
    while "end" not in node and os.getppid() == leader:
        if not told and sum(peer.connected for peer in node.peers) >= others:
            node[("linked", os.getpid())] = [time.monotonic() - began, time.process_time() - used]
            told = True
        time.sleep(0.2)
    node.close()


def workers(count: int, *, forked: bool) -> dict[str, float]:
    """The costs of so many workers that hold `WARM` keys and have nothing to do."""
    node: Node[Any, Any] = Node(listen="127.0.0.1:0", name="first").start()
    node.update(pairs(WARM))
    address = node.status()["address"]
    started, pids = [], []
    for _ in range(count - 1):
        if forked:
            pid = os.fork()
            if not pid:
                live(node, count - 1)
                os._exit(0)
        else:
            command = [sys.executable, "-m", "tests.bench.capacity", "--worker", address, str(count)]
            started.append(subprocess.Popen(command))
            pid = started[-1].pid
        pids.append(pid)
    end = time.monotonic() + PATIENCE_S
    while len(linked := [node[key] for key in list(node) if key[0] == "linked"]) < count - 1:
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    time.sleep(5)
    resident, own, together, before = cost(pids)
    time.sleep(IDLE_S)
    used = cost(pids)[3] - before
    node["end"] = True
    for process in started:
        process.wait()
    if forked:
        for pid in pids:
            os.waitpid(pid, 0)
    node.close()
    figures = {
        "linked to all": len(linked),
        "within, s": max((took for took, _ in linked), default=0),
        "for that CPU, s each": median([cpu for _, cpu in linked] or [0]),
        "resident, MB": resident,
        "of its own, MB": own,
    }
    return figures | {"all together, MB": together, "idle CPU, % of a core each": 100 * used / IDLE_S / len(pids)}


def measured(*arguments: str) -> float | dict[str, float]:
    """What this file prints with these arguments, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.capacity", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.capacity", description="what keys, peers, workers cost"
    )
    parser.add_argument("workers", nargs="?", type=int, default=48)
    parser.add_argument("--entry", choices=("live", "ghost"), help=argparse.SUPPRESS)
    parser.add_argument("--pod", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--donor", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.workers <= FEW:
        parser.error(f"{FEW} and more workers are compared, so at least {FEW + 1}")
    if chosen.entry:
        print(json.dumps(entry_bytes(None if chosen.entry == "live" else 1_000)))
    elif chosen.donor:
        with Node(chosen.donor, listen=None, maxsize=None, max_bytes=None) as donor:
            donor.update(pairs(ENTRIES))
            donor["all"] = True
            sys.stdin.read()
    elif chosen.worker:
        node: Node[Any, Any] = Node(chosen.worker[0], listen="127.0.0.1:0").start()
        live(node, int(chosen.worker[1]) - 1)
    elif chosen.pod:
        print(json.dumps(workers(int(chosen.pod[1]), forked=chosen.pod[0] == "forked")))
    else:
        print("two and a half minutes, more with many workers; each figure is told when it is there", flush=True)
        content = 13 + VALUE_BYTES
        print(f"a key of 13 bytes with a value of {VALUE_BYTES}: {measured('--entry', 'live'):.0f} bytes", flush=True)
        print(f"the same as a ghost: {measured('--entry', 'ghost'):.0f} bytes (content {content})", flush=True)
        few = {}
        for kind in ("alone", "forked"):
            for count in (FEW, chosen.workers):
                figures = measured("--pod", kind, str(count))
                assert isinstance(figures, dict)
                few.setdefault(kind, figures)
                print(
                    f"{count} workers {kind}: " + ", ".join(f"{name} {x:.1f}" for name, x in figures.items()),
                    flush=True,
                )
            peer = (figures["of its own, MB"] - few[kind]["of its own, MB"]) * 1024 / (chosen.workers - FEW)
            print(f"a peer, {kind}: {peer:.0f} kB at each worker")


if __name__ == "__main__":
    main()
