"""What the tests of this room look at."""

from __future__ import annotations

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from spillway.client import Client
from tests.support.certificates import CertificateFolders
from tests.support.loopback_http import LoopbackServer
from tests.support.otlp import Receiver, Span
from tests.support.suite import Suite

__all__ = ["Hook", "Watched", "is_whole"]


def is_whole(root: Span, parts: tuple[str, ...]) -> bool:
    """Whether there is a span of each name, and no call of a service without its other side."""
    calls = [span for span in root.walk() if span.kind == "client" and span.name.startswith("spillway.")]
    return all(root.find(part) for part in parts) and all(len(call.children) == 1 for call in calls)


class Hook(LoopbackServer):
    """Takes webhooks; what is sent to /gone it does not want ever again."""

    def __init__(self) -> None:
        super().__init__(_Taker)


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
