"""Where webhooks may go."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.jobs.webhook_guard import ForbiddenUrlError, WebhookGuard, is_public

PUBLIC = ["8.8.8.8", "93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860::8888"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert WebhookGuard().allowed("hooks.example.com", [address]) == (address,)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_plainly_public_is_refused(address: str) -> None:
    assert WebhookGuard().allowed("hooks.example.com", [address]) == ()
    assert WebhookGuard().allowed("hooks.example.com", [PUBLIC[0], address]) == ()


@given(st.ip_addresses())
def test_nothing_is_public_that_the_registries_say_is_not_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https:///path",
        "https://",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com\\@inner/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nx: y",
        "https://hooks.exämple.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data",
        "https://[/",
    ],
)
def test_a_url_that_may_not_be_is_refused_at_submission(url: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        WebhookGuard().check(url)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "inner"])
def test_other_ways_to_write_an_address_are_judged_by_what_they_resolve_to(host: str) -> None:
    assert WebhookGuard().check(f"https://{host}/").host == host
    assert WebhookGuard().allowed(host, ["127.0.0.1"]) == ()


def test_a_url_is_taken_apart() -> None:
    url = WebhookGuard().check("https://Hooks.Example.com.:8443/a/b?c=%20d")
    assert (url.scheme, url.host, url.port, url.path) == ("https", "hooks.example.com", 8443, "/a/b?c=%20d")
    assert url.authority == "hooks.example.com:8443"
    assert WebhookGuard().check("https://[2606:4700::1]").authority == "[2606:4700::1]"


def test_a_listed_host_may_be_private_and_plain_http_and_no_other() -> None:
    guard = WebhookGuard(["Inner.Example"])
    assert guard.check("http://inner.example:8080/").port == 8080
    assert guard.allowed("inner.example", ["10.0.0.7", "::1"]) == ("10.0.0.7", "::1")
    assert guard.allowed("other.example", ["10.0.0.7"]) == ()
    with pytest.raises(ForbiddenUrlError):
        guard.check("http://other.example/")


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "::ffff:10.0.0.1"])
def test_a_listed_host_may_not_be_link_local_multicast_unspecified_or_disguised(address: str) -> None:
    assert WebhookGuard(["inner.example"]).allowed("inner.example", [address]) == ()


def test_a_listed_network_is_allowed_whatever_name_leads_there() -> None:
    guard = WebhookGuard(["10.1.0.0/16", "fd00::/8"])
    assert guard.allowed("any.example", ["10.1.2.3", "fd12::1"]) == ("10.1.2.3", "fd12::1")
    assert guard.allowed("any.example", ["10.2.0.1"]) == ()
    assert guard.check("http://10.1.2.3/").scheme == "http"
    with pytest.raises(ForbiddenUrlError):
        guard.check("http://any.example/")


@pytest.mark.parametrize("entry", ["", "10.0.0.0/99", "host/24", "host:80"])
def test_an_entry_that_is_neither_host_nor_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="webhook_private_hosts"):
        WebhookGuard([entry])
