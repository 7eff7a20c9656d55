"""FastAPI and Starlette: the node lives as long as the app, and endpoints ask for it by its type.

    app = FastAPI(lifespan=lifespan(Node(peers=["cache.internal"], secret="...")))

    @app.get("/user/{key}")
    async def user(key: str, cache: Cache): ...

A node is a plain object: one in the module of the app, used without this file, is as good. What the dependency gives is
what dependencies are for: `app.dependency_overrides[current] = ...` in tests, and no global.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, TypeAlias

try:
    from fastapi import Depends
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError(f"crdtcache.contrib.fastapi needs FastAPI ({error}): pip install fastapi") from error

from crdtcache import Node

__all__ = ["Cache", "current", "lifespan"]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


def lifespan(node: Node[Any, Any], inner: Lifespan | None = None) -> Lifespan:
    """`FastAPI(lifespan=...)` that starts `node` before the first request and closes it after the last.

    `inner`: a lifespan of your own, entered within it; the state that it yields is kept.
    """

    @asynccontextmanager
    async def life(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with node:
            if inner is None:
                yield {"crdtcache": node}
            else:
                async with inner(app) as state:
                    yield {"crdtcache": node, **(state or {})}

    return life


def current(connection: HTTPConnection) -> Node[Any, Any]:
    """The dependency: the node of the app that serves this request or web socket."""
    node: Node[Any, Any] | None = getattr(connection.state, "crdtcache", None)
    if node is None:
        raise RuntimeError("this app has no node: make it with FastAPI(lifespan=lifespan(node))")
    return node


Cache = Annotated[Node[Any, Any], Depends(current)]
