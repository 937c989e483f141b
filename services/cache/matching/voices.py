"""Two ways to ask the same with other auxiliaries: "what does it have", "what is in it"; "can I", "am I allowed to".

Promises: pure, linear. It is asked of two questions with the same matter; says so only of the closed list of ways
below. English.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from services.cache.matching.inflection import same_word
from services.cache.matching.lexicon import AUXILIARIES, IRREGULAR, LIGHT_WORDS, PERSONS, word_set
from services.cache.matching.reading import Reading

__all__ = ["MAKERS", "asks_as_much", "is_done_to", "opens_alike"]

MAKERS: Final = word_set("author builder composer creator discoverer founder inventor painter writer")
"""Who was one is one for ever: "who is the inventor of it" and "who invented it"."""

_HAVING: Final = word_set("have has having contain contains")
_HELD: Final = word_set("of in with there at on")
_MEANING: Final = word_set("mean means meaning")
_ABLE: Final = word_set("possible able allowed permitted")
_DOES: Final = word_set("do does")
_OTHERS: Final = frozenset({"2", "3p"})
_ANYBODY: Final = _OTHERS | {"1"}
_ASKED: Final = word_set("who what which")
_NOW_OR_THEN: Final = frozenset({"do", "will"})
_OBLIGED: Final = frozenset({"do", "should"})
_OBLIGING: Final = ("have", "to")
_DONE: Final = word_set("past perfect")
_STANDING: Final = word_set("cover covers include includes serve serves")
_THEN: Final = word_set("was were did")
_NOW: Final = word_set("is are")
_CAUSES: Final = word_set("cause causes")
_NEEDED: Final = word_set("needed required")
_BEEN: Final = "been"
_SUFFERING: Final = word_set("be been being get gets got")


def asks_as_much(being: Reading, doing: Reading) -> bool:
    """Whether `being` asks by a form of "to be" what `doing` asks without it."""
    if "be" not in being.frame.operators or "by" in being.frame.prepositions or "by" in doing.frame.prepositions:
        return False
    x, y = being.traits.vocabulary, doing.traits.vocabulary
    if ("be" in doing.frame.operators and _BEEN not in y) or _kinds(being) != _kinds(doing):
        return False
    mine, theirs = _persons(x), _persons(y)
    if _is_noun_of(being, doing):
        return mine == theirs
    if not _MEANING.isdisjoint(x) and not _MEANING.isdisjoint(y):
        return mine == theirs
    if not _ABLE.isdisjoint(x):
        if "it" in x and "for" not in x and not theirs and "be" not in y:  # who can, that is not said
            return False
        return any(AUXILIARIES.get(word) == "can" for word in y) and mine <= theirs
    if not doing.frame.bare_question and not _HAVING.isdisjoint(y) and _BEEN not in y:
        return _HAVING.isdisjoint(x) and not _HELD.isdisjoint(x) and not mine and not theirs
    return _in_one_order(being, doing) and _is_inflected(being, doing, mine, theirs)


def is_done_to(a: Reading, b: Reading) -> bool:
    """Whether to the one who does it in the one it is done in the other: "can I contact", "can I be contacted"."""
    for doing, suffering in ((a, b), (b, a)):
        if _SUFFERING.isdisjoint(suffering.words):
            continue
        acts = [
            (PERSONS[word], behind)
            for before, word, behind in zip(("", *doing.words), doing.words, doing.words[1:], strict=False)
            if word in PERSONS and AUXILIARIES.get(before) != "be"  # "was I charged"
        ]
        three = zip(suffering.words, suffering.words[1:], suffering.words[2:], strict=False)
        done = [(PERSONS[word], verb) for word, by, verb in three if word in PERSONS and by in _SUFFERING]
        if any(actor == person and same_word(verb, act) for person, verb in done for actor, act in acts):
            return True
    return False


def opens_alike(a: Reading, b: Reading) -> bool:
    """Whether two with different auxiliaries ask the same by them: "did it go", "has it gone"; "must I", "do I have
    to"; "does it cover", "will it cover". What else it does is not what it will do, nor what I should do what I have
    to."""
    if {a.asking.tense, b.asking.tense} == _DONE:
        return a.frame.objects == b.frame.objects and _in_one_order(a, b)
    kinds = {a.frame.opening, b.frame.opening}
    if kinds == _OBLIGED:
        must, have = (a, b) if b.frame.opening == "do" else (b, a)
        same = _persons(must.traits.vocabulary) == _persons(have.traits.vocabulary)
        return same and must.words[0] == "must" and have.words[0] in _DOES and _OBLIGING in pairwise(have.words)
    if kinds != _NOW_OR_THEN or "did" in a.words or "did" in b.words:
        return False
    return not _STANDING.isdisjoint(a.words) and not _STANDING.isdisjoint(b.words)


def _is_noun_of(being: Reading, doing: Reading) -> bool:
    """ "what are the causes of it" and "what causes it", "who is the author of it" and "who wrote it". Other nouns are
    what is done to it as well: "what are the needs of plants"."""
    if not doing.frame.bare_question:
        return False
    nouns = [word for word, behind in pairwise(being.words) if behind == "of"]
    verbs = [behind for word, behind in pairwise(doing.words) if word in _ASKED]
    if not doing.frame.prepositions.isdisjoint(doing.words[2:3]):  # who wrote to her
        return False
    if len(nouns) != 1 or len(verbs) != 1 or not same_word(nouns[0], verbs[0]):
        return False
    return nouns[0] in _CAUSES or ("who" in being.words and nouns[0] in MAKERS)


def _is_inflected(being: Reading, doing: Reading, mine: set[str], theirs: set[str]) -> bool:
    """ "is it paid" and "has it been paid", "is it draining" and "does it drain", "are they needed" and "do I need
    them", "is it made" and "do they make it". What was done is not what is done; and what I do, others do as well: of
    me only what is needed."""
    x, y = being.traits.vocabulary, doing.traits.vocabulary
    if _BEEN in y:
        return not x.isdisjoint(_THEN | _NOW) and _BEEN not in x and not _HAVING.isdisjoint(y) and mine == theirs
    if not _THEN.isdisjoint(x):
        return False
    if doing.frame.bare_question or being.frame.bare_question or _DOES.isdisjoint(y):
        return False
    for word in being.traits.matter - doing.traits.matter:
        if word.endswith("ing"):
            return mine == theirs
        if word.endswith("ed") or word in IRREGULAR:
            return not mine and bool(theirs) and theirs <= (_ANYBODY if word in _NEEDED else _OTHERS)
    return False


def _kinds(reading: Reading) -> set[str]:
    return {"what" if kind == "which" else kind for kind in reading.questions if kind != "yes or no"}


def _persons(words: frozenset[str]) -> set[str]:
    return {PERSONS[word] for word in words if word in PERSONS}


def _in_one_order(a: Reading, b: Reading) -> bool:
    """Whether the words of matter that stand for each other stand in the same order."""
    x, y = ([word for word in each.content if word not in LIGHT_WORDS] for each in (a, b))
    return len(x) == len(y) and all(map(same_word, x, y))
