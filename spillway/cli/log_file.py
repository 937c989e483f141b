"""The log file of one process: emptied at the start, bounded in size, with its last lines at hand.

Promises: never more than two files of LOG_BYTES_MAX each: when the file is full it becomes `<name>.log.1`, in the place
of the older one, and a new one begins.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import BinaryIO

__all__ = ["LOG_BYTES_MAX", "LogFile"]

LOG_BYTES_MAX = 16 * 1024 * 1024
TAIL_LINES = 12
TAIL_BYTES = 8_192


class LogFile:
    """A log being written. Not thread-safe."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append; the chunk is written whole."""
        if self._bytes and self._bytes + len(chunk) > self._bytes_max:
            self._file.close()
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self._file = self.path.open("wb", buffering=0)
            self._bytes = 0
        self._file.write(chunk)
        self._bytes += len(chunk)

    def tail(self) -> list[str]:
        """The last lines that were written to the current file."""
        with self.path.open("rb") as file:
            file.seek(max(0, self._bytes - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
        return list(deque(text.splitlines(), maxlen=TAIL_LINES))

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()
