"""How the same words may ask for something else: other capitals, another order, other parts to play, another question.

Promises: pure, symmetric, total; a difference is a constant sentence that quotes no question. English.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise
from typing import Final

from services.cache.matching.alignment import unmatched
from services.cache.matching.asking import ask_how_long
from services.cache.matching.frame import WHO_ACTS, frame_difference
from services.cache.matching.inflection import same_word
from services.cache.matching.lexicon import (
    ACRONYMS,
    AUXILIARIES,
    CASED_WORDS,
    FUNCTION_WORDS,
    LIGHT_WORDS,
    PERSONS,
    SHOUTED_WORDS,
    UNITS,
    word_set,
)
from services.cache.matching.reading import Reading
from services.cache.matching.reorderings import asks_last, is_passive, is_passive_of, only_moved
from services.cache.matching.voices import asks_as_much, is_done_to, opens_alike

__all__ = [
    "asks_else",
    "form_added",
    "grammar_differences",
    "keeps_form",
    "order_or_roles",
    "question_kind",
    "turns",
]

FORMS_MAX: Final = 4_096
"""Questions whose form is remembered: a stored one is compared often."""

FORM_WORDS_MAX: Final = 64
FORM_CHARS_MAX: Final = 400
"""The form of longer questions is not remembered."""

MEANING_WORDS: Final = word_set("mean means meaning define definition")

_ORDER: Final = "order: the same words stand in another order"
_VOICE: Final = "roles: one is in the passive voice"
_WHO_ACTS: Final = f"roles: {WHO_ACTS}"
_GENERAL_QUESTIONS: Final = frozenset({"what", "which"})
_WHETHER: Final = frozenset({"yes or no"})
_HOW: Final = frozenset({"how"})
_WAYS: Final = word_set("way ways method methods")
_ASKED_FOR: Final = UNITS.keys() | word_set("time date place way")
_PERMUTED_SHARE: Final = 0.6
_ORDERED_WORDS_MAX: Final = 40
_HURRIED_WORDS_MIN: Final = 3
_MOVED_MAX: Final = 4
_BRAND_CHARS_MIN: Final = 4
_ACRONYM_CHARS_MIN: Final = 3
_ARTICLES: Final = word_set("the a an")
_UNFORMAL: Final = word_set("a an the my your our please hi hello thanks kindly")
_REPLACED: Final = PERSONS.keys() | word_set("of out up down off")
_QUESTION_FORM: Final = word_set(
    "who whom what when where why how many much long old far often big tall high fast soon"
)
_QUANTITIES: Final = _QUESTION_FORM - word_set("who whom what when where why how much")
_CIRCUMSTANCES: Final = word_set("when where why whose")
_CIRCUMSTANTIAL: Final = _ASKED_FOR | word_set("""
    year day month hour dates times places location town city country address site spot reason reasons cause causes
    purpose point owner for people
