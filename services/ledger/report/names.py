"""Names that callers chose (tenants, endpoints, tags) as they may be shown.

Promises: pure. What is shown commands nobody: no character that a terminal or a browser obeys, moves or turns the text
by, and in a spreadsheet no formula.
"""

from __future__ import annotations

from typing import Final

__all__ = ["cell", "harmless", "visible"]

_INSTEAD: Final = "\ufffd"
# What spreadsheets take for a formula at the start of a cell (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@")


def visible(text: str) -> str:
    """With U+FFFD for every character that is not to be seen: controls, new lines, marks of direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _INSTEAD for c in text)


def harmless(text: str) -> str:
    """A text of several lines, each `visible`."""
    return "\n".join(visible(line) for line in text.split("\n"))


def cell(text: str) -> str:
    """For a CSV file: visible, and with an apostrophe before what would be a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
