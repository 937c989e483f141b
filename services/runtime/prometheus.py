"""The process's metrics over HTTP, for Prometheus to scrape, on a port of their own.

Promises: `GET /metrics` answers with the text format or OpenMetrics, as asked; nothing else is served. One scrape is
read at a time, in a thread, never on the event loop; at most CONNECTIONS_MAX connections, each for EXCHANGE_S_MAX at
most. There is no encryption and no authentication: bind it where only Prometheus gets to, or to loopback.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from services.runtime.logs import describe_exception, get_logger
from services.runtime.telemetry import PrometheusListenError

__all__ = ["CONNECTIONS_MAX", "EXCHANGE_S_MAX", "PATH", "PrometheusEndpoint"]

PATH: Final = "/metrics"
CONNECTIONS_MAX: Final = 8
"""Two or three Prometheus servers and someone with a browser; more are closed unanswered."""
EXCHANGE_S_MAX: Final = 10.0
"""From a connection to its end: Prometheus gives up after 10 s by default."""

_log = get_logger(__name__)


class PrometheusEndpoint:
    """`reader` belongs to the meter provider; `serve` once, `close` at the end. Thread-safe."""

    def __init__(self, *, exchange_s_max: float = EXCHANGE_S_MAX) -> None:
        self._exchange_s_max = exchange_s_max
        self._registry = CollectorRegistry()
        # Labels of the scope would be on every series and say nothing that the metric's name does not.
        self.reader: MetricReader = PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
        ProcessCollector(registry=self._registry)
        # The exporter hands what it has read from one scrape to whoever asks next: two at once would mix.
        self._reading = threading.Lock()
        self._server: _Server | None = None

    def serve(self, listen: str) -> str:
        """Listens on `listen` ("host:port", port 0 for a free one), and says where. Raises PrometheusListenError."""
        host, _, port = listen.rpartition(":")
        try:
            self._server = _Server(host.strip("[]"), int(port), self.scrape, self._exchange_s_max)
        except (OSError, ValueError, OverflowError) as error:
            raise PrometheusListenError(f"cannot listen on {listen} (telemetry.prometheus_listen)") from error
        threading.Thread(target=self._server.serve_forever, daemon=True, name="prometheus").start()
        return f"{host}:{self._server.server_address[1]}"

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """What there is to be read now, and its content type, by an Accept header."""
        encode, content_type = choose_encoder(accept)
        with self._reading:
            return encode(self._registry), content_type

    def close(self) -> None:
        """Ends listening. May be called without `serve`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, host: str, port: int, scrape: Callable[[str], tuple[bytes, str]], exchange_s_max: float) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.scrape = scrape
        self._exchange_s_max = exchange_s_max
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._room.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Time limits of a socket are per read; this one is of the whole exchange.
        limit = threading.Timer(self._exchange_s_max, _cut, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client who left or was cut: of no interest."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "spillway"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            body, content_type = self.server.scrape(self.headers.get("Accept") or "")
        except Exception as error:  # noqa: BLE001 - whatever a gauge raises, the next scrape is to find a server
            _log.error("scrape_failed", **describe_exception(error))
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Scrapes are not logged."""
