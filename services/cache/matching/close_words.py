"""Where in its sentence a word stands for the ones that are close to it: "turn" with an "on" or "off", "high" behind
"how". English.

Promises: pure, symmetric, linear. It says only which groups of NEAR_SYNONYMS hold between two questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from services.cache.matching.inflection import base_forms, kin_of
from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import word_set
from services.cache.matching.near_synonyms import FRAMES, NEAR_SYNONYMS, NOUNS_OF_VERBS, WordFrame
from services.cache.matching.remembered import remembered

__all__ = ["are_close", "closed_groups"]

REMEMBERED_MAX: Final = 16_384
"""Words of which it is remembered where they may stand."""

_GETTING: Final = word_set("""
    get gets getting got have has had having need needs receive receives received receiving obtain obtained want wants
    require requires
""")
_HAVING: Final = word_set("have has had")
_GOTTEN: Final = "+got"


def closed_groups(words: Sequence[str]) -> frozenset[str]:
    """Groups that do not hold for the words of a question, in lower case; with a mark where something is got or needed:
    who gets an approval approves nothing."""
    if not any(map(_framed, words)):  # as of most questions
        return NOTHING
    vocabulary, is_got = frozenset(words), _is_got(words)
    found = set()
    before = ""
    for word, behind in pairwise((*words, "")):
        for group, frame in _framed(word):
            if frame is None:
                if is_got:
                    found.add(_GOTTEN)
            elif not _holds(frame, vocabulary, before, behind):
                found.add(group)
        before = word
    return shared(found) if found else NOTHING


def are_close(a: str, b: str, closed: frozenset[str], also_closed: frozenset[str]) -> bool:
    """Whether words share a group that holds in both of two questions, of which these are the closed ones."""
    got_alike = (_GOTTEN in closed) == (_GOTTEN in also_closed)
    return any(
        "/" in group and group not in closed and group not in also_closed and (got_alike or group not in NOUNS_OF_VERBS)
        for group in kin_of(a) & kin_of(b)
    )


@remembered(REMEMBERED_MAX)
def _framed(word: str) -> tuple[tuple[str, WordFrame | None], ...]:
    """Its groups that hold in a frame alone; None stands for that of nouns of verbs."""
    found: list[tuple[str, WordFrame | None]] = []
    forms = frozenset(base_forms(word))
    for group in sorted(frozenset().union(*(NEAR_SYNONYMS.get(form, NOTHING) for form in forms))):
        if group in NOUNS_OF_VERBS:
            found.append((group, None))
        found.extend((group, each) for each in FRAMES if group in each.groups and (not each.of or each.of & forms))
    return tuple(found)


def _holds(frame: WordFrame, vocabulary: frozenset[str], before: str, behind: str) -> bool:
    if frame.beside and frame.beside.isdisjoint(vocabulary):
        return False
    if frame.behind and before not in frame.behind:
        return False
    return before not in frame.unlike and behind not in frame.before


def _is_got(words: Sequence[str]) -> bool:
    """Whether something is got, had or needed; not what needs to be done, nor what has been."""
    been = "been" in words
    return any(
        word in _GETTING and behind != "to" and not (word in _HAVING and (not place or been))
        for place, (word, behind) in enumerate(pairwise((*words, "")))
    )
