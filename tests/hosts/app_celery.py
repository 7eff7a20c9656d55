"""A Celery app without a broker process: tasks and results are files in the folder that TASKS names."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from crdtcache import Node
from crdtcache.contrib.celery import use

folder = Path(os.environ["TASKS"])
app = Celery("tests", broker="filesystem://", backend=f"file://{folder}")
app.conf.broker_transport_options = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
cache = use(Node.from_env())


@app.task
def put(key: str, value: str) -> dict:
    cache[key] = value
    return told(value)


@app.task
def get(key: str) -> dict:
    return told(cache.get(key))


def told(value: object) -> dict:
    time.sleep(0.05)  # busy for a while: the next task is another child's
    return {"pid": os.getpid(), "origin": cache.status()["origin"], "value": value}
