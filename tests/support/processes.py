"""Real processes for tests: started on free loopback ports, waited for by their ready line, stopped by process id."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Process", "wait_until"]

REPOSITORY = Path(__file__).resolve().parents[2]
READY_WAIT_S = 60.0


def wait_until(condition: Callable[[], Any], *, what: str, within_s: float = 30.0) -> Any:
    """The first truthy value of `condition`, asked again and again; AssertionError when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


class Process:
    """One `python -m MODULE ARGS` that prints a JSON line when it is ready."""

    def __init__(self, module: str, args: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.module = module
        self._log = log
        with log.open("ab") as stderr:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                cwd=REPOSITORY,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stdout:
            for line in stdout:
                self._lines.put(line)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def ready(self, within_s: float = READY_WAIT_S) -> dict[str, Any]:
        """The fields of the ready line."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                if self._popen.poll() is not None:
                    break
                continue
            fields: dict[str, Any] = json.loads(line)
            return fields
        raise AssertionError(f"{self.module} did not get ready:\n{self.log()[-4000:]}")

    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and its exit code; kill -9 when it takes longer."""
        if self._popen.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self._popen.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._popen.returncode

    def signal(self, number: signal.Signals) -> None:
        if self._popen.poll() is None:
            os.kill(self._popen.pid, number)
