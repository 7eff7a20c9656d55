"""The pytest fixtures `local_cluster` and `fake_clock`; pytest finds them by itself where crdtcache is installed.

Decision: a factory, because a test says how many nodes and regions it is about; what it made ends with the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from crdtcache.testing import FakeClock, LocalCluster

__all__ = ["fake_clock", "local_cluster"]


@pytest.fixture
def local_cluster() -> Iterator[Callable[..., LocalCluster]]:
    """`local_cluster(3, regions=["eu", "us"])`: a `crdtcache.testing.LocalCluster` that has started."""
    from crdtcache.testing import LocalCluster

    with ExitStack() as stack:
        yield lambda *n, **arguments: stack.enter_context(LocalCluster(*n, **arguments))


@pytest.fixture
def fake_clock() -> FakeClock:
    """A `crdtcache.testing.FakeClock`, for `Node(clock=fake_clock)`."""
    from crdtcache.testing import FakeClock

    return FakeClock()
