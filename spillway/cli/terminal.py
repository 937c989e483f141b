"""How the command speaks: one console for answers, one for remarks, and how numbers are written.

Promises: colours only on a terminal and never with NO_COLOR; 100 columns where there is no terminal to ask.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

from rich.console import Console

__all__ = ["LastingConsole", "ms", "open_console", "percent", "saved", "usd"]

PLAIN_COLUMNS = 100
NANO = 1_000_000_000


def open_console(*, remarks: bool = False) -> Console:
    """The console for answers (standard output) or, with `remarks`, for all else (standard error)."""
    stream = sys.stderr if remarks else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PLAIN_COLUMNS, highlight=False)


class LastingConsole(Console):
    """Standard output of a command that outlives its reader (`spillway up | head`): then it falls silent, and tells."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        super().__init__(width=None if sys.stdout.isatty() else PLAIN_COLUMNS, highlight=False)
        self._on_lost = on_lost

    def on_broken_pipe(self) -> None:
        """Called by rich, whose own version ends the process on the spot."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        self._on_lost()


def usd(nanousd: int) -> str:
    """Money for people: cents from a dollar on, below that three significant digits, however little it is."""
    dollars = abs(nanousd) / NANO
    if not nanousd:
        return "$0"
    places = 2 if dollars >= 1 else min(9, 2 - math.floor(math.log10(dollars)))
    return f"{'-' if nanousd < 0 else ''}${dollars:.{places}f}"


def ms(seconds: float) -> str:
    """A time for people."""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def percent(ratio: float | None, places: int = 1) -> str:
    """A share; a dash when there is none."""
    return "–" if ratio is None else f"{ratio * 100:.{places}f} %"


def saved(cost_nanousd: int, flagship_nanousd: int) -> float | None:
    """The share of the flagship's cost that was not spent; negative when more was. None without a flagship's cost."""
    return 1 - cost_nanousd / flagship_nanousd if flagship_nanousd > 0 else None
