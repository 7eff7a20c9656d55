"""The README's frameworks: each snippet as it stands (but for the name of a host), and then used."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.hosts.stage import TOP

USED = {
    "# Flask:": """
        cache["a"] = 1
        assert cache.running
    """,
    "# Flask-Caching": """
        with app.app_context():
            assert cache.set("a", [1]) and cache.get("a") == [1]
            assert cache.cache.node.status()["region"] == "eu"
    """,
    "# Django,": """
        from django.conf import settings
        settings.configure(CACHES=CACHES)
        from django.core.cache import cache
        cache.set("a", [1])
        assert cache.get("a") == [1] and cache.node.maxsize == 50_000 and cache.node.cluster == "shop"
    """,
    "# FastAPI:": """
        import asyncio
        from contextlib import AsyncExitStack

        async def ask(path, state):
            said = []
            scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "state": state}
            async def receive():
                return {"type": "http.request"}
            async def send(message):
                said.append(message.get("body", b""))
            await app(scope, receive, send)
            return b"".join(said)

        async def main():
            async with app.router.lifespan_context(app) as state:
                return [await ask("/seen/a", state) for _ in range(2)]

        assert asyncio.run(main()) == [b'{"new":true}', b'{"new":false}']
    """,
    "# Celery:": """
        asked = []
        ask_the_bank = lambda currency: asked.append(currency) or 1.5
        assert rate("EUR") == rate.apply(["EUR"]).get() == rate.apply(kwargs={"currency": "EUR"}).get() == 1.5
        assert asked == ["EUR"] and not cache.running
    """,
}
SECTION = (TOP / "README.md").read_text(encoding="utf-8").split("\n### Frameworks\n")[1].split("\n### ")[0]
SNIPPETS = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_all_of_them_are_used_here():
    assert [snippet.split()[:2] for snippet in SNIPPETS] == [start.split() for start in USED]


@pytest.mark.parametrize("start", USED)
def test_a_snippet_works(start):
    [snippet] = [each for each in SNIPPETS if each.startswith(start)]
    code = snippet.replace("cache.internal", "localhost") + re.sub(r"^        ", "", USED[start], flags=re.MULTILINE)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CRDTCACHE_")}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
