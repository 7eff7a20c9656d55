"""A FastAPI app, for `uvicorn --workers 2`: a node by the lifespan, and by the dependency."""

from __future__ import annotations

import os
import time

from fastapi import FastAPI

from crdtcache import Node
from crdtcache.contrib.fastapi import Cache, lifespan

app = FastAPI(lifespan=lifespan(Node.from_env()))


def told(cache: Cache, value: object) -> dict:
    time.sleep(0.02)  # busy for a while: the next request is another worker's
    return {"pid": os.getpid(), "origin": cache.status()["origin"], "value": value}


@app.get("/put")
async def put(key: str, value: str, cache: Cache) -> dict:
    cache[key] = value
    return told(cache, value)


@app.get("/get")
async def get(key: str, cache: Cache) -> dict:
    return told(cache, cache.get(key))
