"""What a redis_url says, and what is none."""

from __future__ import annotations

import pytest

from spillway.configuration.redis_url import RedisUrl, Topology, parse_redis_url


def test_urls_of_every_kind_are_understood() -> None:
    assert parse_redis_url("redis://h:1/2").topology is Topology.SERVER
    url = "rediss+sentinel://me%40x@a:1,[::1]:2,b/main/3"
    nodes = (("a", 1), ("::1", 2), ("b", 26_379))
    assert parse_redis_url(url) == RedisUrl(Topology.SENTINEL, url, nodes, "main", 3, "me@x", tls=True)
    url = "redis+cluster://a,b:7001"
    assert parse_redis_url(url) == RedisUrl(Topology.CLUSTER, url, (("a", 6_379), ("b", 7_001)))


def test_certificates_stand_behind_the_hosts() -> None:
    url = "rediss+cluster://a?ssl_ca_certs=/x%40y/ca.crt&ssl_certfile=/tls.crt&ssl_keyfile=/tls.key"
    files = (("ssl_ca_certs", "/x@y/ca.crt"), ("ssl_certfile", "/tls.crt"), ("ssl_keyfile", "/tls.key"))
    assert parse_redis_url(url) == RedisUrl(Topology.CLUSTER, url, (("a", 6_379),), tls=True, tls_options=files)
    url = "rediss+sentinel://a/main/1?ssl_check_hostname=False"
    loose = (("ssl_check_hostname", False),)
    assert parse_redis_url(url) == RedisUrl(
        Topology.SENTINEL, url, (("a", 26_379),), "main", 1, tls=True, tls_options=loose
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a",
        "unix+cluster://a",
        "redis+sentinel://a:1",
        "redis+sentinel:///main",
        "redis+sentinel://a:0/main",
        "redis+sentinel://a:x/main",
        "redis+sentinel://a/main/x",
        "redis+cluster://a/0",
        "redis+cluster://" + ",".join("a" for _ in range(65)),
        "rediss+cluster://a?db=1",
        "redis+cluster://a?ssl_ca_certs=/ca.crt",
        "rediss+cluster://a?ssl_ca_certs=",
        "rediss+cluster://a?ssl_ca_certs=/a&ssl_ca_certs=/b",
        "rediss+cluster://a?ssl_check_hostname=perhaps",
        "rediss+cluster://a?ssl_certfile=/tls.crt",
        "rediss+cluster://a?ssl_cert_reqs=none",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|databases|known|need") as caught:
        parse_redis_url(url)
    assert not url or url not in str(caught.value)
