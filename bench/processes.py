"""Processes under a benchmark, and what they take."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["REPOSITORY", "Server", "cpu_s", "rss_bytes"]

REPOSITORY: Final = Path(__file__).resolve().parents[1]
STOP_TIMEOUT_S: Final = 60.0


class Server:
    """A Python process that prints a JSON line when it is ready."""

    def __init__(self, *args: str) -> None:
        self._process = subprocess.Popen([sys.executable, *args], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self._process.stdout.readline())

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def cpu_s(self) -> float:
        """See `cpu_s`."""
        return cpu_s(self.pid)

    def rss_bytes(self) -> int:
        """See `rss_bytes`."""
        return rss_bytes(self.pid)

    def stop(self) -> None:
        """Ends it as an orchestrator of containers does."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_TIMEOUT_S)


def cpu_s(pid: int) -> float:
    """CPU seconds so far, of all threads, to the nanosecond (/proc/PID/stat counts in ticks of 10 ms)."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in tasks.glob("*/schedstat")) / 1e9


def rss_bytes(pid: int) -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
