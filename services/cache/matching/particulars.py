"""What a question says around its matter that makes another one of it: whose it is, when, who acts, what is kept from
happening, what is taken back, what is ordered in a further sentence. English.

Promises: pure, total, linear; closed lists of words and their places, no grammar beyond.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Final, NamedTuple

from services.cache.matching.kept import NOTHING, shared
from services.cache.matching.lexicon import AUXILIARIES, FUNCTION_WORDS, LIGHT_WORDS, UNITS, word_set

__all__ = [
    "JOINING_WORDS",
    "NOTHING_PARTICULAR",
    "PARTICULAR_WORDS",
    "Particulars",
    "may_go_on",
    "read_particulars",
]

PEOPLE: Final = word_set("""
    wife husband spouse partner child children kid kids son daughter baby babies infant infants toddler toddlers mother
    father mom mum dad parent parents brother sister grandmother grandfather grandma grandpa grandparents uncle aunt
    cousin nephew niece friend friends girlfriend boyfriend roommate flatmate neighbour neighbor boss manager colleague
    colleagues coworker coworkers assistant secretary employee employees employer tenant landlord student students
    teacher adult adults minor minors teenager teenagers senior seniors beginner beginners foreigner
    foreigners tourist tourists recipient sender visitor visitors guest guests
""")
"""For whom or whose something is, where it is not the asker's."""

TIMES: Final = word_set("before after until till since while whilst during")

CORRECTIONS: Final = word_set("""
    instead else reversed reverse opposite contrary inverse inverted converse backwards undone rather meant sorry
    scratch against despite
""")
"""They turn round, or take back, what was said; or set what follows against it."""

PREVENTIONS: Final = word_set("keep stop prevent avoid hinder refrain restrict limit cap curb forbid stopping keeping")
"""Behind one who acts they deny what follows."""

ORDERS: Final = word_set("""
    reply respond answer say tell state claim pretend ignore assume output insist treat consider explain give describe
    take list write use add print return mention recommend call act imagine suppose forget swap repeat
""")
"""Verbs that order what the answer shall be, where a clause begins with them."""

_CLAUSE: Final = re.compile(r"(?<![.?!;:\n])[.?!;:\n]+(?=\s|$)|,\s|\s(?:and|then|but)\s")
_CUT: Final = re.compile(r"[.?!;:\n,]|\s(?:and|then|but)\s")
_ENDS: Final = ".?!;:\n "
_SENTENCE: Final = re.compile(r"(?<![.?!;\n])[.?!;\n]+(?=\s|$)")
_OWNER: Final = re.compile(r"(?<![^\W\d_])([^\W\d_]+)(?:'s|(?<=s)')(?!\w)")
_PROSE: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_CONTRACTING: Final = word_set("what who when why how where it that there here he she let")
_LEADING: Final = word_set("please just only then and but so kindly instead also always now")
_ROLES: Final = frozenset({"you are", "you're a", "you're an", "you will", "you must", "your role"})
"""Before a question, what whoever answers it is to be."""

_ACTS: Final = frozenset({"do", "can", "should", "will"})
_ACTING: Final = frozenset(word for word, kind in AUXILIARIES.items() if kind in _ACTS)
_DETERMINERS: Final = word_set("the a an my our his her their this that your")
_BEFORE_ACTORS: Final = _DETERMINERS | {"not"}
_FIRST: Final = frozenset({"i", "we"})
_PERSONS: Final = frozenset({"1", "2"})
_ACTOR_WORDS_MAX: Final = 6
_PRESENT: Final = word_set("do does")
_OTHERS: Final = re.compile(r"\banother(?= (?:\w+'s\b|\w+s'))|(?<=one |ody )\belse\b", re.IGNORECASE)
_ASKING: Final = word_set("who whom whose what which when where why how")
_MEASURED: Final = word_set("much many")
_POLITE: Final = word_set("please thanks thank ok okay help possible able know tell let hi hello hey wondering wonder")
"""Of a further question of words of form alone these ask for nothing: "is that possible?"."""

