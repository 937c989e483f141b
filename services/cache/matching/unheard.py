"""What a question asks for, or denies, that none of an answer's own questions does. English.

Promises: pure, total; a refusal is a constant sentence that quotes no question. For answers of which few questions are
known: what they do not speak of, nothing shows that the answer does. Of an answer that many share it would refuse what
is only worded otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.cache.matching.alignment import has_word
from services.cache.matching.contraries import GENERIC_WORDS
from services.cache.matching.inflection import forms_of
from services.cache.matching.lexicon import LIGHT_WORDS
from services.cache.matching.reading import Reading

__all__ = ["asks_unheard", "has_unheard_matter", "wordings"]

_FORMAL: Final = GENERIC_WORDS | LIGHT_WORDS

_DENIED: Final = "denial: it denies what the answer's own questions say, or says what they deny"
_MEASURE: Final = "asking: it asks for a measure that none of the answer's own questions asks for"
_OUTCOME: Final = "asking: it asks what happens, which none of the answer's own questions does"
_ACTOR: Final = "actor: somebody else acts than in all of the answer's own questions"


def wordings(rows: Sequence[Reading]) -> int:
    """How many different sets of words of matter they have."""
    return len({row.traits.matter for row in rows})


def has_unheard_matter(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether it has a word of matter that none of them has."""
    return any(not any(has_word(word, asked, row) for row in rows) for word in asked.traits.matter - _FORMAL)


def asks_unheard(asked: Reading, rows: Sequence[Reading]) -> str:
    """Why it asks for something else than any of them, though in their words; empty when it may ask for the same."""
    if _is_turned_down(asked, rows):
        return _DENIED
    mine = asked.asking.measures
    if mine and all(mine.isdisjoint(row.asking.measures) and mine.isdisjoint(row.asking.named) for row in rows):
        return _MEASURE
    if asked.particulars.outcome and not any(row.particulars.outcome for row in rows):
        return _OUTCOME
    return _ACTOR if _others_act(asked, rows) else ""


def _is_turned_down(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether it denies a word that rows have, and none denies, or the other way round."""
    if not asked.traits.negations and not any(row.traits.negations for row in rows):
        return False
    mine = asked.traits.denied or frozenset()
    return any(_is_elsewhere(forms_of(word), rows, denied=word not in mine) for word in asked.traits.matter)


def _is_elsewhere(forms: frozenset[str], rows: Sequence[Reading], *, denied: bool) -> bool:
    """Whether rows have the word, and deny it in all of these, or in none. Of what is not known to be denied none
    counts."""
    found = False
    for row in rows:
        if row.traits.denied is None or forms.isdisjoint(row.traits.forms):
            continue
        if any(not forms.isdisjoint(forms_of(word)) for word in row.traits.denied) != denied:
            return False
        found = True
    return found


def _others_act(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether the asker does what others do in all rows that say who does it, or the other way round."""
    for verb, actor in asked.particulars.actors.items():
        theirs = [row.particulars.actors[verb] == "1" for row in rows if verb in row.particulars.actors]
        if theirs and (actor == "1") not in theirs:
            return True
    return False
