"""Objects that are only equal to a key (True, 1.0, a StrEnum) may find its value, and never come into the map."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import pytest

from crdtcache import KeyTypeError, Node


class Colour(StrEnum):
    RED = "red"


def test_a_lookalike_finds_what_is_in_the_old_generation_and_leaves_it_there() -> None:
    node = Node(listen=None, maxsize=4)
    for i in range(6):
        node[i] = "v"
        len(node)
    key = next(iter(node._replica.store.direct.old))
    assert node.get(float(key)) == "v"
    assert {each.__class__ for each in node} == {int}
    for i in range(10, 30):
        node[i] = "w"
    assert node.digest()
    node._replica.check()


@pytest.mark.parametrize("change", [Node.pop, Node.evict, Node.delete, Node.touch], ids=lambda act: act.__name__)
def test_what_changes_the_map_refuses_a_lookalike(change: Callable[[Node, object], object]) -> None:
    node = Node(listen=None)
    node["red"] = node[1] = "here"
    for lookalike in (Colour.RED, True, 1.0):
        with pytest.raises(KeyTypeError):
            change(node, lookalike)
    assert dict(node) == {"red": "here", 1: "here"}
