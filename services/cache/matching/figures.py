"""The numbers and units of a text, in digits and in words. English.

Promises: pure, total, linear; numbers are sorted, as they are compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import NUMBER_WORDS, UNITS

__all__ = ["WORDED", "Figures", "figures_in"]

Figures = tuple[tuple[str, ...], frozenset[str]]
"""Numbers and identifiers, and units."""

_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MEASURE: Final = re.compile(r"^([+-]?\d+(?:\.\d+)?)([^\W\d_]+)$")
_MONEY: Final = re.compile(r"^([$€£¥₹])?([+-]?\d[\d.]*)(%)?$")
_SIGNS: Final = {"$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee", "%": "percent"}
WORDED: Final = frozenset(NUMBER_WORDS) | frozenset(UNITS)
"""Words that are numbers or units."""
_DIGIT: Final = re.compile(r"[0-9]")
_NONE: Final[Figures] = ((), NOTHING)


def figures_in(text: str, tokens: Sequence[str], words: Sequence[str]) -> Figures:
    """`tokens` and `words`: those of the text."""
    numbers: list[str] = []
    units: set[str] = set()
    if not WORDED.isdisjoint(words):
        numbers.extend([NUMBER_WORDS[word] for word in words if word in NUMBER_WORDS and word != "one"])
        units.update([UNITS[word] for word in words if word in UNITS])
    if not text.isascii() or _DIGIT.search(text):
        for token in tokens:
            if any(map(str.isnumeric, token)):
                _read_figure(token, numbers, units)
    return (tuple(sorted(numbers)), shared(units)) if numbers or units else _NONE


def _read_figure(token: str, numbers: list[str], units: set[str]) -> None:
    figure = _THOUSANDS.sub("", token.casefold())
    if (measure := _MEASURE.match(figure)) and measure[2] in UNITS:
        numbers.append(measure[1])
        units.add(UNITS[measure[2]])
    elif money := _MONEY.match(figure):
        numbers.append(money[2])
        units.update(_SIGNS[sign] for sign in (money[1], money[3]) if sign)
    else:
        numbers.append(figure)