""")
"""By these "what" asks when, where, why or whose."""

_INNER_KINDS: Final = frozenset({"do", "can", "should", "will"})
_MEASURING: Final = word_set("cost costs weigh weighs measure measures last lasts charge charges pay")


def grammar_differences(a: Reading, b: Reading) -> tuple[str, ...]:
    """All differences of form: they change some questions, and are only another way to ask others."""
    if a.exact == b.exact:
        return ()
    return tuple(found for found in (question_kind(a, b), _case(a, b), order_or_roles(a, b)) if found)


def order_or_roles(a: Reading, b: Reading) -> str:
    if is_passive_of(a, b) or is_passive_of(b, a):
        return ""
    stand_otherwise = (
        (a.content != b.content and sorted(a.content) == sorted(b.content))
        or (a.words != b.words and sorted(a.words) == sorted(b.words))
        or (a.sequence != b.sequence and sorted(a.sequence) == sorted(b.sequence))
    )
    if stand_otherwise and not _may_stand_so(a, b):
        return _ORDER
    only_a, only_b = unmatched(a, b)
    if (only_a | only_b) - LIGHT_WORDS:
        return ""
    if not stand_otherwise and _is_permuted(a, b) and _is_permuted(b, a) and not _may_stand_so(a, b):
        return _ORDER
    difference = frame_difference(a.frame, b.frame)
    if is_passive(a) != is_passive(b) or is_done_to(a, b):
        return _VOICE
    if not difference or asks_as_much(a, b) or asks_as_much(b, a) or opens_alike(a, b):
        return ""
    if difference == WHO_ACTS and stand_otherwise and asks_last(a) != asks_last(b):
        return ""  # "Mars has how many moons"
    return f"roles: {difference}"


def _may_stand_so(a: Reading, b: Reading) -> bool:
    return _is_genitive(a, b) or _is_genitive(b, a) or only_moved(a, b)


def turns(a: Reading, b: Reading) -> bool:
    """Whether the one asks who acts ("who hired Tim") and the other does not, in the same words."""
    return order_or_roles(a, b) == _WHO_ACTS


def _case(a: Reading, b: Reading) -> str:
    """A word that is written otherwise in each: MW and mW, Turkey and turkey; but not ATM and atm, nor Outlook and
    outlook where a longer text takes no care of capitals."""
    if not a.cased and not b.cased:
        return ""
    differing = [
        bare
        for bare in a.spellings.keys() & b.spellings.keys()
        if a.spellings[bare].isdisjoint(b.spellings[bare]) and bare not in ACRONYMS
    ]
    careless = _is_careless(a, b, differing) or _is_careless(b, a, differing)
    if all(careless and (bare not in CASED_WORDS or len(differing) > 1) for bare in differing):
        return ""
    return "case: a word is written with other capitals"


def _is_careless(careless: Reading, careful: Reading, words: Collection[str]) -> bool:
    """Whether the one text has no capitals but a sentence's first and "I", enough words, and the other writes these
    words as names: with a capital first, or with capitals inside, of some length."""
    for bare in words:
        for way in careful.spellings[bare]:
            if not way[0].isupper() or len(way) < _ACRONYM_CHARS_MIN or bare in SHOUTED_WORDS:
                return False
            if not way[1:].islower() and not way.isupper() and len(way) < _BRAND_CHARS_MIN:
                return False
    names = careless.names - PERSONS.keys()
    return not names and len(set(careless.content)) + len(careless.units) >= _HURRIED_WORDS_MIN


def question_kind(a: Reading, b: Reading) -> str:
    if ask_how_long(a.asking, b.asking):
        return ""
    kinds_a, kinds_b = _kinds(a), _kinds(b)
    if kinds_a and kinds_b and not kinds_a & kinds_b and "how" not in kinds_a ^ kinds_b - {"why"}:
        return "question: they do not ask for the same kind of thing"
    for x, y in ((a, b), (b, a)):
        if MEANING_WORDS.intersection(x.words) and not MEANING_WORDS.intersection(y.words) and "how" in y.questions:
            return "question: one asks what something means, the other how to do something"
    return ""


def _kinds(reading: Reading) -> frozenset[str]:
    """ "is there a way" asks how."""
    if reading.questions == _WHETHER and not _WAYS.isdisjoint(reading.words):
        return _HOW
    return reading.questions - _GENERAL_QUESTIONS


def keeps_form(a: Reading, b: Reading, *, but: int = 0) -> bool:
    """Whether `a` has all words of form that `b` has, `but` so many: courtesies, articles, owners and the kind of its
    auxiliary apart, and persons and particles, in whose place something else may stand."""
    return len(_form(b) - _form(a) - _REPLACED) <= but


def form_added(a: Reading, b: Reading) -> frozenset[str]:
    """Words of form that `a` has and `b` does not."""
    return _form(a) - _form(b)


def asks_else(a: Reading, b: Reading) -> bool:
    """Whether they differ by their question words alone: "how" and "why", "how many" and "which". What is somewhere, or
    somebody, may also be asked for by "where" and "who", and what it costs by "how much"."""
    form_a, form_b = _form(a), _form(b)
    only_a, only_b = form_a - form_b, form_b - form_a
    found = only_a | only_b
    if (a.questions == _HOW and _asks_how_much(b)) or (b.questions == _HOW and _asks_how_much(a)):
        return found <= _QUANTITIES | {"much"}
    if not only_a or not only_b or not found <= _QUESTION_FORM or a.questions | b.questions == _HOW | {"where"}:
        return False
    if "what" not in found or not found.isdisjoint(_QUANTITIES):
        return True
    if not found.isdisjoint(_CIRCUMSTANCES) and _CIRCUMSTANTIAL.isdisjoint({*a.words, *b.words}):
        return True
    behind = [(word, next_word) for r in (a, b) for word, next_word in pairwise(r.words)]
    if "much" in found:
        return any(word == "much" and next_word not in FUNCTION_WORDS for word, next_word in behind)
    if any(
        word in _GENERAL_QUESTIONS and (next_word in UNITS or next_word in _ASKED_FOR) for word, next_word in behind
    ):
        return False
    return "do" in form_a and _MEASURING.isdisjoint(a.words)


def _asks_how_much(reading: Reading) -> bool:
    return bool(reading.questions) and all(kind.startswith("how ") for kind in reading.questions)


def _form(reading: Reading) -> frozenset[str]:
    words = reading.core.words
    is_long = len(words) > FORM_WORDS_MAX or len(reading.normal) > FORM_CHARS_MAX
    return _form_of.__wrapped__(words) if is_long else _form_of(words)


@lru_cache(maxsize=FORMS_MAX)
def _form_of(words: tuple[str, ...]) -> frozenset[str]:
    """Words of form: auxiliaries by what they ask, "which" as "what"."""
    found = set()
    for word in words:
        if kind := AUXILIARIES.get(word):
            found.add("do" if kind in _INNER_KINDS else kind)
        elif word in FUNCTION_WORDS and word not in _UNFORMAL:
            found.add("what" if word == "which" else word)
    return frozenset(found)


def _is_genitive(a: Reading, b: Reading) -> bool:
    """The "symptoms of a cold" of the one are the "cold symptoms" of the other, which is a phrase and no sentence."""
    if (
        a.possessive
        or b.possessive
        or a.words.count("of") != 1
        or not FUNCTION_WORDS.isdisjoint({*b.words} - _ARTICLES)
    ):
        return False
    at = a.words.index("of")
    head = [word for word in a.words[:at] if word in a.content]
    rest = [word for word in a.words[at + 1 :] if word in a.content]
    own = list(b.content)
    return any(
        own == head[: len(head) - moved] + rest[:behind] + head[len(head) - moved :] + rest[behind:]
        for moved in range(1, min(len(head), _MOVED_MAX) + 1)
        for behind in range(1, min(len(rest), _MOVED_MAX) + 1)
    )


def _is_permuted(a: Reading, b: Reading) -> bool:
    """The same matter in another order, in a sentence that is otherwise much the same."""
    if max(len(a.sequence), len(b.sequence)) > _ORDERED_WORDS_MAX:
        order_a, order_b = list(a.sequence), list(b.sequence)
    else:
        common = {word: word for word in set(a.sequence) & set(b.sequence)}
        for word in a.sequence:  # "delete what is merged" has the words of "merge what is deleted"
            if word not in common:
                common[word] = next((other for other in b.sequence if same_word(word, other)), "")
        order_a = [common[word] for word in a.sequence if common[word]]
        order_b = [word for word in b.sequence if word in order_a]
    if order_a == order_b or sorted(order_a) != sorted(order_b):
        return False
    form_a, form_b = (Counter(w for w in r.words if w in FUNCTION_WORDS) for r in (a, b))
    either = sum((form_a | form_b).values())
    return not either or sum((form_a & form_b).values()) / either >= _PERMUTED_SHARE
