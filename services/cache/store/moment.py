"""A moment in the history of invalidations, as a text: what a lookup hands out and the store of its answer brings back.

Promises: pure; it says nothing of a request, an entry or an answer; reading is total: what is no moment reads as None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MOMENT_CHARS_MAX", "Moment", "parse_moment"]

MOMENT_CHARS_MAX = 128

_SHAPE = re.compile(r"([!-~]{1,32}) (0|[1-9]\d{0,14}) (0|[1-9]\d{0,14}) (\d{1,15})(?: ([!-~]{1,32}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Moment:
    """`number` invalidations and `deletions` by key had come in this `era` of the history. `minute`: the Unix time, as
    far as the store needs it; no finer, so that moments with nothing between them are mostly the same text. `last`: the
    name of the latest of all those, where its number may be given to another one: by a server that takes over and lacks
    what its predecessor had acknowledged."""

    era: str
    number: int
    deletions: int = 0
    minute: int = 0
    last: str = ""

    @property
    def text(self) -> str:
        """For `parse_moment`."""
        return f"{self.era} {self.number} {self.deletions} {self.minute} {self.last}".rstrip()

    @property
    def stamp(self) -> str:
        """As an entry that is stored at this moment has it."""
        return f"{self.era} {self.number}"


def parse_moment(text: str) -> Moment | None:
    """The moment with that text."""
    found = _SHAPE.fullmatch(text)
    return None if found is None else Moment(found[1], int(found[2]), int(found[3]), int(found[4]), found[5] or "")
