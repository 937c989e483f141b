"""What kind of answer a question asks for, where its question word alone does not say: a cost or a time, whether
something must be or may be, is or was. English.

Promises: pure, total, linear; closed lists of words. A difference is told only where both say what they ask for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from services.cache.matching.courtesies import spoken_courtesies
from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import FUNCTION_WORDS, UNITS, word_set
from services.cache.matching.quantifiers import quantifies_otherwise, quantities_in
from services.cache.matching.tenses import tense_of, tenses_differ

__all__ = ["SPANS", "Asking", "ask_how_long", "other_answer", "read_asking"]

SPANS: Final = frozenset(UNITS[word] for word in ("second", "minute", "hour", "day", "week", "month", "year"))
"""Units of time: "how many days" and "how long", or "for a week now" more, ask the same where nothing else differs. A
number with one counts by itself; a unit in another's place too, and in a word's place it is an exchanged word."""

ASKINGS_MAX: Final = 4_096
"""Kinds of answers that are kept once: they are of closed lists of words, and most questions ask for one of few."""

_WHETHER: Final = frozenset({"yes or no"})
_GENERAL: Final = frozenset({"what", "which"})
_UNMEASURED: Final = _GENERAL | _WHETHER | {"how", "who", "whose", "where", "why"}
_LONG: Final = "how long"
_MANY: Final = "how many"
_TIME: Final = frozenset({"time"})
_QUANTITY: Final = frozenset({"count", "amount"})

_BY_QUESTION: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("when", "how soon", "how late", "how early"), _TIME),
    _LONG: frozenset({"time", "size"}),
    "how fast": frozenset({"speed", "time"}),
    "how much": frozenset({"cost", "amount"}),
    _MANY: _QUANTITY,
    "how often": frozenset({"frequency"}),
    "how old": frozenset({"age"}),
    "how far": frozenset({"distance"}),
    **dict.fromkeys(("how big", "how large", "how high", "how tall", "how wide", "how deep"), frozenset({"size"})),
    "how heavy": frozenset({"weight"}),
    **dict.fromkeys(("how hot", "how cold"), frozenset({"temperature"})),
}

_BY_WORD: Final[Mapping[str, frozenset[str]]] = {
    word: frozenset(classes.split("+"))
    for classes, words in {
        "cost": "cost costs price prices fee fees fare expensive",
        "time": "time duration deadline date hour hours day days minutes weeks months year",
        "count+amount": "number",
        "amount+count": "amount quantity total",
        "size": "size height length width depth",
        "weight": "weight",
        "age": "age",
        "distance": "distance",
        "speed+time": "speed",
        "frequency": "frequency",
        "temperature": "temperature",
    }.items()
    for word in words.split()
}

_SIZED: Final = frozenset({"how big", "how large", "how high"})
_SUMS: Final = word_set("""
    fee fees rent deposit deposits discount discounts refund refunds salary salaries pension bill bills tax taxes fine
    fines penalty penalties loan loans price prices cost costs rate
""")
"""How big these are is how much they are."""

_SUM: Final = frozenset({"cost", "amount", "size"})
_WEIGHING: Final = word_set("weigh weighs")
_OF_LENGTH: Final = frozenset(UNITS[word] for word in ("foot", "yard", "mile", "meter", "km", "cm", "inch"))
_LENGTH: Final = frozenset({"size", "distance"})
_TOTAL: Final = "total"
_TIMES: Final = ("many", "times")
_YEARS_OLD: Final = ("years", "old")
_WHAT_AGE: Final = ("what", "age")
_PAST: Final = word_set("was were did")
_DONE: Final = word_set("""
    accepted approved cancelled canceled confirmed delivered dispatched received refunded registered rejected sent
    shipped
""")
"""What was once is so from then on."""

_WONDERING: Final = frozenset({("may", "i", "ask"), ("can", "i", "ask"), ("could", "i", "ask")})
_MUST: Final = word_set("must mandatory obligatory obliged compulsory required necessary gotta")
_MAY: Final = word_set("can may could allowed permitted possible able")
_WORTH: Final = word_set("worth worthwhile advisable recommended advised")
_SHOULD: Final = word_set("should ought")
_MODALITIES: Final = ({"must", "may"}, {"must", "worth"}, {"may", "worth"})
_OPEN: Final = word_set("what which how")
_HAVING_TO: Final = frozenset({("have", "to"), ("has", "to"), ("need", "to"), ("needs", "to")})
_FACT_OPENINGS: Final = frozenset({"be", "do", "have", "will"})
_WAYS: Final = word_set("there way possible allowed permitted able know have need")
_IN_YEAR: Final = re.compile(r"\d|first|last")
_OFFICES: Final = word_set("""
    king queen president emperor pope chancellor premier minister monarch ruler governor mayor chief head leader ceo cfo
    cto chairman chairwoman chair director manager coach captain owner boss champion secretary editor dean principal
