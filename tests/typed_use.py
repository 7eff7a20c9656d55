"""What a user writes, for the type checker: `test_node_typing` checks this file, nobody runs it.

A line that must be refused carries an ignore; mypy tells when it is not needed.
"""

from __future__ import annotations

from typing import Any, assert_type

from crdtcache import MISSING, Event, Namespace, Node, RepairReport, Version
from crdtcache.testing import LocalCluster

untyped = Node(["10.0.0.1"], ttl="5m")
assert_type(untyped, Node[Any, Any])
untyped["a"] = 1
untyped[1] = [2]

cache: Node[str, int] = Node()
assert_type(cache.get("a"), int | None)
assert_type(cache.get("a", 0), int)
assert_type(cache["a"], int)
assert_type(cache.set("a", 1, ttl=5), Version | None)
assert_type(cache.get_many(["a"]), dict[str, int])
assert_type(cache.pop("a", None), int | None)
assert_type(dict(cache.items()), dict[str, int])
assert_type([key for key in cache], list[str])  # noqa: C416
assert_type(cache.start(), Node[str, int])
cache["a"] = "text"  # type: ignore[assignment]
cache.set(5, 1)  # type: ignore[arg-type]
if (value := cache.get("a", MISSING)) is not MISSING:
    assert_type(value, int)

with cache as entered:
    assert_type(entered, Node[str, int])


@cache.cached
def area(width: int, height: float = 1.0) -> float:
    return width * height


assert_type(area(1, height=2), float)
area("x")  # type: ignore[arg-type]
area(1, depth=2)  # type: ignore[call-arg]
area.invalidate(1)
area.invalidate("x")  # type: ignore[arg-type]
assert_type(area.refresh(1), float)
assert_type(area.put(2.0, 1, height=3.0), Version)
assert_type(area.__wrapped__(1), float)


@cache.cached(ttl="5m", key="user:{user_id}", ignore=["db"])
async def load(user_id: int, db: object) -> dict[str, int]:
    return {"id": user_id}


async def use() -> None:
    async with cache as entered:
        assert_type(entered, Node[str, int])
        assert_type(await load(1, None), dict[str, int])
        assert_type(await load.refresh(1, None), dict[str, int])
        await load("1", None)  # type: ignore[arg-type]
        assert_type(await cache.aready(), bool)


class Repository:
    @cache.cached
    def find(self, number: int) -> str:
        return str(number)

    @cache.cached()
    async def fetch(self, number: int) -> str:
        return str(number)


assert_type(Repository().find(5), str)
Repository().find("5")  # type: ignore[arg-type]
Repository().find.invalidate(5)
Repository().find.invalidate("5")  # type: ignore[arg-type]


async def use_methods() -> None:
    assert_type(await Repository().fetch(5), str)
    assert_type(await Repository().fetch.refresh(5), str)


assert_type(cache.get_or_set("a", 5), int)
assert_type(cache.get_or_set("a", lambda: 5, ttl=5), int)
assert_type(cache.get_or_set("a"), int)
cache.get_or_set("a", "text")  # type: ignore[arg-type]
cache.get_or_set("a", lambda: "text")  # type: ignore[arg-type,return-value]


@cache.cached(ttl=60, cache_if=bool, negative_ttl=5, stale_ttl="10s")
def kept(number: int) -> str | None:
    return None


assert_type(kept(5), str | None)


@cache.writes("user:{user_id}", ttl=5)
def rename(user_id: int, name: str) -> int:
    return user_id


assert_type(rename(1, "Ada"), int)
rename("1", "Ada")  # type: ignore[arg-type]


@cache.invalidates(load, "user:{user_id}")
async def forget(user_id: int, db: object) -> str:
    return "gone"


async def use_effects() -> None:
    async def answer() -> int:
        return 42

    assert_type(await forget(1, None), str)
    await forget("1", None)  # type: ignore[arg-type]
    assert_type(await cache.aget_or_set("a", answer), int)
    assert_type(await cache.aget_or_set("a", 5), int)


def user_key(user_id: int, name: str) -> str:
    return f"user:{user_id}"


@cache.writes(user_key)
async def arename(user_id: int, name: str) -> int:
    return user_id


@cache.invalidates(load)
def drop(user_id: int) -> None: ...


drop("1")  # type: ignore[arg-type]


class Accounts:
    @cache.invalidates("account:{number}")
    def close(self, number: int) -> bool:
        return True

    @cache.invalidates("account:{number}")
    async def aclose(self, number: int) -> bool:
        return True

    @cache.writes("account:{number}")
    def open(self, number: int) -> str:
        return "new"

    @cache.writes("account:{number}")
    async def aopen(self, number: int) -> str:
        return "new"

    @staticmethod
    @cache.cached
    def fee(country: str) -> float:
        return 0.0


assert_type(Accounts().close(5), bool)
Accounts().close("5")  # type: ignore[arg-type]
assert_type(Accounts().open(5), str)
Accounts().open("5")  # type: ignore[arg-type]
assert_type(Accounts.fee("de"), float)
Accounts.fee(5)  # type: ignore[arg-type]


async def use_more_effects() -> None:
    assert_type(await arename(1, "Ada"), int)
    await arename("1", "Ada")  # type: ignore[arg-type]
    assert_type(await Accounts().aclose(5), bool)
    await Accounts().aclose("5")  # type: ignore[arg-type]
    assert_type(await Accounts().aopen(5), str)
    await Accounts().aopen("5")  # type: ignore[arg-type]


with LocalCluster(2, regions=["eu", "us"], ttl="1h") as cluster:
    first, second = cluster
    assert_type(first, Node[Any, Any])
    cluster.cut(first, "us")
    cluster.heal("us", 0)
    assert_type(cluster.converged(timeout="5s"), bool)


async def use_watch() -> None:
    with cache.watch("set", prefix="a") as watch:
        async for event in watch:
            assert_type(event, Event)
    assert_type(await cache.arepair("b"), RepairReport)


for event in cache.watch("deleted"):
    assert_type(event, Event)
users: Namespace[int, str] = cache.namespace("user", ttl="1h")
assert_type(users[5], str)
users["5"] = "Ada"  # type: ignore[index]
assert_type(cache.inspect("a"), str)
assert_type(cache.repair().ok, bool)
assert_type(Node.from_env(), Node[Any, Any])


class Json:
    tag = 200

    def encode(self, value: object) -> bytes:
        return b""

    def decode(self, data: bytes) -> object:
        return None


Node(codec=Json())
Node(codec=5)  # type: ignore[arg-type]
Node(loader=lambda key: 5)
cache.on("set", prefix="a", call=lambda event: print(event.key, event.value))
cache.on("sett")  # type: ignore[arg-type]
