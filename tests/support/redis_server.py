"""A redis-server of our own for tests: on a free loopback port, killed, frozen and restarted by process id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["RedisServer", "free_port", "redis_server"]

START_WAIT_S = 20.0
START_TRIES_MAX = 5


class RedisServer:
    """One redis-server; `start` again after `kill` is a restart on the same port.

    Without persistence it comes back empty; `options` may ask for another one, as on its command line.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed (Debian: apt-get install redis-server)"
        self._program = program
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str, loads: bool = False) -> None:
        """`options` are of this run alone. `loads`: returns while the server still loads what it kept."""
        for _ in range(START_TRIES_MAX):
            self.port = self.port or free_port()
            command = [
                self._program,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
                "--dir",
                str(self._directory),
                *self._options,
                *options,
            ]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            if self._answers(loads=loads):
                return
            self.stop()
            self.port = 0
        raise AssertionError("redis-server does not start")

    def _answers(self, *, loads: bool) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with self.client(retries=False) as client:
                    return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.BusyLoadingError:
                if loads:
                    return True
                time.sleep(0.01)
            except redis.ConnectionError:  # not there yet, or still loading
                time.sleep(0.01)
        return False

    def client(self, *, retries: bool = True) -> redis.Redis:
        """A plain client, to look at the server's contents. `retries`: as redis-py does by itself, for seconds."""
        options: dict[str, Any] = {} if retries else {"retry": Retry(NoBackoff(), 0)}
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10, protocol=2, **options)

    def freeze(self) -> None:
        """The server keeps its connections and says nothing any more."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9: connections break, memory is lost."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not running"
        self._process.send_signal(number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running, empty server."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
