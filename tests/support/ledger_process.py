"""A ledger's process over a database, and its stub."""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import yaml

from spillway.v1 import ledger_pb2_grpc
from tests.support.processes import Process
from tests.support.smallest import SMALLEST

__all__ = ["LedgerProcess"]


class LedgerProcess:
    """Started in `__enter__`, stopped in `__exit__`; killed, frozen and started again at the same address."""

    def __init__(self, folder: Path, url: str, **ledger: Any) -> None:
        self._folder = folder
        self.config = folder / "ledger.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    **SMALLEST,
                    "version": 1,
                    "ledger": {"database_url": url, **ledger},
                    "limits": {"drain_s": 0, "grace_s": 2},
                }
            )
        )
        self.address = "127.0.0.1:0"
        self.process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            self.process.stop()

    def start(self) -> None:
        """Returns once it serves."""
        self.launch()
        assert self.process is not None
        self.address = str(self.process.ready()["listen"])

    def launch(self) -> None:
        """Does not wait for it."""
        arguments = ["--config", str(self.config), "--listen", self.address]
        self.process = Process("services.ledger", arguments, {}, self._folder / "ledger.log")

    def log(self) -> str:
        """What it wrote to standard error."""
        assert self.process is not None
        return self.process.log()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()

    def freeze(self) -> None:
        """It keeps its connections and says nothing any more."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    def channel(self) -> grpc.Channel:
        """To be closed by the caller."""
        return grpc.insecure_channel(self.address)

    def stub(self, channel: grpc.Channel) -> ledger_pb2_grpc.LedgerServiceStub:
        return ledger_pb2_grpc.LedgerServiceStub(channel)
