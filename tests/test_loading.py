"""Cached functions: keys, the handle, methods, and results that must not bury a newer write."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest
import trio

from crdtcache.arguments import MISSING
from crdtcache.errors import ConfigError, EncodeError, KeyTypeError, ValueTooLarge, WouldBlock
from crdtcache.node import Node
from crdtcache.values import register
from tests.node_clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def node(clock):
    return Node(clock=clock)


@pytest.fixture
def runs():
    return []


# ---- calling ----


def test_the_function_runs_once_per_arguments(node, runs):
    @node.cached
    def area(width: int, height: int = 2) -> int:
        """Its docstring."""
        runs.append((width, height))
        return width * height

    assert [area(3), area(3, 2), area(width=3), area(height=2, width=3), area(4)] == [6, 6, 6, 6, 8]
    assert runs == [(3, 2), (4, 2)]
    assert (area.__name__, area.__doc__, area.__wrapped__(1)) == ("area", "Its docstring.", 2)
    assert repr(area).endswith("area>")
    with pytest.raises(TypeError, match="width"):
        area()


def test_results_are_copies_and_none_is_a_result(node, runs):
    @node.cached
    def load(x: int) -> list[int] | None:
        runs.append(x)
        return [x] if x else None

    load(1).append(2)
    assert load(1) == [1]
    assert (load(0), load(0)) == (None, None)
    assert runs == [1, 0]


def test_exceptions_are_not_cached(node, runs):
    @node.cached
    def load() -> int:
        runs.append(1)
        raise LookupError("no")

    for _ in range(2):
        with pytest.raises(LookupError, match="no"):
            load()
    assert len(runs) == 2
    assert len(node) == 0


def test_ttl(node, clock, runs):
    @node.cached(ttl="10s")
    def load(x: int) -> int:
        runs.append(x)
        return x

    load(1)
    assert node.ttl(load.key(1)) == 10
    clock.tick(10)
    load(1)
    assert runs == [1, 1]


def test_the_handle(node, runs):
    @node.cached(key="square:{x}")
    def square(x: int) -> int:
        runs.append(x)
        return x * x

    assert square.key(3) == "square:3"
    assert square.peek(3) is MISSING
    assert square.invalidate(3) is False
    assert square(3) == square.peek(3) == node["square:3"] == 9
    assert square.refresh(3) == 9
    assert square.put(81, 3) == node.version("square:3")
    assert square(3) == 81
    assert square.invalidate(x=3) is True
    assert square(3) == 9
    assert runs == [3, 3, 3]
    info = square.cache_info()
    assert (info.hits, info.misses, info.maxsize, info.currsize) == (1, 2, 100_000, 1)
    node["other"] = 1
    square.cache_clear()
    assert dict(node) == {"other": 1}
    assert square.cache_info()[:2] == (0, 0)


# ---- keys ----


def test_keys_tell_types_apart(node):
    @node.cached
    def f(x: object) -> str:
        return type(x).__name__

    values = [1, True, 1.0, "1", b"1", None, (1,), [1], {"a": 1}, 2**70, Decimal(1), UUID(int=1), ("1",), "None"]
    assert [f(value) for value in values] == [type(value).__name__ for value in values]
    assert len({f.key(value) for value in values}) == len(values)
    assert [f(value) for value in values] == [type(value).__name__ for value in values]


def test_default_keys_hold_name_arguments_and_version(node):
    def f(x: int, *rest: str, flag: bool = False, **more: int) -> int:
        return x

    plain, later = node.cached(f), node.cached(version=2)(f)
    name = f"{f.__module__}.{f.__qualname__}"
    assert plain.key(1)[:2] == (name, 1)
    assert later.key(1)[0] == name + "@2"
    assert plain.key(1, a=1, b=2) == plain.key(1, b=2, a=1) != plain.key(1, a=2, b=1)
    assert plain.key(1, "a") != plain.key(1, "b") != plain.key(1, flag=True)


def test_long_arguments_make_short_keys(node):
    @node.cached
    def f(text: str) -> int:
        return len(text)

    assert f("x" * 5_000) == 5_000
    assert f.key("x" * 5_000) != f.key("x" * 5_001)
    assert len(str(f.key("x" * 5_000))) < 400
    f.cache_clear()
    assert len(node) == 0


def test_ignored_parameters(node, runs):
    @node.cached(ignore=["db"])
    def f(x: int, db: object) -> int:
        runs.append(x)
        return x

    f(1, object())
    f(1, db=object())
    assert runs == [1]


def test_an_argument_without_encoding_is_named(node):
    @node.cached
    def f(x: int, db: object) -> int:
        return x

    with pytest.raises(TypeError, match=r"argument db .*ignore=\['db'\]"):
        f(1, object())


@dataclass
class User:
    id: int
    tags: list


def test_templates(node):
    @node.cached(key="user:{user.id}:{page:03d}:{lang!r}", version=3)
    def f(user: User, page: int = 1, lang: str = "en") -> int:
        return user.id

    assert f.key(User(7, [])) == "user:7:001:'en'@3"
    f(User(7, []))
    node["user:7:001:'en'"] = "of another version"
    f.cache_clear()
    assert list(node) == ["user:7:001:'en'"]


def test_a_template_takes_no_object_whose_text_is_an_address(node):
    @node.cached(key="user:{user}")
    def f(user: object) -> int:
        return 1

    with pytest.raises(TypeError, match=r"\{user\} is a User"):
        f(User(1, []))


def test_key_functions(node, runs):
    @node.cached(key=lambda user, **_: ("user", user.id), version=1)
    def f(user: User, deep: bool = False) -> int:
        runs.append(user.id)
        return user.id

    f(User(1, [1]))
    f(User(1, [2]), deep=True)
    assert runs == [1]
    assert f.key(User(1, [])) == (("user", 1), "@1")
    assert f.cache_info().currsize == 1
    with pytest.raises(TypeError, match="invalidate"):
        f.cache_clear()


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": "user:{nobody}"},
        {"key": "user:{}"},
        {"key": "user:{0}"},
        {"key": "user:{x"},
        {"key": 5},
        {"ignore": ["nobody"]},
        {"ignore": "x"},
        {"ttl": 0},
    ],
)
def test_mistakes_are_told_at_the_decorator(node, arguments):
    with pytest.raises(ConfigError):
        node.cached(**arguments)(lambda x: x)


def test_what_cannot_be_cached(node):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    for thing in (generator, async_generator, 5, classmethod(lambda cls: 1), staticmethod(lambda: 1)):
        with pytest.raises(ConfigError):
            node.cached()(thing)


# ---- methods ----


def test_of_an_object_nobody_knows_what_tells_it_from_another(node):
    class Repository:
        @node.cached
        def load(self, x: int) -> int:
            return x

    with pytest.raises(TypeError, match=r"the argument self of .*ignore=\['self'\] where all.*__cache_key__.*key="):
        Repository().load(5)


def test_methods_of_objects_that_share_their_results(node, runs):
    class Repository:
        @node.cached(ttl=60, ignore=["self"])
        def load(self, x: int) -> int:
            runs.append(x)
            return x

        @staticmethod
        @node.cached
        def double(x: int) -> int:
            runs.append(("static", x))
            return 2 * x

        @classmethod
        @node.cached
        def create(cls, x: int) -> str:
            runs.append((cls.__name__, x))
            return cls.__name__

    class Child(Repository):
        pass

    one, two = Repository(), Repository()
    assert one.load(5) == two.load(x=5) == Repository.load(one, 5) == 5
    assert one.load.key(5) == two.load.key(5)
    assert one.load.peek(5) == 5
    assert two.load.invalidate(5) is True
    assert one.load.put(6, 5)
    assert (one.load(5), one.load.refresh(5), one.load(5)) == (6, 5, 5)
    assert Repository.load.cache_info().hits == 4
    assert (one.double(2), Repository.double(2)) == (4, 4)
    assert [Repository.create(1), Child.create(1), Child().create(1)] == ["Repository", "Child", "Child"]
    assert runs == [5, 5, ("static", 2), ("Repository", 1), ("Child", 1)]


def test_methods_with_a_cache_key_of_their_own(node, runs):
    class Tenant:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @node.cached
        def load(self, x: int) -> str:
            runs.append(self.name)
            return self.name

    assert [Tenant(name).load(1) for name in ("a", "b", "a")] == ["a", "b", "a"]
    assert runs == ["a", "b"]

    @node.cached
    def look(tenant: Tenant) -> str:
        return tenant.name

    assert [look(Tenant(name)) for name in ("a", "b", "a")] == ["a", "b", "a"]


def test_methods_of_a_registered_class(node):
    @dataclass
    class Point:
        x: int

        @node.cached
        def twice(self) -> int:
            return 2 * self.x

    register(Point, name="tests.test_loading.Point")
    assert [Point(x).twice() for x in (1, 2, 1)] == [2, 4, 2]
    assert Point(1).twice.key() != Point(2).twice.key()


of_a_module = Node()


@of_a_module.cached(ignore=["factor"])
def multiply(x: int, factor: int = 2) -> int:
    return x * factor


@dataclass
class Tenant:
    name: str

    @of_a_module.cached(key="{self.name}{x}")
    def load(self, x: int) -> str:
        return self.name + str(x)


def test_a_cached_function_is_pickled_by_name_as_a_plain_one_is():
    assert pickle.loads(pickle.dumps(multiply)) is multiply
    assert copy.copy(multiply) is multiply
    assert pickle.loads(pickle.dumps(Tenant("a").load))(1) == "a1"


def test_a_function_that_a_class_borrows_keeps_its_keys(node):
    @node.cached
    def load(x: int) -> int:
        return x

    class Borrower:
        loaded_by = load

    assert [load(1), load(2)] == [1, 2]


def test_methods_with_templates_see_the_object(node):
    class Shop:
        id = 4

        @node.cached(key="shop:{self.id}:{x}")
        def load(self, x: int) -> int:
            return x

    assert Shop().load.key(2) == "shop:4:2"


# ---- results and writes that meet ----


def test_a_result_does_not_outlive_an_invalidation(node, runs):
    @node.cached(key="k")
    def load() -> str:
        runs.append(1)
        if len(runs) == 1:
            load.invalidate()  # somebody else, while this one reads
        return f"run {len(runs)}"

    assert load() == "run 1"
    assert load.peek() is MISSING
    assert load() == load() == "run 2"


def test_a_result_does_not_outlive_a_clear(node, runs):
    @node.cached(key="{user}")
    def load(user: str) -> str:
        runs.append(1)
        if len(runs) == 1:
            node.clear()
        return f"run {len(runs)}"

    node["ada"] = "old"
    for user in "ada", "bob":
        node.set_many({f"other{i}": i for i in range(2_000)})  # a clear takes more than one step
        runs.clear()
        assert load.refresh(user) == "run 1"
        assert load.peek(user) is MISSING
        assert load(user) == load(user) == "run 2"


def test_a_result_does_not_outlive_a_clear_of_its_function(node, runs):
    @node.cached
    def load(user: str) -> str:
        runs.append(1)
        if len(runs) == 1:
            load.cache_clear()
        return f"run {len(runs)}"

    assert load("ada") == "run 1"
    assert load.peek("ada") is MISSING
    assert load("ada") == load("ada") == "run 2"


def test_a_result_does_not_bury_a_newer_write(node):
    @node.cached(key="k")
    def load() -> str:
        node["k"] = "written meanwhile"
        return "read before"

    assert load() == "read before"
    assert load() == node["k"] == "written meanwhile"


def test_an_expiry_meanwhile_is_no_write(node, clock):
    node.set("k", "old", ttl=1)

    @node.cached(key="k")
    def load() -> str:
        clock.tick(5)
        node.check_expiry()
        return "new"

    clock.tick(1)
    load()
    assert load.peek() == "new"


@pytest.mark.parametrize(
    ("result", "error"), [(object(), EncodeError), ("x" * 100_000, ValueTooLarge)], ids=["no encoding", "too large"]
)
def test_a_result_that_cannot_be_stored_is_returned_logged_once_and_counted(node, runs, caplog, result, error):
    @node.cached(key="k")
    def load() -> object:
        runs.append(1)
        return result

    with caplog.at_level(logging.WARNING, "crdtcache"):
        assert load() is load() is result
        assert node.get_or_set("other", lambda: result) is result
    assert (len(runs), len(node), node.stats()["unstored"]) == (2, 0, 3)
    assert caplog.text.count("load is not cached") == caplog.text.count("get_or_set is not cached") == 1
    with pytest.raises(error):
        load.put(result)


# ---- one run for all who wait ----


def in_threads(*calls):
    """Run the calls at once; their results or exceptions, in order."""
    results: list = [None] * len(calls)

    def run(i, call):
        try:
            results[i] = call()
        except BaseException as error:  # noqa: BLE001
            results[i] = error

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    return results


def waiters(node) -> int:
    return sum(len(flight._wakers) for flight in list(node._flights._by_key.values()))


def until(condition) -> None:
    pause = threading.Event()
    for _ in range(2_000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to pass within 10 s")


def test_threads_that_miss_together_wait_for_one_run(node, runs):
    @node.cached
    def load(x: int) -> list[int]:
        runs.append(x)
        until(lambda: waiters(node) == 7)
        return [x]

    results = in_threads(*[lambda: load(1)] * 8)
    assert results == [[1]] * 8
    assert len({id(result) for result in results}) == 8
    assert runs == [1]
    assert node._flights._by_key == {}


def test_an_exception_reaches_every_waiter(node, runs):
    error = RuntimeError("down")

    @node.cached
    def load() -> int:
        runs.append(1)
        until(lambda: waiters(node) == 3)
        raise error

    assert in_threads(*[load] * 4) == [error] * 4
    assert runs == [1]


def test_an_interrupted_leader_hands_over(node, runs):
    @node.cached
    def load() -> str:
        runs.append(1)
        if len(runs) == 1:
            until(lambda: waiters(node) == 2)
            raise KeyboardInterrupt
        return "second"

    results = in_threads(*[load] * 3)
    assert sorted(map(repr, results)) == ["'second'", "'second'", "KeyboardInterrupt()"]
    assert len(runs) == 2


def test_a_leader_that_was_outrun_hands_over(node, runs):
    @node.cached(key="k")
    def load() -> str:
        runs.append(1)
        until(lambda: waiters(node) == 1 or len(runs) > 1)
        if len(runs) == 1:
            load.invalidate()
        return f"run {len(runs)}"

    assert sorted(in_threads(load, load)) == ["run 1", "run 2"]
    assert load.peek() == "run 2"


def test_a_waiter_of_a_result_that_is_too_large_gets_it(node, runs):
    @node.cached
    def load() -> str:
        runs.append(1)
        until(lambda: waiters(node) == 1)
        return "x" * 50_000

    assert [len(result) for result in in_threads(load, load)] == [50_000, 50_000]
    assert len(runs) == 1


def test_recursion_on_the_same_key_runs_the_function(node, runs):
    @node.cached(key="k")
    def load(depth: int) -> int:
        runs.append(depth)
        return depth if depth == 3 else load(depth + 1)

    assert in_threads(lambda: load(0)) == [3]
    assert runs == [0, 1, 2, 3]


def test_recursion_over_keys(node, runs):
    @node.cached
    def fib(n: int) -> int:
        runs.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(60) == 1_548_008_755_920
    assert len(runs) == 61


def test_two_loads_that_need_each_other_end(node):
    both = threading.Barrier(2, timeout=10)
    first = threading.local()

    @node.cached
    def load(x: int) -> str:
        if not getattr(first, "done", False):
            first.done = True
            both.wait()
            return f"{x}({load(1 - x)})"
        return f"{x}"

    assert min(in_threads(lambda: load(0), lambda: load(1))).startswith("0(1")


def test_three_loads_in_a_ring_over_two_nodes_end(node):
    all_three = threading.Barrier(3, timeout=10)
    nodes = [node, Node(), Node()]
    started = threading.local()

    def make(i):
        @nodes[i].cached(key=f"ring {i}")
        def load() -> int:
            if getattr(started, "done", False):
                return 1
            started.done = True
            all_three.wait()
            return 1 + functions[(i + 1) % 3]()

        return load

    functions = [make(i) for i in range(3)]
    assert all(result in (2, 3, 4) for result in in_threads(*functions))


def test_without_single_flight_everybody_runs(node, runs):
    both = threading.Barrier(2, timeout=10)

    @node.cached(single_flight=False)
    def load() -> int:
        both.wait()
        runs.append(1)
        return 1

    assert in_threads(load, load) == [1, 1]
    assert len(runs) == 2


# ---- what is kept, and for how long ----


def test_cache_if_keeps_what_it_likes(node, runs):
    @node.cached(key="page:{n}", cache_if=lambda page: page["status"] == 200)
    def page(n: int) -> dict[str, int]:
        runs.append(n)
        return {"status": 200 if n else 503}

    assert [page(n)["status"] for n in (0, 0, 1, 1)] == [503, 503, 200, 200]
    assert runs == [0, 0, 1]
    assert list(node) == ["page:1"]


def test_negative_ttl_is_for_none(node, clock, runs):
    @node.cached(key="user:{n}", ttl=60, negative_ttl=5)
    def user(n: int) -> str | None:
        runs.append(n)
        return "Ada" if n else None

    assert (user(0), user(1)) == (None, "Ada")
    assert (node.ttl("user:0"), node.ttl("user:1")) == (5, 60)
    clock.tick(5)
    assert (user(0), user(1)) == (None, "Ada")
    assert runs == [0, 1, 0]


def test_ttl_jitter_shortens_what_is_not_given_in_a_set(clock):
    node = Node(clock=clock, ttl=100, ttl_jitter=0.2)
    node.cached(key="loaded:{x}", ttl=50)(lambda x: x)(1)
    node.get_or_set("got", 1, ttl=50)
    node.update({i: i for i in range(200)})
    node.set("exactly", 1, ttl=100)
    lives = [node.ttl(i) for i in range(200)]
    assert all(80 <= life <= 100 for life in lives)
    assert max(lives) - min(lives) > 15
    assert node.ttl("exactly") == 100
    assert 40 <= node.ttl("loaded:1") < 50
    assert 40 <= node.ttl("got") < 50


def test_what_is_stale_is_renewed_by_one_caller_and_served_to_the_others(node, clock, runs):
    inside, go_on = threading.Event(), threading.Event()

    @node.cached(key="k", ttl=10, stale_ttl=5)
    def load() -> str:
        runs.append(1)
        if len(runs) == 2:
            inside.set()
            assert go_on.wait(10)
        return f"run {len(runs)}"

    assert load() == "run 1"
    assert node.ttl("k") == 15
    clock.tick(10)
    results: list = []
    renewing = threading.Thread(target=lambda: results.append(load()))
    renewing.start()
    assert inside.wait(10)
    assert [load(), load()] == ["run 1"] * 2  # at once, while the other one renews it
    go_on.set()
    renewing.join(10)
    assert results == ["run 2"]
    assert load() == "run 2"
    assert len(runs) == 2


def test_what_is_stale_is_served_where_the_function_fails(node, clock, runs, caplog):
    @node.cached(key="k", ttl=10, stale_ttl=5)
    def load() -> str:
        runs.append(1)
        if len(runs) > 1:
            raise ConnectionError("the database is away")
        return "old"

    load()
    clock.tick(12)
    assert load() == load() == "old"
    assert len(runs) == 3
    assert caplog.text.count("a stale value is served") == 1
    clock.tick(3)
    with pytest.raises(ConnectionError):
        load()


# ---- get_or_set and the node's loader ----


def test_get_or_set(node, clock, runs):
    def produce() -> list[int]:
        runs.append(1)
        return [1]

    assert node.get_or_set("a", produce, ttl=5) == node.get_or_set("a", produce) == [1]
    node.get_or_set("a", produce).append(2)
    assert node["a"] == [1]
    assert node.ttl("a") == 5
    clock.tick(5)
    assert node.get_or_set("a", produce) == [1]
    assert len(runs) == 2
    assert node.get_or_set("b", 7) == node["b"] == 7
    assert node.get_or_set("none", lambda: None) is None
    assert "none" in node
    with pytest.raises(LookupError, match="mine"):
        node.get_or_set("c", lambda: (_ for _ in ()).throw(LookupError("mine")))
    with pytest.raises(TypeError, match="aget_or_set"):
        node.get_or_set("c", make_async([]))
    with pytest.raises(TypeError, match="loader="):
        node.get_or_set("c")
    with pytest.raises(KeyTypeError):
        node.get_or_set(1.5, 1)


def make_async(runs):
    async def produce(*key):
        runs.append(key)
        return list(key)

    return produce


def test_get_or_set_serves_what_is_stale(node, clock):
    node.get_or_set("a", lambda: 1, ttl=10, stale_ttl="5s")
    clock.tick(11)
    assert node.get_or_set("a", lambda: 1 / 0, ttl=10, stale_ttl="5s") == 1
    assert node.get_or_set("a", lambda: 2, ttl=10, stale_ttl="5s") == 2


def test_what_was_set_for_a_shorter_time_than_values_may_be_stale_is_fresh_to_its_end(node, clock):
    node.set("a", "set", ttl=5)
    clock.tick(4)
    assert node.get_or_set("a", lambda: "loaded", ttl=60, stale_ttl=5) == "set"
    clock.tick(1)
    assert node.get_or_set("a", lambda: "loaded", ttl=60, stale_ttl=5) == "loaded"


def test_a_function_runs_once_for_all_threads_that_get_or_set(node, runs):
    def produce() -> int:
        runs.append(1)
        time.sleep(0.05)
        return 5

    assert in_threads(*[lambda: node.get_or_set("k", produce)] * 8) == [5] * 8
    assert len(runs) == 1


def test_the_loader_of_a_node(clock, runs):
    def load(key: str) -> str | None:
        runs.append(key)
        if key == "nowhere":
            raise KeyError(key)
        return None if key == "nothing" else key.upper()

    node = Node(loader=load, ttl=60, negative_ttl=5, stale_ttl=10, clock=clock)
    assert (node["a"], node["a"], node.get("b"), node.get_or_set("b")) == ("A", "A", None, "B")
    assert (node["nothing"], node["nothing"]) == (None, None)
    assert (node.ttl("a"), node.ttl("nothing")) == (70, 15)
    with pytest.raises(KeyError):
        node["nowhere"]
    assert runs == ["a", "b", "nothing", "nowhere"]
    assert node.status()["settings"]["loader"].endswith("load")


@pytest.mark.parametrize("run", [trio.run, lambda main: asyncio.run(main())], ids=["trio", "asyncio"])
def test_in_an_event_loop_nothing_is_loaded_by_luck(run, runs):
    node = Node(loader=make_async(runs))
    node["here"] = 1

    async def main():
        assert node["here"] == 1
        with pytest.raises(WouldBlock, match=r"await node.aget_or_set\(key\)"):
            node["k"]
        with pytest.raises(WouldBlock, match="aget_or_set"):
            node.get_or_set("here", 5)
        assert await node.aget_or_set("k") == await node.aget_or_set("k") == ["k"]
        assert await node.aget_or_set("plain", lambda: 3) == 3
        assert await node.aget_or_set("value", 4) == 4

    run(main)
    assert runs == [("k",)]
    with pytest.raises(TypeError, match="aget_or_set"):
        node["other"]