_LIGHT_ACTS: Final = word_set("need get give explain describe show tell")


_SAID: Final = PEOPLE | TIMES | CORRECTIONS | PREVENTIONS | word_set("another else happens")
JOINING_WORDS: Final = word_set("and then but")
"""Of two sentences."""

PARTICULAR_WORDS: Final = _SAID | _ACTING | JOINING_WORDS | word_set("do does did")
"""A text of words alone without any of these has nothing particular."""


class Particulars(NamedTuple):
    """`owners` are possessors and people; `times`, `corrections` the words of these; `prevents`: whether something is
    kept from happening; `actors` maps a verb to who does it, "1" for the asker, "2" for you; `light` are those of need,
    get, give, explain and show that the asker does; `outcome`: what happens is asked; `tense` of "do", empty of none or
    both; `orders` are what clauses but the first begin with; `further` the content words of each sentence
    behind it, and of that before which gives a role or an order;
    `asides` are the question words of further clauses of words of form alone, behind one that asks ("and why?"), or all
    words of such a question without one ("and then?").
    `few`: there is nothing but actors, what they do, what happens and a tense.
    """

    owners: frozenset[str]
    times: frozenset[str]
    corrections: frozenset[str]
    prevents: bool
    actors: Mapping[str, str]
    light: frozenset[str]
    outcome: bool
    tense: str
    orders: frozenset[str]
    further: tuple[frozenset[str], ...]
    asides: frozenset[str]
    few: bool


NOTHING_PARTICULAR: Final = Particulars(
    NOTHING,
    NOTHING,
    NOTHING,
    prevents=False,
    actors={},
    light=NOTHING,
    outcome=False,
    tense="",
    orders=NOTHING,
    further=(),
    asides=NOTHING,
    few=True,
)


def read_particulars(text: str, words: Sequence[str], *, goes_on: bool) -> Particulars:
    """Of a text, and of its words in lower case. `goes_on`: as `may_go_on` has it."""
    vocabulary = frozenset(words)
    actors = {} if _ACTING.isdisjoint(vocabulary) else dict(_actors(words))
    light = NOTHING
    if not _LIGHT_ACTS.isdisjoint(actors):
        light = shared([verb for verb in _LIGHT_ACTS if actors.get(verb) == "1"])
    tense = _tense(vocabulary)
    if not goes_on and "'" not in text and _SAID.isdisjoint(vocabulary):
        return Particulars(
            NOTHING, NOTHING, NOTHING, False, actors, light, False, tense, NOTHING, (), NOTHING, few=True
        )
    owners = _owners(text, words, vocabulary)
    times, corrections = _among(TIMES, vocabulary), _among(CORRECTIONS, vocabulary)
    prevents = not PREVENTIONS.isdisjoint(vocabulary) and _prevents(words)
    orders = shared(_orders(text)) if goes_on else NOTHING
    further = tuple(_further(text)) if goes_on else ()
    may_ask_on = goes_on and ("?" in text or not _ASKING.isdisjoint(vocabulary))
    asides = shared(_asides(text)) if may_ask_on else NOTHING
    return Particulars(
        owners=owners,
        times=times,
        corrections=corrections,
        prevents=prevents,
        actors=actors,
        light=light,
        outcome="happens" in vocabulary and ("what", "happens") in pairwise(words),
        tense=tense,
        orders=orders,
        further=further,
        asides=asides,
        few=not (owners or times or corrections or prevents or orders or further or asides),
    )


def _among(these: frozenset[str], vocabulary: frozenset[str]) -> frozenset[str]:
    return NOTHING if these.isdisjoint(vocabulary) else shared(these & vocabulary)


