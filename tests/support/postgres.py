"""A PostgreSQL server of our own for tests: initdb as an unprivileged user, a unix socket, ended by process id.

One server serves a whole run, since making one takes seconds; every test gets a database of its own.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

START_WAIT_S = 60.0
PACKAGED = Path("/usr/lib/postgresql")
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",  # the machine under the tests does not lose its power
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
}


def _program(name: str) -> str:
    packaged = sorted(PACKAGED.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or (str(packaged[-1]) if packaged else None)
    assert found is not None, f"{name} is not installed (Debian: apt-get install postgresql)"
    return found


def _unprivileged() -> str | None:
    """Who the server runs as, when we are root, which it refuses; None: ourselves."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresServer:
    """One server in a directory of its own under /tmp: the path of a socket must be short, and its user gets there."""

    def __init__(self) -> None:
        self._user = _unprivileged()
        self._directory = Path(tempfile.mkdtemp(prefix="spillway-pg-", dir="/tmp"))
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        data = str(self._directory / "data")
        command = [_program("initdb"), "--pgdata", data, "--username", "postgres", "--auth", "trust"]
        self._run([*command, "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"])

    def start(self) -> None:
        """What a killed one left running holds its memory for a moment: a new one then ends, and another is tried."""
        deadline = time.monotonic() + START_WAIT_S
        self._process = self._begin()
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
                if self._process.poll() is not None:
                    self._process = self._begin()
            else:
                return

    def _begin(self) -> subprocess.Popen[bytes]:
        settings = [f"--{name}={value}" for name, value in OPTIONS.items()]
        command = [_program("postgres"), "-D", str(self._directory / "data"), "-k", str(self._directory), *settings]
        with (self._directory / "server.log").open("ab") as log:
            return subprocess.Popen(
                command, user=self._user, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def log(self) -> str:
        return (self._directory / "server.log").read_text(errors="replace")[-4_000:]

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"ledger_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self._directory}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(host=str(self._directory), user="postgres", dbname="postgres", autocommit=True) as session:
            session.execute(statement.encode())

    def kill(self) -> None:
        """kill -9, as in a crash: the server comes back with what was committed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server, and removes what it left."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._directory)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "not running"
        self._process.send_signal(number)
        self._process.wait()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, user=self._user, cwd=self._directory, check=False, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server for all tests of a run."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A database of one's own, empty."""
    return postgres_server.new_database()
