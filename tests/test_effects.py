"""`writes` and `invalidates`: what a function changes elsewhere is changed in the cache too, by one line above it."""

from __future__ import annotations

import asyncio
import inspect

import pytest
import trio

from crdtcache.errors import ConfigError
from crdtcache.node import Node

both_loops = pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])


class User:
    def __init__(self, number: int) -> None:
        self.id = number


@pytest.fixture
def node():
    return Node()


def test_what_a_function_returns_is_written_through(node):
    @node.writes("user:{user.id}", ttl=60)
    def save(user: User, name: str = "Ada") -> dict[str, str]:
        """Its docstring."""
        return {"name": name}

    assert save(User(7)) == {"name": "Ada"} == node["user:7"]
    assert save(User(7), name="Grace") == node["user:7"]
    assert 59 < node.ttl("user:7") <= 60
    assert (save.__name__, save.__doc__) == ("save", "Its docstring.")


def test_a_function_that_fails_writes_nothing(node):
    @node.writes("k")
    def save() -> int:
        raise OSError("the disk is full")

    node["k"] = "before"
    with pytest.raises(OSError, match="full"):
        save()
    assert node["k"] == "before"


def test_a_result_that_cannot_be_stored_deletes_what_is_old_now(node, caplog):
    @node.writes("k")
    def save() -> object:
        return object()

    node["k"] = "before"
    save()
    save()
    assert "k" not in node
    assert caplog.text.count("not cached") == 1
    assert node.stats()["unstored"] == 2


def test_invalidating_a_cached_function_a_key_and_what_a_function_says(node):
    @node.cached
    def get_user(user_id: int, lang: str = "en") -> str:
        return f"user {user_id} {lang}"

    @node.invalidates(get_user, "user:{user_id}", lambda user_id, name: ("names", name))
    def rename(user_id: int, name: str) -> None:
        assert get_user.peek(user_id)

    get_user(7)
    get_user(7, "de")
    get_user(8)
    node.update({"user:7": 1, "user:8": 1, ("names", "Ada"): 1, ("names", "Grace"): 1})
    rename(7, name="Ada")
    assert sorted(map(str, node)) == sorted(
        map(str, [get_user.key(7, "de"), get_user.key(8), "user:8", ("names", "Grace")])
    )


def test_a_function_that_fails_invalidates_all_the_same(node):
    @node.invalidates("k")
    def save() -> None:
        raise TimeoutError("committed or not, nobody knows")

    node["k"] = 1
    with pytest.raises(TimeoutError):
        save()
    assert "k" not in node


@both_loops
def test_async_functions_stay_async_and_act_when_they_are_through(node, run):
    @node.cached(key="user:{user_id}")
    async def load(user_id: int) -> str:
        return "loaded"

    @node.writes("user:{user_id}")
    async def save(user_id: int) -> str:
        assert "user:1" not in node
        return "saved"

    @node.invalidates(load)
    async def drop(user_id: int) -> str:
        assert "user:1" in node
        return "dropped"

    async def main():
        assert await save(1) == node["user:1"] == await load(1) == "saved"
        assert await drop(user_id=1) == "dropped"
        assert "user:1" not in node

    assert inspect.iscoroutinefunction(save)
    assert inspect.iscoroutinefunction(drop)
    run(main)


def test_methods(node):
    class Accounts:
        region = "eu"

        @node.cached(key="account:{self.region}:{number}")
        def find(self, number: int) -> int:
            return number

        @node.writes("account:{self.region}:{number}")
        def save(self, number: int) -> int:
            return -number

        @node.invalidates(find)
        def close(self, number: int) -> None:
            pass

    accounts = Accounts()
    assert (accounts.find(5), accounts.save(5), accounts.find(5)) == (5, -5, -5)
    accounts.close(number=5)
    assert accounts.find(5) == 5


def test_they_stand_on_one_another(node):
    @node.invalidates("list")
    @node.writes("item:{number}")
    def save(number: int) -> int:
        return number

    node["list"] = [1]
    save(2)
    assert dict(node) == {"item:2": 2}


def test_mistakes_are_told_at_the_decorator(node):
    @node.cached
    def get_user(user_id: int, lang: str = "en") -> str:
        return ""

    for decorate in (
        lambda: node.writes("user:{nobody}")(lambda x: x),
        lambda: node.writes(5)(lambda x: x),
        lambda: node.invalidates()(lambda x: x),
        lambda: node.invalidates("user:{nobody}")(lambda x: x),
        lambda: node.invalidates("k")(classmethod(lambda cls: 1)),
    ):
        with pytest.raises(ConfigError):
            decorate()
    with pytest.raises(ConfigError, match="needs user_id"):
        node.invalidates(get_user)(lambda number: number)
