"""The decision log: one JSON line per request, appended to a file by one thread.

Promises: `offer` never blocks and never fails; a record that finds the queue full, or that cannot be written, is
dropped and counted. Records are written in batches, each with a single write to a file opened for appending, so that
several processes may share it. A line that was torn (a full disk, a killed process) is ended before the next one
begins, so that it costs itself alone. The file is readable by its owner only.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from services.orchestrator.record import DecisionRecord, json_line
from services.runtime.logs import describe_exception, get_logger

__all__ = ["DecisionLog"]

_log = get_logger(__name__)

BATCH_RECORDS_MAX = 256
_FILE_MODE = 0o600


class DecisionLog:
    """A log at `path`. At most `queued_max` records wait; `on_drop` is called with the number of records dropped.

    `on_drop` is called from the writer's thread too. Use from any thread; `close` once.
    """

    def __init__(self, path: Path, *, queued_max: int, on_drop: Callable[[int], None] = lambda count: None) -> None:
        self._path = path
        self._on_drop = on_drop
        # None ends the writer.
        self._queue: queue.Queue[DecisionRecord | None] = queue.Queue(queued_max)
        self._lock = threading.Lock()
        self._closed = False
        self.dropped = 0
        self.written = 0
        self._failing = False
        self._torn = False
        self._fd: int | None = None
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def offer(self, record: DecisionRecord) -> bool:
        """Queues `record`; False when it was dropped."""
        if not self._closed:
            try:
                self._queue.put_nowait(record)
                return True
            except queue.Full:
                pass
        self._drop(1)
        return False

    def close(self, timeout_s: float) -> bool:
        """Writes what is queued and ends the writer. Blocks for at most `timeout_s`; False when that was not enough."""
        self._closed = True
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count
        self._on_drop(count)

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._next_batch()
            if batch:
                self._write(batch)
        if self._fd is not None:
            os.close(self._fd)

    def _next_batch(self) -> tuple[list[DecisionRecord], bool]:
        """What is queued now, at least one record; and whether the log goes on."""
        batch: list[DecisionRecord] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == BATCH_RECORDS_MAX:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _write(self, batch: list[DecisionRecord]) -> None:
        lines = [line for record in batch if (line := self._line(record)) is not None]
        kept = 0
        try:
            kept = self._append(lines)
        except OSError as error:
            if not self._failing:  # once per outage, not once per batch
                _log.error("decision_log_failed", path=str(self._path), errno=error.errno)
        self._failing = kept < len(lines)
        self.written += kept
        if self._failing:
            self._drop(len(lines) - kept)

    def _line(self, record: DecisionRecord) -> bytes | None:
        try:
            return json_line(record)
        except (ValueError, json_format.Error) as error:  # a value out of its range: this record alone is lost
            _log.error("decision_record_unwritable", request_id=record.request_id, **describe_exception(error))
            self._drop(1)
            return None

    def _append(self, lines: list[bytes]) -> int:
        """How many whole lines the file took. Raises OSError when it took nothing."""
        if self._fd is None:
            self._fd = self._open()
        start = b"\n" if self._torn else b""
        data = start + b"".join(lines)
        try:
            taken = os.write(self._fd, data)
        except OSError:
            # Perhaps the disk or the file is another one by the next batch.
            os.close(self._fd)
            self._fd = None
            raise
        end = len(start)
        for kept, line in enumerate(lines):
            end += len(line)
            if end > taken:
                self._torn = data[taken - 1 : taken] != b"\n"
                return kept
        self._torn = False
        return len(lines)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        size = os.fstat(fd).st_size
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        return fd
