"""`spillway breakers`: the state of every target in every executor, live on a terminal, once elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spillway.cli.addresses import NoServiceError
from spillway.cli.executors import ExecutorHealth, Executors, TargetHealth
from spillway.cli.terminal import ms, open_console

__all__ = ["breakers_json", "breakers_table", "show_breakers"]

_STYLES = {"closed": "green", "half_open": "yellow", "open": "bold red"}
_MODEL_COLUMNS = 18
_STATE_COLUMNS = 16  # "open 12 s (peer)": the columns beside it do not move when it opens


async def show_breakers(addresses: Sequence[str], *, interval_s: float, once: bool, as_json: bool) -> None:
    """Prints the states; on a terminal, unless `once`, again every `interval_s` seconds until it is ended.

    Raises NoServiceError when none answers the first time.
    """
    console = open_console()
    async with Executors(addresses) as executors:
        seen = await executors.ask()
        if all(one.error for one in seen):
            where = ", ".join(f"{one.address} ({one.error})" for one in seen) or "no address"
            raise NoServiceError(f"no executor answers: {where}\nIs the suite running? Another address: --target.")
        if as_json:
            print(breakers_json(seen))
            return
        if once or not console.is_terminal:
            console.print(breakers_table(seen))
            return
        with Live(breakers_table(seen), console=console, auto_refresh=False) as live:
            live.refresh()
            while True:
                await asyncio.sleep(interval_s)
                live.update(breakers_table(await executors.ask()), refresh=True)


def breakers_json(seen: Sequence[ExecutorHealth]) -> str:
    """All that is known, for programs."""
    return json.dumps({"executors": [asdict(one) for one in seen]}, indent=2, ensure_ascii=False)


def breakers_table(seen: Sequence[ExecutorHealth]) -> RenderableType:
    """A part for each executor, in it a row for each target."""
    parts: list[RenderableType] = []
    for one in seen:
        parts.append(Text.assemble((one.address, "bold"), (f" no answer: {one.error}" if one.error else "", "red")))
        if not one.error:
            parts.append(_table(one.targets))
    return Group(*parts)


def _table(targets: Sequence[TargetHealth]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("tier", no_wrap=True)
    table.add_column("target", no_wrap=True, style="bold")
    table.add_column("model", no_wrap=True, overflow="ellipsis", style="dim", max_width=_MODEL_COLUMNS)
    table.add_column("breaker", no_wrap=True, min_width=_STATE_COLUMNS)
    for name in ("calls", "failed", "slow", "in flight", "average"):
        table.add_column(name, no_wrap=True, justify="right")
    for target in targets:
        table.add_row(*_cells(target))
    return table


def _cells(target: TargetHealth) -> list[Text]:
    return [
        Text(target.tier),
        Text(target.target),
        Text(target.model),
        _state(target),
        Text(str(target.window_calls)),
        Text(str(target.window_failures), style="red" if target.window_failures else "dim"),
        Text(str(target.window_slow), style="yellow" if target.window_slow else "dim"),
        Text(str(target.in_flight), style="" if target.in_flight else "dim"),
        Text("–" if target.latency_average_s is None else ms(target.latency_average_s)),
    ]


def _state(target: TargetHealth) -> Text:
    text = Text(target.state.replace("_", "-"), style=_STYLES.get(target.state, ""))
    if target.state == "open":
        text.append(f" {ms(target.open_for_s)}")
    if target.opened_by_peer:
        text.append(" (peer)", style="dim")
    return text
