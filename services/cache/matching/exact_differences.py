"""What two questions name exactly, and not alike: numbers, units, quoted texts, ordinals, code and symbols; and what of
them is not shown.

Promises: pure, symmetric, total, linear in the texts for each thing quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.cache.matching.asking import SPANS
from services.cache.matching.reading import Reading

__all__ = ["exact_differences"]


def exact_differences(a: Reading, b: Reading) -> Iterator[str]:
    """Each as a constant sentence that quotes no question; two questions have at most one of a kind."""
    if a.hidden != b.hidden:
        yield "hidden: characters that are not shown differ"
    if a.numbers != b.numbers:
        yield "numbers: numbers or identifiers differ"
    if a.units != b.units and not _is_span(a, b) and not _is_span(b, a):
        yield "units: units or dates differ"
    if a.literals != b.literals and not (_has_unquoted(a, b) or _has_unquoted(b, a)):
        yield "literals: quoted texts differ"
    if a.traits.ordinals != b.traits.ordinals:
        yield "ordinals: one picks out another of several"
    if a.code != b.code:
        yield "code: code, names with symbols or symbols differ"
    elif ("\n" in a.exact or "\n" in b.exact) and a.exact.split() == b.exact.split():
        yield "code: lines are indented or broken otherwise"


def _has_unquoted(a: Reading, b: Reading) -> bool:
    """Whether `b` quotes nothing, and has what `a` quotes just so, and more than one word or no word: a title of one
    word is often a common one."""
    return not b.literals and all(
        not quoted.isalpha() and re.search(rf"(?<!\S){re.escape(quoted)}(?![^\s?.,])", b.normal)
        for quoted in a.literals
    )


def _is_span(a: Reading, b: Reading) -> bool:
    """Whether all that `a` has of units are spans of time of which `b` does not speak at all."""
    return a.units <= SPANS and not b.units
