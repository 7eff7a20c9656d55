"""Celery: the node runs where tasks run, and is closed before the process ends.

    cache = use(Node.from_env())

In a prefork pool that is each child, a member of its own; the parent only hands tasks on and runs none. In the other
pools it is the one process. Without this a node starts as well, by `start()`, but the last writes of a child may be
lost: Celery ends its children without running `atexit`.
"""

from __future__ import annotations

from typing import Any, TypeVar

try:
    from celery.concurrency.prefork import TaskPool as Prefork
    from celery.signals import worker_process_init, worker_process_shutdown, worker_ready, worker_shutdown
except ImportError as error:
    raise ImportError(f"crdtcache.contrib.celery needs Celery ({error}): pip install celery") from error

from crdtcache import Node

__all__ = ["use"]

N = TypeVar("N", bound=Node[Any, Any])


def use(node: N) -> N:
    """Start `node` in each process that runs tasks of this worker, and close it at its end; returns it as it is."""

    def start(**_: object) -> None:
        node.start()

    def start_beside(sender: Any, **_: object) -> None:
        if not isinstance(sender.pool, Prefork):
            node.start()

    def close(**_: object) -> None:
        node.close()

    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(close, weak=False)
    worker_ready.connect(start_beside, weak=False)
    worker_shutdown.connect(close, weak=False)
    return node
