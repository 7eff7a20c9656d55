"""What a fork does to a node: the child is a new member, with the same values and none of the sockets.

A forked child has its parent's memory and no thread but the one that forked. Whatever another thread was in the
middle of stays so for ever, so every node is held still while the fork takes place. In the child it gets a new
origin (two processes that stamp writes as one would each lose some), its copies of the sockets are closed without a
word to those at the other end, and a node that ran in a thread runs again from the first use on: `gunicorn
--preload` and Celery fork first and serve later, and a child that execs something else shall not open a port.

Decision: one hook for all nodes of the process, registered when the first one is made. The refused alternative, to
compare process ids at each call, costs every lookup and cannot free a lock that a lost thread holds.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

__all__ = ["watch_forks"]


class Forked(Protocol):
    """A node, as far as a fork concerns it."""

    def still(self) -> AbstractContextManager[object]:
        """Nothing changes while this is entered, nor is it half changed."""
        ...

    def after_fork(self) -> None:
        """In the child."""
        ...


_nodes: weakref.WeakSet[Any] = weakref.WeakSet()
_entered: list[tuple[Forked, AbstractContextManager[object]]] = []
_registered: list[Callable[..., None]] = []


def watch_forks(node: Forked) -> None:
    """Take care of `node` from now on, for as long as anybody has it."""
    _nodes.add(node)
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
        _registered.append(_before)


def _before() -> None:
    for node in list(_nodes):
        stillness = node.still()
        stillness.__enter__()
        _entered.append((node, stillness))


def _after() -> None:
    while _entered:
        _entered.pop()[1].__exit__(None, None, None)


def _after_in_child() -> None:
    nodes = [node for node, _ in _entered]
    _after()
    for node in nodes:
        node.after_fork()
