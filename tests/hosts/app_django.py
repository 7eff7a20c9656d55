"""A Django project in one file, settings and all: `gunicorn -w 2 tests.hosts.app_django`, or this file as manage.py."""

from __future__ import annotations

import os
import sys
import time

import django
from django.conf import settings
from django.core.cache import cache
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"BACKEND": "crdtcache.contrib.django.CrdtCache"}},  # the rest is in CRDTCACHE_ variables
    ROOT_URLCONF=__name__,
    SECRET_KEY="tests only",
    USE_TZ=True,
)
django.setup()


def told(value: object) -> JsonResponse:
    time.sleep(0.02)  # busy for a while: the next request is another worker's
    return JsonResponse({"pid": os.getpid(), "origin": cache.node.status()["origin"], "value": value})


def put(request: HttpRequest) -> JsonResponse:
    cache.set(request.GET["key"], request.GET["value"])
    return told(request.GET["value"])


def get(request: HttpRequest) -> JsonResponse:
    return told(cache.get(request.GET["key"]))


urlpatterns = [path("put", put), path("get", get)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
