"""Fixtures of the chaos tests, and a list of the figures they measured at the end of pytest's output."""

from __future__ import annotations

import pytest

from tests.chaos.crew import FULL, Workers
from tests.chaos.network import Network, unavailable

_figures: list[str] = []


def pytest_terminal_summary(terminalreporter):
    if _figures:
        terminalreporter.section(f"chaos: {'full sizes' if FULL else 'short sizes (FULL_SIZES=1 for full ones)'}")
        for line in _figures:
            terminalreporter.write_line(line)


@pytest.fixture
def figure(request):
    """Call it with a line of text: what was measured."""
    return lambda text: _figures.append(f"{request.node.name}: {text}")


@pytest.fixture
def mode():
    """Of the nodes: "trio" or "thread"."""
    return "trio"


@pytest.fixture
async def crew(nursery, tmp_path, mode):
    """Workers on loopback."""
    workers = Workers(nursery, tmp_path, mode)
    yield workers
    await workers.close()
    print(workers.complaints())


@pytest.fixture
def network():
    """Three sites that can be cut off from each other."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    with Network("a", "b", "c") as made:
        yield made


@pytest.fixture
async def remote_crew(network, nursery, tmp_path, mode):
    """Workers at the sites of `network`."""
    workers = Workers(nursery, tmp_path, mode, network)
    yield workers
    await workers.close()
    print(workers.complaints())
