"""`spillway replay`: recorded prompts through the running suite, with a progress bar and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spillway.cli.recording import RecordedRow, RecordingError, read_rows, sample
from spillway.cli.replay import NoFlagshipError, Pass, baseline_options, run_pass
from spillway.cli.replay_figures import Figures, Result, figures_by_task
from spillway.cli.replay_view import replay_view
from spillway.cli.terminal import open_console
from spillway.client import AsyncClient
from spillway.routing import CacheMode, RoutingOptions

__all__ = ["ReplayOrder", "replay"]

# Where there is no terminal: a line for each tenth of the way.
PLAIN_STEPS = 10
PROBE = "Is anybody there?"


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What to replay and how. `baseline_target` empty: the flagship that the suite names."""

    files: tuple[Path, ...]
    concurrency: int = 8
    limit: int | None = None
    sample_seed: int = 0
    use_cache: bool = False
    measured: bool = True
    baseline_target: str = ""
    timeout_s: float = 120.0
    json_out: Path | None = None


async def replay(target: str, order: ReplayOrder) -> None:
    """Run it and print the report. Raises RecordingError, NoFlagshipError, RequestError when no suite answers."""
    rows = sample(read_rows(order.files), order.limit, order.sample_seed)
    if not rows:
        raise RecordingError("there are no rows in these files")
    remarks = open_console(remarks=True)
    async with AsyncClient(target) as client:
        await client.explain(PROBE)  # a suite that is not there is one error, not one per row
        cache = CacheMode.USE if order.use_cache else CacheMode.BYPASS
        routed = await _pass(client, rows, RoutingOptions(cache_mode=cache), order, "routed", remarks)
        flagship_target = order.baseline_target or routed.flagship_target
        flagship: tuple[Result, ...] | None = None
        if order.measured:
            if not flagship_target:
                raise NoFlagshipError("no answer names the flagship: name one with --baseline-model")
            options = baseline_options(flagship_target)
            flagship = (await _pass(client, rows, options, order, flagship_target, remarks)).results
    found = figures_by_task(routed.results, flagship)
    open_console().print(replay_view(found, flagship_target))
    if order.json_out is not None:
        _write(order.json_out, order, flagship_target, found, routed.results, flagship)
        remarks.print(f"written: {order.json_out}", style="dim", soft_wrap=True)


async def _pass(
    client: AsyncClient,
    rows: Sequence[RecordedRow],
    options: RoutingOptions,
    order: ReplayOrder,
    name: str,
    console: Console,
) -> Pass:
    with _progress(console, name, len(rows)) as advance:
        return await run_pass(
            client,
            rows,
            options=options,
            concurrency=order.concurrency,
            timeout_s=order.timeout_s,
            on_result=lambda _: advance(),
        )


class _Steps:
    """Progress in plain lines."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        tenths = self._done * PLAIN_STEPS // self._total
        if tenths != (self._done - 1) * PLAIN_STEPS // self._total:
            self._console.print(f"{self._name}: {self._done} of {self._total}")


@contextmanager
def _progress(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    if not console.is_terminal:
        yield _Steps(console, name, total).advance
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(40), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)


def _write(
    path: Path,
    order: ReplayOrder,
    flagship_target: str,
    found: Sequence[Figures],
    routed: Sequence[Result],
    flagship: Sequence[Result] | None,
) -> None:
    """The figures and every result; prompts and answers are not repeated, rows are named by their id."""
    value = {
        "files": [str(file) for file in order.files],
        "limit": order.limit,
        "sample_seed": order.sample_seed,
        "cache": "use" if order.use_cache else "bypass",
        "baseline": "measured" if order.measured else "estimate",
        "flagship_target": flagship_target,
        "figures": [asdict(one) for one in found],
        "routed": [asdict(result) for result in routed],
        "flagship": None if flagship is None else [asdict(result) for result in flagship],
    }
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
