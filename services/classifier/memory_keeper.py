"""Keeps the memory of clusters over restarts: one JSON file, written whole and put in place by renaming.

Promises: reads and writes happen in a thread, never on a caller's path; what is in the file is always one complete
state; a file that cannot be read is logged, set aside as FILE.corrupt, and the memory begins anew; a file that cannot
be written is logged and tried again. One file belongs to one process: two would overwrite each other's.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.classifier.memory import ClusterMemory, MemoryCorruptError
from services.classifier.regular_file import read_regular
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["SAVE_INTERVAL_S", "MemoryKeeper"]

# What a killed process loses at most.
SAVE_INTERVAL_S: Final = 10.0
# Three heads of 1,024 clusters and 8 tiers are some 3 MB.
FILE_BYTES_MAX: Final = 16 * 1024 * 1024


class MemoryKeeper:
    """Belongs to one event loop: `load`, then `start`, and `close` at the end."""

    def __init__(self, memory: ClusterMemory, path: Path, clock: Clock) -> None:
        self._memory = memory
        self._path = path
        self._clock = clock
        self._saved = memory.changes
        self._task: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._logger = get_logger(__name__)

    async def load(self) -> None:
        """Takes over what was saved, if anything was."""
        try:
            self._memory.load(await asyncio.to_thread(self._read))
        except FileNotFoundError:
            pass  # the first start
        except (MemoryCorruptError, ValueError, RecursionError) as error:
            self._logger.warning("cluster_memory_corrupt", file=str(self._path), error=type(error).__name__)
            with suppress(OSError):
                await asyncio.to_thread(os.replace, self._path, self._beside(".corrupt"))
        except OSError as error:
            self._logger.warning("cluster_memory_unreadable", file=str(self._path), error=type(error).__name__)
        self._saved = self._memory.changes

    def start(self) -> None:
        """Saves from now on, every SAVE_INTERVAL_S if something was learnt."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def save(self) -> None:
        """Saves if there is something new; a failure is logged."""
        changes = self._memory.changes
        if changes == self._saved:
            return
        # Taken on the loop, so that it is one state; written in a thread.
        document = self._memory.dump(self._clock.unix())
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, document))
        try:
            # A thread cannot be cancelled; `close` waits for it, so that no two write at once.
            await asyncio.shield(self._writing)
        except OSError as error:
            self._logger.warning("cluster_memory_not_saved", file=str(self._path), error=type(error).__name__)
        else:
            self._saved = changes

    async def close(self) -> None:
        """Saves a last time."""
        if self._task is not None:
            self._task.cancel()
            # However it ended: the last save is still to come.
            await asyncio.wait([self._task])
            self._task = None
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self.save()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(SAVE_INTERVAL_S)
            await self.save()

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    def _read(self) -> object:
        data = read_regular(self._path, FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise MemoryCorruptError("the file is too large")
        document: object = json.loads(data)
        return document

    def _write(self, document: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._beside(".new")
        with written.open("w") as stream:
            json.dump(document, stream)
            stream.flush()
            os.fsync(stream.fileno())
        written.replace(self._path)
