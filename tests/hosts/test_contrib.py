"""The adapters without their servers: what they store, what they let pass, what they say where a host is missing."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

HOSTS = {"celery": "celery", "django": "django", "fastapi": "fastapi", "flask": "flask-caching"}
DJANGO = """
    import asyncio
    from django.conf import settings
    settings.configure(CACHES={name: {"BACKEND": "crdtcache.contrib.django.CrdtCache", **more} for name, more in {
        "default": {"LOCATION": "crdtcache:///one?listen=none"},
        "same": {"LOCATION": "crdtcache:///one?listen=none", "KEY_PREFIX": "same", "TIMEOUT": None},
        "other": {"LOCATION": "crdtcache:///one?listen=none", "OPTIONS": {"maxsize": 2}},
    }.items()}, TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}])
    import django
    django.setup()
    from django.core.cache import caches
    cache = caches["default"]
"""


def script(code: str) -> str:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("host", HOSTS)
def test_a_missing_host_is_named_with_what_to_install(host):
    said = script(f"""
        import sys
        sys.modules[{host!r}] = None
        try:
            import crdtcache.contrib.{host}
        except ImportError as error:
            print(error)
    """)
    assert said.startswith(f"crdtcache.contrib.{host} needs ")
    assert said.endswith(f"pip install {HOSTS[host]}\n")


def test_no_host_is_loaded_by_a_node():
    loaded = script("import sys; from crdtcache import Node; Node(listen=None).start().close(); print(*sys.modules)")
    assert not {"celery", "django", "fastapi", "flask", "starlette", "werkzeug"} & set(loaded.split())


def test_djangos_aliases_share_a_node_by_location_and_options():
    script(
        DJANGO
        + """
    assert caches["same"].node is cache.node
    assert caches["other"].node is not cache.node and caches["other"].node.maxsize == 2
    caches["same"].set("a", 1)
    assert "a" not in cache and cache.node.ttl("same:1:a") is None
    """
    )


def test_djangos_async_calls_do_not_leave_the_loops_thread():
    script(
        DJANGO
        + """
    import threading

    async def main():
        await cache.aset("a", 1)
        assert await cache.aincr("a") == 2 and await cache.aget("a") == 2
        assert await cache.aadd("a", 3) is False and await cache.ahas_key("a")
        assert await cache.aget_or_set("b", lambda: 5) == 5
        assert await cache.aget_many(["a", "b", "c"]) == {"a": 2, "b": 5}
        await cache.aset_many({"c": 1, "d": 1})
        assert await cache.atouch("c", None) and await cache.adelete("d")
        await cache.aclear()
        return threading.active_count()

    cache.node  # starts it: trio is imported, which is no work for a loop
    assert asyncio.run(main()) == 2   # this thread, and the node's
    """
    )


def test_djangos_pages_come_back_as_they_were_sent_and_too_large_ones_are_not_kept():
    said = script(
        DJANGO
        + """
    import logging, sys
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    from django.http import HttpResponse, JsonResponse
    from django.template.response import SimpleTemplateResponse
    from django.utils.safestring import SafeString, mark_safe

    page = JsonResponse({"a": [1]}, status=201, reason="Made")
    page.set_cookie("who", "me", max_age=60, httponly=True)
    page["X-Some"] = "thing"
    cache.set("page", page)
    again = cache.get("page")
    assert type(again) is HttpResponse and again.serialize() == page.serialize() and again.reason_phrase == "Made"
    assert str(again.cookies) == str(page.cookies) and again.headers == page.headers
    cache.set("text", mark_safe("<b>"))
    assert type(cache.get("text")) is SafeString

    import warnings
    from django.core.cache import CacheKeyWarning

    warnings.simplefilter("ignore", CacheKeyWarning)
    path = "search/" + "ä" * 2_000  # what a visitor may ask for
    assert cache.get_or_set(path, 1) == cache.get(path) == 1 and cache.get(path + "b") is None
    assert cache.touch(path) and path in cache and cache.incr(path) == 2 and cache.delete(path) and path not in cache

    cache.set("large", "small")
    for _ in range(2):
        cache.set("large", HttpResponse("x" * 100_000))
        assert cache.get("large") is None and cache.add("large", "x" * 100_000) is False
    print(cache.node.stats()["unstored"])
    """
    )
    [warning, unstored] = said.splitlines()
    assert "Django's cache" in warning
    assert "(logged once)" in warning
    assert unstored == "4"


def test_flasks_views_and_functions():
    script("""
    from flask import Flask, jsonify
    from flask_caching import Cache

    app = Flask("shop")
    cache = Cache(app, config={"CACHE_TYPE": "crdtcache.contrib.flask.CrdtCache", "CACHE_DEFAULT_TIMEOUT": 60,
                               "CACHE_CRDTCACHE_URL": "crdtcache:///shop?listen=none", "CACHE_OPTIONS": {"maxsize": 9}})
    runs = []

    @app.get("/page")
    @cache.cached()
    def page():
        runs.append(1)
        return jsonify(a=1), 201, {"X-Some": "thing"}

    @app.get("/alone")
    @cache.cached(timeout=0)
    def alone():
        runs.append(1)
        answer = jsonify(a=1)
        answer.headers.add("Set-Cookie", "a=b")
        return answer

    @cache.memoize()
    def double(n):
        runs.append(n)
        return 2 * n

    client = app.test_client()
    first, second = client.get("/page"), client.get("/page")
    assert (first.status, first.headers["X-Some"], first.json) == (second.status, second.headers["X-Some"], second.json)
    assert client.get("/alone").headers == client.get("/alone").headers
    with app.app_context():
        assert double(2) == double(2) == 4
        cache.delete_memoized(double)
        assert double(2) == 4 and runs == [1, 1, 2, 2]
        node = cache.cache.node
        assert node.maxsize == 9 and node.cluster == "shop"
        assert node.ttl("view//alone") is None and 59 < node.ttl("view//page") <= 60
        assert cache.add("a", 1) and not cache.add("a", 2) and cache.has("a") and cache.get("a") == 1
        assert cache.set("a", "x" * 100_000) is False and cache.get("a") is None
        path = "search/" + "a" * 2_000
        assert cache.set(path, 1) and cache.get(path) == 1 and cache.has(path) and cache.get(path + "b") is None
        assert cache.delete(path) and not cache.has(path)
        assert cache.get_dict("b") == {"b": None} and cache.delete_many("b") == ["b"]
        cache.clear()
        assert not len(node)
    """)


def test_fastapis_own_lifespan_is_kept_and_the_node_closed_after_it():
    script("""
    import asyncio
    from contextlib import asynccontextmanager
    from crdtcache import Node
    from crdtcache.contrib.fastapi import lifespan

    node, ended = Node(listen="127.0.0.1:0"), []

    @asynccontextmanager
    async def own(app):
        yield {"database": app}
        ended.append(node.running)

    async def main():
        async with lifespan(node, own)("app") as state:
            assert state == {"crdtcache": node, "database": "app"} and node.running
        assert ended == [True] and not node.running

    asyncio.run(main())
    """)
