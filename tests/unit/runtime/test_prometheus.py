"""What can be scraped of a process, and what its endpoint refuses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client.parser import text_string_to_metric_families

from services.runtime.prometheus import CONNECTIONS_MAX, PrometheusEndpoint
from services.runtime.telemetry import PrometheusListenError


@pytest.fixture
def endpoint() -> Iterator[PrometheusEndpoint]:
    made = PrometheusEndpoint()
    yield made
    made.close()


def url(listen: str) -> str:
    return f"http://{listen}/metrics"


def get(address: str, **headers: str) -> httpx.Response:
    return httpx.get(address, headers=headers, timeout=20, trust_env=False)


def test_what_was_counted_can_be_scraped_under_its_prometheus_name(endpoint: PrometheusEndpoint) -> None:
    meter = MeterProvider([endpoint.reader]).get_meter("test")
    meter.create_counter("spillway.requests", unit="{request}").add(2, {"tier": "simple"})
    meter.create_histogram("rpc.server.duration", unit="s").record(0.2)
    response = get(url(endpoint.serve("127.0.0.1:0")))
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    (sample,) = families["spillway_requests"].samples
    assert (sample.name, sample.labels, sample.value) == ("spillway_requests_total", {"tier": "simple"}, 2)
    assert families["rpc_server_duration_seconds"].type == "histogram"
    assert "process_resident_memory_bytes" in families


def test_openmetrics_is_spoken_to_who_asks_for_it(endpoint: PrometheusEndpoint) -> None:
    response = get(url(endpoint.serve("127.0.0.1:0")), Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_scrapes_at_the_same_time_are_read_one_after_the_other(endpoint: PrometheusEndpoint) -> None:
    # The exporter hands what it has read to whoever asks next, so two at once would get each other's.
    both, met = threading.Barrier(2), list[int]()

    class Meeting:
        def collect(self) -> Iterator[object]:
            with suppress(threading.BrokenBarrierError):
                met.append(both.wait(0.2))
            yield from ()

    endpoint._registry.register(Meeting())  # type: ignore[arg-type]
    MeterProvider([endpoint.reader]).get_meter("test").create_counter("one").add(1)
    address = url(endpoint.serve("127.0.0.1:0"))
    with ThreadPoolExecutor(2) as callers:
        texts = [response.text for response in callers.map(get, [address] * 2)]
    assert met == []
    assert [text.count("\none_total 1.0") for text in texts] == [1, 1]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 501)])
def test_nothing_else_is_served(endpoint: PrometheusEndpoint, method: str, path: str, status: int) -> None:
    listen = endpoint.serve("127.0.0.1:0")
    assert httpx.request(method, f"http://{listen}{path}", timeout=20, trust_env=False).status_code == status


def test_a_scrape_that_fails_is_followed_by_one_that_does_not(endpoint: PrometheusEndpoint) -> None:
    class Broken:
        def collect(self) -> Iterator[object]:
            raise ValueError("a secret")

    broken = Broken()
    endpoint._registry.register(broken)  # type: ignore[arg-type]
    address = url(endpoint.serve("127.0.0.1:0"))
    failed = get(address)
    endpoint._registry.unregister(broken)  # type: ignore[arg-type]
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert get(address).status_code == 200


def test_who_connects_and_says_nothing_is_cut_off(request: pytest.FixtureRequest) -> None:
    endpoint = PrometheusEndpoint(exchange_s_max=0.1)
    request.addfinalizer(endpoint.close)
    listen = endpoint.serve("127.0.0.1:0")
    host, _, port = listen.rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=20) for _ in range(CONNECTIONS_MAX + 3)]
    try:
        assert [one.recv(1) for one in silent] == [b""] * len(silent)
    finally:
        for one in silent:
            one.close()


def test_an_exchange_that_has_ended_leaves_its_room_to_the_next(endpoint: PrometheusEndpoint) -> None:
    address = url(endpoint.serve("127.0.0.1:0"))
    assert [get(address).status_code for _ in range(2 * CONNECTIONS_MAX)] == [200] * (2 * CONNECTIONS_MAX)


@pytest.mark.parametrize("listen", ["127.0.0.1:99999", "127.0.0.1:x", "192.0.2.1:0"])
def test_an_address_that_cannot_be_had_is_an_error(endpoint: PrometheusEndpoint, listen: str) -> None:
    with pytest.raises(PrometheusListenError, match="prometheus_listen"):
        endpoint.serve(listen)


def test_an_address_for_prometheus_alone_gives_metrics_and_no_spans() -> None:
    # Providers are set once per process, so this takes one of its own.
    program = (
        "import json, urllib.request\n"
        "from opentelemetry import trace\n"
        "from services.runtime import telemetry\n"
        "from spillway.settings import Telemetry\n"
        "made = telemetry.setup('cache', Telemetry(prometheus_listen='127.0.0.1:0'))\n"
        "telemetry.certificate_expires_at(1.0)\n"
        "telemetry.certificate_expires_at(1900000000.0)\n"
        "text = urllib.request.urlopen(f'http://{made.prometheus_listen}/metrics').read().decode()\n"
        "recording = trace.get_tracer('test').start_span('one').is_recording()\n"
        "print(json.dumps([text, recording, telemetry.is_on(), made.close(20)]))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    text, recording, is_on, closed = json.loads(run.stdout)
    assert 'service_name="spillway-cache"' in text
    assert "spillway_tls_expiry_seconds 1.9e+09" in text
    assert (recording, is_on, closed) == (False, True, True)
