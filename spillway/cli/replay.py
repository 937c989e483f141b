"""Runs recorded prompts through a running suite: one pass as it routes, one pinned to the flagship.

Promises: at most `concurrency` requests under way; the passes do not overlap, so neither slows the other; an error of
one prompt is a result like any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from spillway.cli.recording import RecordedRow
from spillway.cli.replay_figures import Result, judged
from spillway.client import AsyncClient
from spillway.errors import RequestError
from spillway.routing import CacheMode, RoutingOptions

__all__ = ["NoFlagshipError", "Pass", "baseline_options", "run_pass"]


class NoFlagshipError(Exception):
    """No answer named the flagship, so there is nothing to pin the second pass to."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The results, in the order of the rows, and the flagship that the suite named."""

    results: tuple[Result, ...]
    flagship_target: str


async def run_pass(
    client: AsyncClient,
    rows: Sequence[RecordedRow],
    *,
    options: RoutingOptions,
    concurrency: int,
    timeout_s: float,
    on_result: Callable[[Result], None],
) -> Pass:
    """Ask every row's prompt once."""
    results: list[Result | None] = [None] * len(rows)
    flagships: list[str] = []
    queue = iter(enumerate(rows))

    async def ask(row: RecordedRow) -> Result:
        started_s = time.monotonic()
        try:
            completion = await client.complete(row.prompt, options=options, timeout_s=timeout_s)
        except RequestError as error:
            reason = error.failure.reason or error.failure.code.name
            return Result(row.row_id, row.task, correct=False, latency_s=time.monotonic() - started_s, error=reason)
        if completion.cost.flagship_target and not flagships:
            flagships.append(completion.cost.flagship_target)
        return judged(row, completion, time.monotonic() - started_s)

    async def work(queue: Iterator[tuple[int, RecordedRow]]) -> None:
        for index, row in queue:
            result = await ask(row)
            results[index] = result
            on_result(result)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work(queue))
    done = tuple(result for result in results if result is not None)
    return Pass(done, flagships[0] if flagships else "")


def baseline_options(target: str) -> RoutingOptions:
    """The flagship alone, and never from the cache."""
    return RoutingOptions(pinned_target=target, cache_mode=CacheMode.BYPASS)
