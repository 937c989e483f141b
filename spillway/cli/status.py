"""The state of a running suite on the screen: a live table on a terminal, one line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spillway.cli.supervisor import ProcessState, ProcessStatus

__all__ = ["LiveStatus", "PlainStatus", "StatusView", "open_status", "status_table"]

REFRESHES_PER_S = 4
EVENT_COLUMNS = 34
_STYLES = {
    ProcessState.STARTING: "yellow",
    ProcessState.SERVING: "green",
    ProcessState.RESTARTING: "bold red",
    ProcessState.STOPPING: "yellow",
    ProcessState.STOPPED: "dim",
    ProcessState.FAILED: "bold red",
}

Statuses = Callable[[], Sequence[ProcessStatus]]


class StatusView(Protocol):
    """Shows statuses from `__enter__` to `__exit__`; `changed` says that there is something new to show."""

    def __enter__(self) -> StatusView: ...

    def __exit__(self, *_: object) -> None: ...

    def changed(self) -> None:
        """Show the statuses as they are now."""


def open_status(console: Console, statuses: Statuses) -> StatusView:
    """The view that fits the console."""
    return LiveStatus(console, statuses) if console.is_terminal else PlainStatus(console, statuses)


class LiveStatus:
    """A table that stays at the bottom; what is printed meanwhile scrolls above it."""

    def __init__(self, console: Console, statuses: Statuses) -> None:
        self._live = Live(
            console=console,
            get_renderable=lambda: status_table(statuses()),
            refresh_per_second=REFRESHES_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> StatusView:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def changed(self) -> None:
        """Nothing to do: the table is drawn several times a second."""


class PlainStatus:
    """A line whenever a process comes into another state."""

    def __init__(self, console: Console, statuses: Statuses) -> None:
        self._console = console
        self._statuses = statuses
        self._seen: dict[str, tuple[ProcessState, int | None]] = {}

    def __enter__(self) -> StatusView:
        return self

    def __exit__(self, *_: object) -> None:
        self.changed()

    def changed(self) -> None:
        """Print what is new since the last time."""
        for status in self._statuses():
            seen = (status.state, status.pid)
            is_awaited = status.state is ProcessState.STARTING and status.pid is None  # its pid comes at once
            if self._seen.get(status.name) != seen and not is_awaited:
                self._seen[status.name] = seen
                pid = "" if status.pid is None else f"pid {status.pid}"
                restarts = f"restarts {status.restarts}" if status.restarts else ""
                parts = (f"{status.name:<13}", f"{status.state.value:<10}", pid, status.address, restarts)
                self._console.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)


def status_table(statuses: Sequence[ProcessStatus]) -> RenderableType:
    """One row for each process."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("service", no_wrap=True, style="bold")
    table.add_column("state", no_wrap=True, min_width=max(len(state) for state in ProcessState))
    table.add_column("pid", no_wrap=True, justify="right")
    table.add_column("address", no_wrap=True)
    table.add_column("restarts", no_wrap=True, justify="right")
    table.add_column("last log event", no_wrap=True, overflow="ellipsis", style="dim", max_width=EVENT_COLUMNS)
    for status in statuses:
        table.add_row(
            Text(status.name),
            Text(status.state.value, style=_STYLES[status.state]),
            "" if status.pid is None else str(status.pid),
            Text(status.address.removeprefix("http://")),
            Text(str(status.restarts), style="red" if status.restarts else "dim"),
            Text(status.last_event),
        )
    return table
