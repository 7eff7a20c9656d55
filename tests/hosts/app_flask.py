"""A Flask app, for `gunicorn --preload -w 3`: Flask-Caching, on a node that ran before the workers were forked."""

from __future__ import annotations

import os
import time

from flask import Flask, request
from flask_caching import Cache

from crdtcache import Node

node = Node.from_env().start()
node["preloaded"] = True
app = Flask(__name__)
cache = Cache(app, config={"CACHE_TYPE": "crdtcache.contrib.flask.CrdtCache", "CACHE_OPTIONS": {"node": node}})


def told(value: object) -> dict:
    time.sleep(0.02)  # busy for a while: the next request is another worker's
    return {"pid": os.getpid(), "origin": node.status()["origin"], "value": value}


@app.get("/put")
def put() -> dict:
    cache.set(request.args["key"], request.args["value"])
    return told(request.args["value"])


@app.get("/get")
def get() -> dict:
    return told(cache.get(request.args["key"]))