def _owners(text: str, words: Sequence[str], vocabulary: frozenset[str]) -> frozenset[str]:
    found = set(_among(PEOPLE, vocabulary))
    if "'" in text:
        found.update({owner[1].casefold() for owner in _OWNER.finditer(text)} - _CONTRACTING)
    folded = text.casefold()
    if "another" in folded or "else" in folded:
        found.update(other[0].casefold() for other in _OTHERS.finditer(text))
        found.update(before for before, word in pairwise(words) if before == "another" and word in PEOPLE)
    return shared(found)


def _tense(vocabulary: Set[str]) -> str:
    past, present = "did" in vocabulary, not vocabulary.isdisjoint(_PRESENT)
    return "" if past == present else "past" if past else "present"


def _prevents(words: Sequence[str]) -> bool:
    for before, word in zip(("", *words), words, strict=False):
        if word in PREVENTIONS and (before in {"i", "we", "you", "to", "not", "one", "please", "and"} or not before):
            return True
    return False


def _actors(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Verbs behind an auxiliary and one who acts ("should Google accept"), or the other way round ("I can accept")."""
    for place, word in enumerate(words):
        if AUXILIARIES.get(word) not in _ACTS:
            continue
        behind = [each for each in words[place + 1 : place + _ACTOR_WORDS_MAX] if each not in _BEFORE_ACTORS]
        before = words[place - 1] if place else ""
        if len(behind) > 1 and (actor := _actor(behind[0])):
            yield behind[1], actor
            for verb in behind[2:] if actor not in _PERSONS else ():  # it is not known which words name the actor
                if verb in FUNCTION_WORDS and verb not in LIGHT_WORDS:
                    break
                yield verb, actor
        elif behind and (actor := _actor(before)):
            yield behind[0], actor


def _actor(word: str) -> str:
    if word in _FIRST:
        return "1"
    if word == "you":
        return "2"
    return "" if not word or word in FUNCTION_WORDS or word in UNITS else word


def may_go_on(text: str) -> bool:
    """Whether there is anything behind what a clause may end with, which most texts have at their end alone."""
    return _CUT.search(text.rstrip(_ENDS)) is not None


def _orders(text: str) -> Iterator[str]:
    for clause in _CLAUSE.split(text)[1:]:
        words = [word.casefold() for word in _PROSE.findall(clause)]
        while words and words[0] in _LEADING:
            del words[0]
        if words and words[0] in ORDERS:
            yield words[0]


def _further(text: str) -> Iterator[frozenset[str]]:
    for place, sentence in enumerate(_SENTENCE.split(text)):
        spelled = [word.casefold() for word in _PROSE.findall(sentence)]
        if not place and not _is_role_or_order(spelled):
            continue
        words = {word.removesuffix("'s").replace("'", "") for word in spelled}
        if found := words - FUNCTION_WORDS - UNITS.keys():
            yield frozenset(found)


def _is_role_or_order(words: Sequence[str]) -> bool:
    """ "You are a pirate", "act as my bank"."""
    start = next((place for place, word in enumerate(words) if word not in _LEADING), 0)
    return " ".join(words[start : start + 2]) in _ROLES or (bool(words) and words[start] in ORDERS)


def _asides(text: str) -> Iterator[str]:
    asks = is_behind_a_question = False
    start = 0
    for end, mark, behind in [
        *((cut.start(), cut[0], cut.end()) for cut in _CLAUSE.finditer(text)),
        (len(text), "", 0),
    ]:
        words = [word.casefold().replace("'", "") for word in _PROSE.findall(text[start:end])]
        if not all(word in FUNCTION_WORDS and word not in UNITS for word in words):
            asks = asks or "?" in mark or words[0] in AUXILIARIES or not _ASKING.isdisjoint(words)
        elif asks and not _ASKING.isdisjoint(words):
            pairs = pairwise((*words, ""))
            yield from (f"{word} {after}" if after in _MEASURED else word for word, after in pairs if word in _ASKING)
        elif asks and words and is_behind_a_question and "?" in mark and _POLITE.isdisjoint(words):
            yield " ".join(words)
        start, is_behind_a_question = behind, "?" in mark or (is_behind_a_question and not words)