""")
"""Who holds one now is not who held it, if no year nor number says who is meant."""

_NOW: Final = word_set("is are am")
_THEN: Final = word_set("was were")

_OPENS_OR_OPENED: Final = {"present", "then"}
"""When it is done, and when it once was."""

_MEASURE: Final = "asking: one asks for another measure than the other"
_OF_WHICH: Final = "asking: one asks of more of them than the other, or in another degree"
_MODALITY: Final = "asking: one asks what must be, the other what may be or is worth it"
_WHETHER_HOW: Final = "asking: one asks whether it is so, the other how it is done"
_ORDERED: Final = "asking: one is to be given or shown what the other is to have explained"
_TENSE: Final = "tense: one asks what was, the other what is"


@dataclass(frozen=True, slots=True)
class Asking:
    """`measures`: what it asks to be told in numbers, a cost, a time and so on; `named`: the measures that its words
    are of. `long` and `days`: "how long" and "how many days". `whether`: if something is so, and not for a way to do
    it; `how`: how it is done. `must` is "must", "may", "worth" or "should"; `now` is "now" or "then" where it asks
    whether, for a measure or for who holds an office; `tense`: as `tenses` has it; `quantities`: as `quantifiers`;
    `order` and `spoken`: as `courtesies`. All empty where it does not say."""

    measures: frozenset[str]
    named: frozenset[str]
    long: bool
    days: bool
    whether: bool
    how: bool
    must: str
    quantities: frozenset[str]
    now: str
    tense: str
    order: str
    spoken: frozenset[str]


def read_asking(
    text: str,
    words: Sequence[str],
    tokens: Sequence[str],
    questions: frozenset[str],
    units: frozenset[str],
    opening: str,
    order: str,
) -> Asking:
    """Of a text, its words and tokens in lower case, the kinds of question in it, its units, the kind of auxiliary that
    it opens with, and what is ordered before it."""
    measuring = [word for word in words if word in _BY_WORD]
    named = [_BY_WORD[word] for word in sorted(measuring, key=_TOTAL.__eq__)]  # "the total price" is a price
    decides = questions == _WHETHER
    measures = _measures(words, questions, units, named[0] if named else NOTHING)
    changes = bool(measures) and measures.isdisjoint(_TIME)
    changes = (changes or not _OFFICES.isdisjoint(words)) and not _IN_YEAR.search(text)
    return _asking(
        measures,
        shared(NOTHING.union(*named)) if named else NOTHING,
        _LONG in questions,
        _MANY in questions and len(units) == 1 and units <= SPANS,
        decides and opening in _FACT_OPENINGS and _WAYS.isdisjoint(words),
        "how" in questions,
        _modality(words) if decides or _is_of_some(words, questions) else "",
        quantities_in(tokens, whether=decides),
        _now(words) if decides or changes else "",
        tense_of(text, words),
        order,
        spoken_courtesies(words),
    )


_asking = lru_cache(maxsize=ASKINGS_MAX)(Asking)


def other_answer(a: Asking, b: Asking) -> str:
    """Why the one asks for another kind of answer than the other; empty where both may ask for the same."""
    if a.measures and b.measures and a.measures.isdisjoint(b.measures):
        return _MEASURE
    if (a.whether and b.how) or (b.whether and a.how):
        return _WHETHER_HOW
    if {a.must, b.must} in _MODALITIES:
        return _MODALITY
    if a.quantities != b.quantities and quantifies_otherwise(a.quantities, b.quantities):
        return _OF_WHICH
    if a.spoken != b.spoken or (a.order and b.order and a.order != b.order):
        return _ORDERED
    if a.now and b.now and a.now != b.now:
        return _TENSE
    opens = a.measures & b.measures == _TIME and {a.tense, b.tense} == _OPENS_OR_OPENED
    return _TENSE if opens or tenses_differ(a.tense, b.tense) else ""


def ask_how_long(a: Asking, b: Asking) -> bool:
    """Whether the one asks "how long" and the other "how many days"."""
    return (a.long and b.days) or (b.long and a.days)


def _measures(
    words: Sequence[str], questions: frozenset[str], units: frozenset[str], named: frozenset[str]
) -> frozenset[str]:
    if not named and questions <= _UNMEASURED:
        return NOTHING
    pairs = frozenset(pairwise((*words, "")))
    is_sum = any(word in _SUMS and (not behind or behind in FUNCTION_WORDS) for word, behind in pairs)
    sum_of = _SUM if is_sum else NOTHING
    if named and _WHAT_AGE in pairs and _PAST.isdisjoint(words):
        return named | _TIME  # "at what age do they walk"
    for kind in sorted(questions):
        if kind == "how much" and not _WEIGHING.isdisjoint(words):
            return _BY_WORD["weight"]
        if kind == _MANY and _YEARS_OLD in pairs:
            return _BY_WORD["age"]
        if found := _BY_QUESTION.get(kind):
            if kind in _SIZED:
                found |= sum_of
            if kind in (_MANY, "how much") and (units & SPANS or "time" in words):
                found |= _TIME
            if kind == _MANY and units & _OF_LENGTH:
                found |= _LENGTH
            if kind == _MANY and _TIMES in pairs:
                found |= _BY_QUESTION["how often"]
            return found
    if not questions <= _GENERAL:
        return NOTHING
    return named | sum_of if "size" in named else named


def _now(words: Sequence[str]) -> str:
    """Of what was done once and is done now, none: "was my order shipped", "is my order shipped"."""
    if not words or words[-1] in _DONE:
        return ""
    word = next((word for word in words if word in _NOW or word in _THEN), "")
    return "now" if word in _NOW else "then" if word else ""


def _modality(words: Sequence[str]) -> str:
    if tuple(words[:3]) in _WONDERING:
        words = words[3:]
    for pair in pairwise((*words, "")):
        if pair[0] in _MUST or pair in _HAVING_TO:
            return "must"
        if pair[0] in _MAY:
            return "may"
        if pair[0] in _WORTH:
            return "worth"
        if pair[0] in _SHOULD:
            return "should"
    return ""


def _is_of_some(words: Sequence[str], questions: frozenset[str]) -> bool:
    """Whether it asks who, when, where, why, how much or which of them: not what is to be done, nor how."""
    if questions <= _OPEN:
        asked = next((behind for word, behind in pairwise(words) if word in _GENERAL), "")
        return bool(asked) and "how" not in questions and asked not in FUNCTION_WORDS
    return True
