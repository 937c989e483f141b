"""What makes two questions different where nothing but the texts is known.

Promises: pure, symmetric, total; a difference is a constant sentence or empty, and quotes no question.
`content_differences`: a content word of each that the other does not have ("track order 7", "cancel order 7"). Only
that stored questions of one answer exchange the very same words counts for more.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from services.cache.matching.alignment import WORDS_MAX, has_word, unmatched
from services.cache.matching.asking import SPANS, ask_how_long
from services.cache.matching.contraries import GENERIC_WORDS, hard_differences
from services.cache.matching.grammar import grammar_differences, order_or_roles, question_kind, turns
from services.cache.matching.inflection import forms_of, same_word
from services.cache.matching.lexicon import IRREGULAR, LIGHT_WORDS, STRANDED_WORDS, word_set
from services.cache.matching.reading import Reading
from services.cache.matching.voices import MAKERS

__all__ = [
    "certain_difference",
    "content_differences",
    "exchanged_content",
    "hardly_differs",
    "otherwise_worded",
    "reordered",
    "same_wording",
]

_THEN: Final = word_set("was were")


def certain_difference(a: Reading, b: Reading) -> str:
    """Why no answer to the one may be served for the other, exchanged words apart; empty when there is no reason."""
    return next(iter((*hard_differences(a, b), *grammar_differences(a, b))), "")


def hardly_differs(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> bool:
    """Whether the one asks for something else than the other in nearly its words: the same words in another order, the
    same matter by another question word or with another who acts, one word of matter in the place of another where all
    else is the same. `proven`: as `content_differences` has it."""
    if a.exact == b.exact:
        return False
    only_a, only_b = unmatched(a, b)
    if not (only_a | only_b) - LIGHT_WORDS:
        return reordered(a, b) or bool(turns(a, b) or question_kind(a, b))
    if len(only_a) != 1 or len(only_b) != 1 or _wording(a, only_a) != _wording(b, only_b):
        return False
    return bool(content_differences(a, b, proven)) or not content_differences(a, b)


def reordered(a: Reading, b: Reading) -> bool:
    """Whether they have the same words, but for articles and courtesies, in an order that asks for something else."""
    return a.exact != b.exact and a.wording_sorted == b.wording_sorted and bool(order_or_roles(a, b))


def same_wording(a: Reading, b: Reading) -> bool:
    """Whether they have the same words in the same order, but for articles and courtesies."""
    return a.wording == b.wording


def _wording(reading: Reading, but: Set[str]) -> tuple[str, ...]:
    return tuple([word for word in reading.wording if word not in but])


def exchanged_content(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> str:
    """The first of `content_differences`, or empty."""
    return next(iter(content_differences(a, b, proven)), "")


def otherwise_worded(a: Reading, b: Reading) -> bool:
    """Whether each has a word of matter of which the other has no form and no close synonym."""
    return _has_own(a, b) and _has_own(b, a)


def _has_own(a: Reading, b: Reading) -> bool:
    forms = b.traits.forms
    return any(forms_of(word).isdisjoint(forms) for word in a.traits.matter - GENERIC_WORDS)


def content_differences(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> tuple[str, ...]:
    """Whether each question has a word of matter that the other does not have; empty when at most one has.

    `proven`: questions that have the answer of `b`. A word of `a` that one of them has in the place of one of `b`'s was
    shown to make no difference.
    """
    if a.exact == b.exact:
        return ()
    only_a, only_b = unmatched(a, b)
    if max(len(only_a), len(only_b)) > WORDS_MAX:
        return ("length: too many words differ",)
    matter_a, matter_b = only_a - GENERIC_WORDS, only_b - GENERIC_WORDS
    if a.units and not b.units:  # "for days" and "at night"
        matter_a |= a.units
    elif b.units and not a.units:
        matter_b |= b.units
    if matter_a and matter_b:
        if ask_how_long(a.asking, b.asking):
            matter_a, matter_b = (matter - {"long"} - SPANS for matter in (matter_a, matter_b))
        for x, y in ((a, b), (b, a)):
            agents = _agents(x, y)
            matter_a, matter_b = matter_a - agents, matter_b - agents
    if matter_a and matter_b and proven:
        matter_a = frozenset(word for word in matter_a if not _is_proven(word, matter_b, a, proven))
    found = []
    if matter_a and matter_b and (matter_a & a.names or matter_b & b.names):
        found.append("names: one stands in the place of something else")
    elif a.names and b.names and not _covers(a.names, b, *proven) and not _covers(b.names, a):
        found.append("names: each has one that the other does not have")
    if matter_a and matter_b:
        found.append("words: some stand in each other's place")
    return tuple(found)


def _agents(a: Reading, b: Reading) -> frozenset[str]:
    """The noun and the verb of "who is the inventor of it" and "who invented it", "who was the ruler" and "who ruled":
    who ruled is no ruler now."""
    if "who" not in a.questions or not b.frame.bare_question or b.words[:1] != ("who",) or "of" not in a.words:
        return frozenset()
    noun = a.words[a.words.index("of") - 1]
    verb, behind = (*b.words[1:3], "", "")[:2]
    if behind in STRANDED_WORDS:  # who wrote to her
        return frozenset()
    if not (verb.endswith("ed") or verb in IRREGULAR) or (noun not in MAKERS and _THEN.isdisjoint(a.words)):
        return frozenset()
    stems = {noun.removesuffix(ending) for ending in ("r", "er", "or") if noun.endswith(("er", "or"))}
    return frozenset({noun, verb}) if not stems.isdisjoint(forms_of(verb)) else frozenset()


def _is_proven(word: str, instead_of: Set[str], a: Reading, proven: Sequence[Reading]) -> bool:
    """Whether one of the questions has the word, and not all of those that it stands in the place of."""
    return any(not instead_of <= other.traits.matter and has_word(word, a, other) for other in proven)


def _covers(names: frozenset[str], *others: Reading) -> bool:
    return all(any(same_word(name, word) for other in others for word in other.words) for name in names)
