"""Has the lists of large partitions' codes made beside the lookups.

Promises: lookups wait for nothing, and the event loop for a millisecond at most; what changed while lists were made is
in them before they are used, a bounded number of rows at a time; one partition at a time; lists that cannot be made are
logged, and the codes are then looked through whole, as before. So they are when the executor takes no work any more, as
at the end of the process.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import ListChanges, PartitionRows
from services.runtime.logs import get_logger

__all__ = ["CodeLister"]

CHANGES_INLINE_MAX = 256
"""Rows whose lists are found on the event loop, in about half a millisecond; more of them in the thread, as often as it
takes. Less than `CHANGES_TAKEN_MAX`: so few are the last."""


class CodeLister:
    """Makes lists in `executor` for partitions of at least `rows_min` coded rows."""

    def __init__(self, executor: Executor, *, rows_min: int) -> None:
        self._executor = executor
        self._rows_min = rows_min
        self._is_busy = False

    def look_at(self, partition: PartitionRows) -> None:
        """Begins lists of the partition's codes, if it should have others than it has."""
        if not self._is_busy and partition.wants_lists(self._rows_min):
            self._is_busy = True
            self._begin(partition, CodeLists.built, partition.begin_lists())

    def _begin(self, partition: PartitionRows, work: Callable[..., CodeLists], *given: object) -> None:
        try:
            making = asyncio.get_running_loop().run_in_executor(self._executor, work, *given)
        except RuntimeError:  # it was shut down
            partition.keep_lists()
            return
        making.add_done_callback(partial(self._made, partition))

    def _made(self, partition: PartitionRows, making: asyncio.Future[CodeLists]) -> None:
        if making.cancelled():
            return
        if (error := making.exception()) is not None:
            get_logger(__name__).error("cache_code_lists_not_made", error=type(error).__name__)
            partition.keep_lists()
            return  # and busy for ever: what fails once would fail, and cost, with every lookup
        lists, changes = making.result(), partition.changes()
        if changes is not None and len(changes.changed) > CHANGES_INLINE_MAX:
            self._begin(partition, _updated, lists, changes)
            return
        self._is_busy = False
        if changes is not None:
            partition.use_lists(_updated(lists, changes))


def _updated(lists: CodeLists, changes: ListChanges) -> CodeLists:
    lists.update(*changes)
    return lists
