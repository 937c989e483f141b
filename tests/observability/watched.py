"""What the tests of this room look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spillway.client import Client
from tests.support.certificates import CertificateFolders
from tests.support.otlp import Receiver
from tests.support.suite import Suite

__all__ = ["Watched"]


@dataclass(frozen=True, slots=True)
class Watched:
    """`receiver` gets every span, and hands it on to the sandbox's store, which tells it the way Jaeger does."""

    suite: Suite
    receiver: Receiver
    certificates: CertificateFolders

    def client(self, **options: Any) -> Client:
        return self.suite.client(credentials=self.certificates.credentials("client"), **options)
