"""Terse forms of labelled questions: what people type into a search field.

Promises: made by rule from the pairs alone, the same for the same seed; a terse question keeps every word of content,
number and name of the question it stands for, and so its label; it belongs to the group of its pair.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from lab.cache_data import Pairs
from services.cache.matching.lexicon import AUXILIARIES, FUNCTION_WORDS
from services.cache.matching.reading import read

__all__ = ["terse_form", "terse_pairs"]

SHARE: Final = 0.12
"""Of the pairs, so many are looked at for a terse form; about four of five have one."""

TWINS_EVERY: Final = 3
"""Of so many terse questions, one is also paired with the question that it was made from."""

WORDS_MIN: Final = 2
WORDS_MAX: Final = 8

_FORM: Final = FUNCTION_WORDS | AUXILIARIES.keys()
_AROUND: Final = ".,!?;:'\""


def terse_form(text: str) -> str:
    """The question without its words of form; empty where nothing, too little or too much would be left, or where it
    is not English."""
    words = text.replace("?", " ").split()
    kept = [word for word in words if word.casefold().strip(_AROUND) not in _FORM]
    fits = WORDS_MIN <= len(kept) <= WORDS_MAX and len(kept) < len(words)
    return " ".join(kept) if fits and read(text).english and not read(text).code else ""


def terse_pairs(pairs: Pairs, groups: npt.NDArray[np.int64], *, seed: int) -> tuple[Pairs, npt.NDArray[np.int64]]:
    """Pairs of which one question is terse, and their groups."""
    generator = np.random.default_rng(seed)
    a: list[str] = []
    b: list[str] = []
    same: list[bool] = []
    found: list[int] = []
    for row in generator.permutation(len(pairs))[: round(SHARE * len(pairs))].tolist():
        terse = terse_form(pairs.a[row])
        if not terse:
            continue
        partners = [(pairs.b[row], bool(pairs.same[row]))]
        if len(a) % TWINS_EVERY == 0:
            partners.append((pairs.a[row], True))
        for partner, is_same in partners:
            a.append(terse)
            b.append(partner)
            same.append(is_same)
            found.append(int(groups[row]))
    return Pairs(tuple(a), tuple(b), np.asarray(same, dtype=np.bool_)), np.asarray(found, dtype=np.int64)
