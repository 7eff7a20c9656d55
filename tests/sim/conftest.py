"""Runs by the hundred begin with the first test of this room, on processes of their own: they are asked for later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.many import Many, handed_out, two_processes


@pytest.fixture(scope="session")
def many() -> Iterator[Many]:
    executor = two_processes()
    try:
        yield handed_out(executor)
    finally:
        executor.shutdown(cancel_futures=True)


@pytest.fixture(scope="session", autouse=True)
def _begun(request) -> None:
    if any("many" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("many")
