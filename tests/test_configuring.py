"""A node's arguments from an environment and from a URL, and every way to get them wrong."""

from __future__ import annotations

import json
import os

import pytest

from crdtcache import configuring
from crdtcache.errors import ConfigError
from crdtcache.node import Node


@pytest.fixture
def environ(monkeypatch):
    def put(**variables):
        for name, text in variables.items():
            monkeypatch.setenv(name, text)

    return put


def settings(node: Node) -> dict:
    return node.status()["settings"]


def test_an_environment(environ):
    environ(
        CRDTCACHE_PEERS="10.0.0.1, cache.internal:99",
        CRDTCACHE_CLUSTER="shop",
        CRDTCACHE_REGION="eu",
        CRDTCACHE_NAME="web-1",
        CRDTCACHE_SECRET="hush",
        CRDTCACHE_MAXSIZE="none",
        CRDTCACHE_MAX_BYTES="64MB",
        CRDTCACHE_TTL="1h30m",
        CRDTCACHE_STALE_TTL="5",
        CRDTCACHE_TTL_JITTER="0.1",
        CRDTCACHE_INSECURE="false",
        CRDTCACHE_LISTEN="none",
    )
    node = Node.from_env(region="us")
    shown = settings(node)
    assert node.name == "web-1"
    assert shown["peers"] == ["10.0.0.1", "cache.internal:99"]
    assert (shown["cluster"], shown["region"], shown["listen"], shown["insecure"]) == ("shop", "us", None, False)
    assert (shown["maxsize"], shown["max_bytes"], shown["ttl"]) == (None, 64_000_000, 5_400)
    assert (shown["stale_ttl"], shown["ttl_jitter"], shown["secret"]) == (5, 0.1, "***")


def test_an_empty_environment_is_a_node_on_its_own():
    assert settings(Node.from_env("NOBODY_SETS_THIS_"))["peers"] is None


def test_every_argument_that_can_be_text_can_be_a_variable():
    import inspect

    arguments = set(inspect.signature(Node).parameters)
    assert set(configuring._READERS) <= arguments
    assert arguments - set(configuring._READERS) == {"clock", "codec", "loader", "tuning"}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PEERS", ""),
        ("SECRET", " "),
        ("MAXSIZE", "lots"),
        ("MAX_BYTES", "64 apples"),
        ("INSECURE", "perhaps"),
        ("TTL", "soon"),
        ("TTL_JITTER", "x"),
        ("LISTEN", "host:port"),
        ("PEERS", "10.0.0.1,,10.0.0.2"),
        ("NAME", "a\nb"),
        ("PEER", "10.0.0.1"),
        ("PORT", "7000"),
    ],
)
def test_mistakes_in_the_environment_name_their_variable(environ, variable, text):
    environ(**{f"CRDTCACHE_{variable}": text})
    with pytest.raises(ConfigError, match=f"^CRDTCACHE_{variable}\\b"):
        Node.from_env()


def test_a_mistake_that_counts_more_is_not_the_variables(environ):
    environ(CRDTCACHE_TTL="60")
    with pytest.raises(ConfigError, match=r"^ttl='soon'"):
        Node.from_env(ttl="soon")


def test_a_comma_at_the_end_is_no_address(environ):
    environ(CRDTCACHE_PEERS="10.0.0.1,10.0.0.2, ")
    assert settings(Node.from_env())["peers"] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("name", ["peers", "secret", "zone", "name", "advertise", "listen", "ttl", "switch_interval"])
def test_none_in_a_variable_is_none(environ, name):
    environ(**{f"CRDTCACHE_{name.upper()}": "None"})
    assert configuring.from_env("CRDTCACHE_", os.environ) == {name: None}
    Node.from_env()


@pytest.mark.parametrize("service", ["", "WEB_"])
def test_what_kubernetes_sets_for_a_service_of_that_name_is_passed_over(environ, service):
    of_kubernetes = {
        "SERVICE_HOST": "10.0.0.9",
        "SERVICE_PORT": "2738",
        "SERVICE_PORT_CRDTCACHE": "2738",
        "PORT": "tcp://10.0.0.9:2738",
        "PORT_2738_TCP": "tcp://10.0.0.9:2738",
        "PORT_2738_TCP_PROTO": "tcp",
        "PORT_2738_TCP_PORT": "2738",
        "PORT_2738_TCP_ADDR": "10.0.0.9",
    }
    environ(**{f"CRDTCACHE_{service}{name}": text for name, text in of_kubernetes.items()}, CRDTCACHE_TTL="60")
    assert configuring.from_env("CRDTCACHE_", os.environ) == {"ttl": "60"}


def test_a_url():
    node = Node.from_url("crdtcache://web-1:hu%2Fsh@10.0.0.1,[2001:db8::1]:99/shop?region=eu&ttl=90s", maxsize=7)
    shown = settings(node)
    assert node.name == "web-1"
    assert shown["peers"] == ["10.0.0.1", "[2001:db8::1]:99"]
    assert (shown["cluster"], shown["region"], shown["ttl"], shown["maxsize"]) == ("shop", "eu", 90, 7)
    assert node._settings.secret == b"hu/sh"
    assert "hu/sh" not in json.dumps(node.status())


def test_a_url_without_a_host_is_a_node_on_its_own_and_a_warning(caplog):
    assert settings(Node.from_url("crdtcache:///shop"))["peers"] is None
    assert "names no host" in caplog.text
    caplog.clear()
    Node.from_url("crdtcache:///shop", peers=["10.0.0.1"])
    Node.from_url("crdtcache:///shop?listen=none")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "url",
    [
        None,
        b"crdtcache://:hush@10.0.0.1",
        "redis://10.0.0.1",
        "crdtcache:10.0.0.1",
        "crdtcache:/10.0.0.1/shop",
        "crdtcache://10.0.0.1/shop#1",
        "10.0.0.1",
        "crdtcache://10.0.0.1:x",
        "crdtcache://10.0.0.1?colour=red",
        "crdtcache://10.0.0.1?secret=hush",
        "crdtcache://10.0.0.1?ttl=",
        "crdtcache://[::1/x",
        "crdtcache://:hush@[::1/x",
        "crdtcache://:hush\u2100@10.0.0.1/x",
        "crdtcache://:hush@/x",
        "crdtcache://:hush/a@10.0.0.1/x",
        "crdtcache://:hush?a@10.0.0.1/x",
        "crdtcache://:a?hush@10.0.0.1/x",
        "crdtcache://:hush#a@10.0.0.1/x",
        "crdtcache://web:12/hush@10.0.0.1/x",
    ],
)
def test_mistakes_in_a_url(url):
    with pytest.raises(ConfigError) as caught:
        Node.from_url(url)
    assert "hush" not in str(caught.value)
