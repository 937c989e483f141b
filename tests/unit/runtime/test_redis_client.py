"""Which Redis a client may be of."""

from __future__ import annotations

import pytest

from services.runtime.clock import FakeClock
from services.runtime.redis_client import find_places, open_redis
from services.runtime.redis_places import RedisPlaces


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
