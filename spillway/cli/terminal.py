"""How the command speaks: one console for answers, one for remarks, and how numbers are written.

Promises: colours only on a terminal and never with NO_COLOR; 100 columns where there is no terminal to ask. What models
and servers say cannot command the terminal: of the control characters only new lines and tabs reach it, in every text,
a stream's pieces included. What is piped elsewhere stays as it was said.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

__all__ = [
    "HarmlessConsole",
    "LastingConsole",
    "harmless_json",
    "ms",
    "open_console",
    "percent",
    "saved",
    "titled_table",
    "usd",
]

PLAIN_COLUMNS = 100
NANO = 1_000_000_000
# C0 and C1 with DEL between them: each by itself, so that no sequence survives, wherever a stream is cut.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# JSON escapes C0 itself.
_JSON_CONTROLS = re.compile(r"[\x7f-\x9f]")


def open_console(*, remarks: bool = False) -> Console:
    """The console for answers (standard output) or, with `remarks`, for all else (standard error)."""
    stream = sys.stderr if remarks else sys.stdout
    return HarmlessConsole(file=stream, width=None if stream.isatty() else PLAIN_COLUMNS, highlight=False)


def titled_table(title: str) -> Table:
    """A table without lines, below its title."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)


def harmless_json(text: str) -> str:
    """The same JSON, with the control characters that JSON allows written as escapes."""
    return _JSON_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class HarmlessConsole(Console):
    """On a terminal, control characters in texts are left out; rich's own commands are no texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Called by rich for all that is printed."""
        segments = super().render(renderable, options)
        if not (self.is_terminal or self.file.isatty()):
            return segments
        return (
            segment if segment.control else Segment(_CONTROLS.sub("", segment.text), segment.style)
            for segment in segments
        )


class LastingConsole(HarmlessConsole):
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
