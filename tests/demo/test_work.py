"""The work and the world: analysis of real modules, Zipf's law, the pools of the script, delays, the schedule."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from crdtcache.demo.analysis import analyse, measure, standard_modules
from crdtcache.demo.regions import World
from crdtcache.demo.script import MIN_SECONDS, slots
from crdtcache.demo.traffic import Zipf, plan_writes, review_pools
from crdtcache.errors import ConfigError

SOURCE = """
import os.path, sys
from collections import abc
from . import sibling

class Shape:
    def area(self, sides):
        total = 0
        for side in sides:              # 1
            if side > 0 and side < 9:   # 1 + 1
                total += side
        return total

    async def load(self):
        def inner(x):
            return [y for y in x if y]  # 1, of inner
        try:
            return inner([]) if self else None  # 1
        except OSError:                 # 1
            raise

def plain():
    match plain:
        case None:                      # 1
            pass
        case _:                         # 1
            pass
"""


def test_measure_counts_imports_definitions_and_decisions():
    result = measure(SOURCE)
    assert result["imports"] == [".", "collections", "os", "sys"]
    assert result["definitions"] == ["Shape", "Shape.area", "Shape.load", "Shape.load.inner", "plain"]
    assert (result["functions"], result["classes"]) == (4, 1)
    assert dict(result["worst"]) == {"Shape.area": 4, "Shape.load": 3, "Shape.load.inner": 2, "plain": 3}
    assert result["complexity"] == 12
    assert result["worst"][0] == ["Shape.area", 4]


def test_the_modules_of_this_interpreter_are_found_and_can_be_analysed():
    modules = standard_modules()
    assert len(modules) > 100
    assert {"queue", "json.decoder", "asyncio.locks"} <= set(modules)
    assert not any(name.startswith(("test.", "site-packages", "idlelib")) for name in modules)
    result = analyse("queue", modules["queue"])
    assert result["took_us"] > 0
    assert "threading" in result["imports"]
    assert "Queue.put" in dict(result["worst"])


def test_an_interpreter_without_sources_is_refused_with_the_number(tmp_path):
    (tmp_path / "lonely.py").write_text("x = 1\n" * 1_000)
    with pytest.raises(ConfigError, match="1 modules of the standard library"):
        standard_modules(tmp_path)


def test_zipf_draws_the_first_ranks_most_and_ranks_alike_everywhere():
    names = [f"module{n}" for n in range(200)]
    zipf, other = Zipf(names, seed=1), Zipf(names[::-1], seed=1)
    assert zipf.ranked == other.ranked != Zipf(names, seed=2).ranked
    rng = random.Random(5)
    counts = Counter(zipf.draw(rng) for _ in range(20_000))
    share = [counts[name] / 20_000 for name in zipf.ranked]
    weight = sum(1 / rank**1.1 for rank in range(1, 201))
    for rank in (1, 2, 5, 20):
        assert share[rank - 1] == pytest.approx(1 / rank**1.1 / weight, rel=0.2)
    assert sum(share) == pytest.approx(1)
    with pytest.raises(ValueError, match="nothing"):
        Zipf([], seed=1)


def test_pools_are_disjoint_also_where_modules_are_few():
    for names in ([f"module{n}" for n in range(300)], ["a", "b", "c"]):
        pools = review_pools(names, seed=3)
        keys = [key for pool in pools for key in pool]
        assert len(keys) == len(set(keys))
        assert pools == review_pools(names[::-1], seed=3)
        assert set(pools.script) == set(keys) - set(pools.steady)


def test_the_two_sides_of_the_cut_write_the_same_keys_and_delete_different_ones():
    pools = review_pools([f"module{n}" for n in range(300)], seed=3)
    near, far = (plan_writes(pools, cut_off=side, rng=random.Random(1)) for side in (True, False))
    written = [{key for what, key in steps if what == "set"} for steps in (near, far)]
    deleted = [{key for what, key in steps if what == "delete"} for steps in (near, far)]
    assert set(pools.both) <= written[0] & written[1]
    assert set(pools.near) <= deleted[0]
    assert not set(pools.near) & (written[0] | written[1] | deleted[1])
    assert set(pools.far) <= deleted[1]
    assert not set(pools.far) & (written[0] | written[1] | deleted[0])
    assert (deleted[0] & written[1]) | (deleted[1] & written[0]) == set(pools.fought)
    assert deleted[0] & written[1]
    assert deleted[1] & written[0]


def test_delays_are_directed_and_repeatable():
    world = World(("eu", "us", "sa"), 1, seed=7)
    assert world.one_way_ms("eu", "us") == 40
    assert world.one_way_ms("us", "eu") == 44
    assert world.one_way_ms("eu", "eu") == 0
    assert 20 <= world.one_way_ms("eu", "sa") <= 110
    assert world.one_way_ms("eu", "sa") == World(("sa", "eu"), 2, seed=7).one_way_ms("eu", "sa")


def test_the_world_names_its_services_and_who_is_hit():
    world = World(("eu", "us", "ap"), 2)
    assert [each.name for each in world.services] == ["eu-1", "eu-2", "us-1", "us-2", "ap-1", "ap-2"]
    assert (world.cut_region, world.victim) == ("ap", "us-2")


@pytest.mark.parametrize(
    ("regions", "nodes", "message"),
    [
        (("eu",), 2, "1 region: at least 2"),
        (("eu", "eu"), 2, "each name once"),
        (("eu", ""), 2, "region ''"),
        (("eu", "US"), 2, "region 'US'"),
        (("eu", "u-s"), 2, "region 'u-s'"),
        (("eu", "us"), 0, "0 services per region: at least 1"),
        (("eu", "us"), 13, "2 regions x 13 services are 26 processes: at most 24"),
    ],
)
def test_a_world_that_cannot_be_is_refused(regions, nodes, message):
    with pytest.raises(ConfigError, match=message):
        World(regions, nodes)


def test_the_schedule_fits_into_what_is_left():
    for left in (MIN_SECONDS - 3, 20.0, 52.0):
        assert sum(slots(left)) == pytest.approx(left - 1)
        assert all(seconds > 0 for seconds in slots(left))
