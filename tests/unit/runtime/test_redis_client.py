"""Which Redis a client may be of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import BlockingConnectionPool, ConnectionPool

from services.runtime.clock import FakeClock
from services.runtime.redis_client import find_places, open_redis
from services.runtime.redis_connections import node_options, server_pool
from services.runtime.redis_places import RedisPlaces
from spillway.configuration.redis_url import Topology, is_address, parse_redis_url


def places(url: str, *, tag: str = "") -> RedisPlaces | None:
    return find_places(url, setting="some.url", password="", clock=FakeClock(), tag=tag)


def test_a_single_server_has_no_places() -> None:
    assert places("redis://a:1/0") is None
    assert places("redis+sentinel://a/main") is not None


def test_a_cluster_needs_keys_of_one_slot() -> None:
    with pytest.raises(ValueError, match=r"some\.url cannot be a cluster"):
        places("redis+cluster://a")
    assert places("redis+cluster://a", tag="{t}") is not None


@pytest.mark.parametrize(
    "url", ["redis://u:secret@a/0", "redis://u:sec/ret@a/0", "redis+sentinel://u:secret@a,b:2/main"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"some\.url must not contain a password") as caught:
        open_redis(url, setting="some.url", password="", timeout_s=1, connections_max=1)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


URLS = [
    "redis://h:6379/0",
    "rediss://me@h/0?ssl_ca_certs=/a&ssl_check_hostname=no",
    "redis://[::1]:6379/1",
    "unix://me@/a/b.sock?db=2",
    "redis+sentinel://u@a.b:1,c/main/2",
    "redis+cluster://a,b:1",
]
PIECES = [*",:/@?#[]%&=.-_~' \\\x00\x7f", "%00", "%2c", "..", "::", "6379", "a", ""]


@settings(max_examples=300)
@given(st.data())
def test_a_url_that_is_understood_is_one_that_can_be_used(data: st.DataObject) -> None:
    url = data.draw(st.sampled_from(URLS))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(5, len(url)))
        url = url[:at] + data.draw(st.sampled_from(PIECES)) + url[at + data.draw(st.integers(0, 1)) :]
    try:
        parsed = parse_redis_url(url)
    except ValueError:
        return
    if parsed.topology is Topology.SERVER:
        reached = server_pool(ConnectionPool, url, password="", timeout_s=1).connection_kwargs
        assert "path" in reached or is_address(reached["host"], reached.get("port", 6379)), url
    else:
        assert all(is_address(*node) for node in parsed.nodes), url
        node_options(parsed, password="", timeout_s=1)["connection_class"]()


@pytest.mark.parametrize("kind", [ConnectionPool, BlockingConnectionPool])
def test_what_redis_py_does_not_take_is_no_url_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, kind: type[ConnectionPool]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("redis://secret is nothing")

    monkeypatch.setattr(ConnectionPool, "from_url", refuse)
    with pytest.raises(ValueError, match="is no URL that can be used") as caught:
        server_pool(kind, "redis://a", password="", timeout_s=1)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("password", ["", "secret"])
def test_the_user_of_a_url_connects_with_a_password_or_without(password: str) -> None:
    def user(url: str, *, to_ask_the_way: bool = False) -> object:
        options = node_options(parse_redis_url(url), password=password, timeout_s=1, to_ask_the_way=to_ask_the_way)
        return options.get("username"), options["password"]

    one = server_pool(ConnectionPool, "redis://me@a", password=password, timeout_s=1).connection_kwargs
    known = ("me", password or None)
    assert (one["username"], one["password"]) == known
    assert user("redis+sentinel://me@a/main") == user("redis+cluster://me@a") == known
    assert user("redis+cluster://me@a", to_ask_the_way=True) == known
    assert user("redis+sentinel://me@a/main", to_ask_the_way=True) == (None, None)
