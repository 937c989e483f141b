"""What processes under a benchmark take; they are started with tests.support.processes."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["cpu_s", "rss_bytes"]


def cpu_s(pid: int) -> float:
    """CPU seconds so far, of all threads, to the nanosecond (/proc/PID/stat counts in ticks of 10 ms)."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in tasks.glob("*/schedstat")) / 1e9


def rss_bytes(pid: int) -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
