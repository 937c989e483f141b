"""What a redis_url says, and what is none."""

from __future__ import annotations

import traceback

import pytest

from spillway.configuration.redis_url import RedisUrl, Topology, parse_redis_url


def test_urls_of_every_kind_are_understood() -> None:
    for url in (
        "redis://h:1/2",
        "rediss://me@h",
        "redis://[::1]:1/",
        "unix:///run/a@b.sock",
        "unix://me@/redis.sock?db=2",
    ):
        assert parse_redis_url(url) == RedisUrl(Topology.SERVER, url)
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
        "redis://",
        "redis:///0",
        "redis://a:bad/0",
        "redis://a:65536",
        "redis://[1.2.3]",
        "redis://[::::]/0",
        "redis://h\u00fcst",
        "redis://a,b/0",
        "redis://a/x",
        "redis://a/1/2",
        "redis://a/0\n",
        "redis://a b/0",
        "redis://a/0?socket_timeout=1",
        "redis://a/0?ssl_ca_certs=/ca.crt",
        "unix://me@",
        "unix://a/redis.sock",
        "unix:///redis.sock?db=x",
        "redis://h:6379,",
        "redis://h,",
        "redis://,h",
        "redis://,",
        "redis+sentinel://a,,b/main",
        "redis+sentinel://,/main",
        "redis+cluster://a,",
        "redis+cluster://,a:1",
        "redis://a..b",
        "redis://.a",
        "redis+cluster://" + "a" * 64,
        "redis+cluster://" + "a." * 127 + "a",
        "redis+sentinel://a%00/main",
        "redis+cluster://a\x00",
        "redis://a\x7f/0",
        "unix:///a\x00.sock",
        "redis+sentinel://a/ma\x01in",
        "redis://[fe80::1%25eth0]/0",
        "redis://[::1/0",
        "redis://::1/0",
        "rediss://a?ssl_ca_certs=/ca%00.crt",
        "redis+sentinel://a/main/1/2",
        "redis+sentinel://us/er@a/main",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|databases|known|need") as caught:
        parse_redis_url(url)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize("begin", ["redis://", "rediss://", "redis+sentinel://", "rediss+cluster://"])
@pytest.mark.parametrize(
    "rest",
    [
        "u:SECRET@h/0",
        ":SECRET@h/0",
        "u:SE/CRET@h/0",
        "u:SE#CRET@h/0",
        "SE#CRET@h/0",
        "u:SE?CRET@h/0",
        "u:SE@CRET@h/0",
        "u:SE[CRET@h/0",
        "%75:SECRET@h/0",
        "h/0?password=SECRET",
        "h/0#SECRET",
        "h:SECRET/0",
        "h/0/SECRET",
        "u\uff1aSECRET@h/0",
        "u\u2100SECRET@h/0",
    ],
)
def test_a_password_is_refused_wherever_it_stands_and_not_repeated(begin: str, rest: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis_url(begin + rest)
    shown = "".join(traceback.format_exception(caught.value, chain=True)[-1:])
    assert "SE" not in shown
    assert "CRET" not in shown


@pytest.mark.parametrize(
    "url", ["unix://u:SECRET@/redis.sock", "unix:///redis.sock?password=SECRET", "unix:///a#SECRET"]
)
def test_a_socket_has_no_password_in_its_url_either(url: str) -> None:
    with pytest.raises(ValueError, match=r"password|known|#") as caught:
        parse_redis_url(url)
    assert "SECRET" not in str(caught.value)
