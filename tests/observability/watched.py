"""What the tests of this room look at."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from spillway.client import Client
from tests.support.certificates import CertificateFolders
from tests.support.otlp import Receiver, Span
from tests.support.suite import Suite

__all__ = ["Hook", "Watched", "is_whole"]


def is_whole(root: Span, parts: tuple[str, ...]) -> bool:
    """Whether there is a span of each name, and no call of a service without its other side."""
    calls = [span for span in root.walk() if span.kind == "client" and span.name.startswith("spillway.")]
    return all(root.find(part) for part in parts) and all(len(call.children) == 1 for call in calls)


class Hook:
    """Takes webhooks; what is sent to /gone it does not want ever again."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(410 if self.path.startswith("/gone") else 204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Says nothing."""


@dataclass(frozen=True, slots=True)
class Watched:
    """`receiver` gets every span, and hands it on to the sandbox's store, which tells it the way Jaeger does."""

    suite: Suite
    receiver: Receiver
    certificates: CertificateFolders
    hook: Hook

    def client(self, **options: Any) -> Client:
        return self.suite.client(credentials=self.certificates.credentials("client"), **options)
