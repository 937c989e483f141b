"""What certainly makes two questions different, whatever a model says: the guards that stay hard.

Promises: pure, symmetric, total, linear; a difference is a constant sentence or empty, and quotes no question.
`hard_differences` hold always: another number, identifier, unit, ordinal, quotation, piece of code or symbol, a
negation more, an opposite, a direction turned round. `grammar_differences`: other capitals where they say something,
the same words in another order or with other parts to play. `content_differences` hold where nothing but the texts is
known: a content word of each that the other does not have ("track order 7", "cancel order 7"). Only that stored
questions of one answer exchange the very same words counts for more.

English; in other languages certain_difference demands the same words (but their case and punctuation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Final

from services.cache.matching.frame import frame_difference
from services.cache.matching.inflection import LOOKALIKES, OPPOSITES, same_word
from services.cache.matching.lexicon import (
    ACRONYMS,
    CASED_WORDS,
    DIRECTIONAL_WORDS,
    FUNCTION_WORDS,
    LIGHT_WORDS,
    NEGATING_PREFIXES,
    NEGATIONS,
    UNITS,
    word_set,
)
from services.cache.matching.reading import Reading

__all__ = [
    "certain_difference",
    "content_differences",
    "exchanged_content",
    "grammar_differences",
    "hard_differences",
    "hardly_differs",
    "opposes",
    "same_wording",
]

WORDS_MAX: Final = 16
"""Unmatched words on either side from which on the texts are different questions; bounds the comparison of pairs."""

GENERIC_WORDS: Final = word_set("""
    way ways method methods step steps procedure process command instruction instructions reason reasons cause thing
    things person people somebody someone meaning mean means definition define describe explanation explain happen
    happens need needs want make makes making take takes taking use using used do go get find count calculate compute
    work works time number possible allowed permitted say called name list overview summary summarize
    summarise recipe code write currently current good advisable required require requires know look
""")
"""Content words that carry the form of a question more than its matter: they may stand against any other word."""

ORDINALS: Final = word_set("first second last next latest previous former only original")
"""Each picks out one of several; written as words they are no numbers to `reading`."""

MEANING_WORDS: Final = word_set("mean means meaning define definition")

_GENERAL_QUESTIONS: Final = frozenset({"what", "which"})
_TENSES: Final = word_set("is are was were be do does did has have had to in from")
_SOURCE: Final = "from"
_TARGETS: Final = frozenset({"to", "into", "onto"})
_SKIPPED: Final = word_set("the a an my your our his their this that")
_ENDINGS: Final = ("ally", "ly")
_PREFIXED_CHARS_MIN: Final = 4
_STEM_CHARS_MIN: Final = 4
_PERMUTED_SHARE: Final = 0.6
_ORDERED_WORDS_MAX: Final = 40
_HURRIED_WORDS_MIN: Final = 3
_MOVED_MAX: Final = 4
_ARTICLES: Final = word_set("the a an")
_POLITE: Final = _ARTICLES | word_set("please kindly hi hello hey thanks thank")


def certain_difference(a: Reading, b: Reading) -> str:
    """Why no answer to the one may be served for the other, exchanged words apart; empty when there is no reason."""
    return next(iter((*hard_differences(a, b), *grammar_differences(a, b))), "")


def hard_differences(a: Reading, b: Reading) -> tuple[str, ...]:
    """All differences that change what is asked by their kind: nothing that a class learns outweighs one."""
    if a.exact == b.exact:
        return ()
    language = ""
    if a.plain != b.plain and not (a.latin and b.latin and a.english and b.english):
        language = "language: other than English must be the same word for word"
    found = (
        language,
        *_figures(a, b),
        _negation(a, b),
        _prefix_negation(a, b),
        _opposites(a, b),
        _direction(a, b),
    )
    return tuple(each for each in found if each)


def opposes(a: Reading, b: Reading) -> bool:
    """Whether the one asks for the contrary of the other, or for the same matter with a hard difference: an opposite, a
    negating prefix, a direction turned round; a negation more, another number and so on where all else is the same."""
    if a.exact == b.exact:
        return False
    if _opposites(a, b) or _prefix_negation(a, b) or _direction(a, b):
        return True
    if not hard_differences(a, b):
        return False
    only_a, only_b = _unmatched(a, b)
    return not (only_a | only_b) - LIGHT_WORDS - NEGATIONS


def hardly_differs(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> bool:
    """Whether the one asks for something else than the other in nearly its words: the same words in another order, the
    same matter by another question word, one word of matter in the place of another where all else is the same.
    `proven`: as `content_differences` has it."""
    if a.exact == b.exact:
        return False
    only_a, only_b = _unmatched(a, b)
    if not (only_a | only_b) - LIGHT_WORDS:
        turned = sorted(_wording(a)) == sorted(_wording(b)) and _order_or_roles(a, b)
        return bool(turned or _question_kind(a, b))
    if len(only_a) != 1 or len(only_b) != 1 or _wording(a, only_a) != _wording(b, only_b):
        return False
    return bool(content_differences(a, b, proven)) or not content_differences(a, b)


def same_wording(a: Reading, b: Reading) -> bool:
    """Whether they have the same words in the same order, but for articles and courtesies."""
    return _wording(a) == _wording(b)


def _wording(reading: Reading, but: Set[str] = frozenset()) -> tuple[str, ...]:
    return tuple(word for word in reading.words if word not in _POLITE and word not in but)


def grammar_differences(a: Reading, b: Reading) -> tuple[str, ...]:
    """All differences of form: they change some questions, and are only another way to ask others."""
    if a.exact == b.exact:
        return ()
    return tuple(found for found in (_question_kind(a, b), _case(a, b), _order_or_roles(a, b)) if found)


def _order_or_roles(a: Reading, b: Reading) -> str:
    turned = _is_genitive(a, b) or _is_genitive(b, a)
    if not turned and a.content != b.content and sorted(a.content) == sorted(b.content):
        return "order: the same words stand in another order"
    if not turned and a.words != b.words and sorted(a.words) == sorted(b.words):
        return "order: the same words stand in another order"
    if not turned and a.sequence != b.sequence and sorted(a.sequence) == sorted(b.sequence):
        return "order: the same words stand in another order"
    only_a, only_b = _unmatched(a, b)
    if (only_a | only_b) - LIGHT_WORDS:
        return ""
    if not turned and _is_permuted(a, b):
        return "order: the same words stand in another order"
    difference = frame_difference(a.frame, b.frame)
    return f"roles: {difference}" if difference else ""


def exchanged_content(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> str:
    """The first of `content_differences`, or empty."""
    return next(iter(content_differences(a, b, proven)), "")


def content_differences(a: Reading, b: Reading, proven: Sequence[Reading] = ()) -> tuple[str, ...]:
    """Whether each question has a word of matter that the other does not have; empty when at most one has.

    `proven`: questions that have the answer of `b`. A word of `a` that one of them has in the place of one of `b`'s was
    shown to make no difference.
    """
    if a.exact == b.exact:
        return ()
    only_a, only_b = _unmatched(a, b)
    if max(len(only_a), len(only_b)) > WORDS_MAX:
        return ("length: too many words differ",)
    matter_a, matter_b = only_a - GENERIC_WORDS, only_b - GENERIC_WORDS
    if matter_a and matter_b and proven:
        matter_a = {word for word in matter_a if not _is_proven(word, matter_b, a, proven)}
    found = []
    if matter_a and matter_b and (matter_a & a.names or matter_b & b.names):
        found.append("names: one stands in the place of something else")
    elif not _covers(a.names, b, *proven) and not _covers(b.names, a):
        found.append("names: each has one that the other does not have")
    if matter_a and matter_b:
        found.append("words: some stand in each other's place")
    return tuple(found)


def _figures(a: Reading, b: Reading) -> Iterator[str]:
    if a.numbers != b.numbers:
        yield "numbers: numbers or identifiers differ"
    if a.units != b.units:
        yield "units: units or dates differ"
    if a.literals != b.literals:
        yield "literals: quoted texts differ"
    if ORDINALS.intersection(a.words) != ORDINALS.intersection(b.words):
        yield "ordinals: one picks out another of several"
    if a.code != b.code:
        yield "code: code, names with symbols or symbols differ"
    elif "\n" in a.exact + b.exact and a.exact.split() == b.exact.split():
        yield "code: lines are indented or broken otherwise"


def _case(a: Reading, b: Reading) -> str:
    """A word that is written otherwise in each: MW and mW, Turkey and turkey; but not ATM and atm, nor Outlook and
    outlook where a longer text has no capitals at all."""
    for bare, ways in a.spellings.items():
        others = b.spellings.get(bare)
        if others and ways.isdisjoint(others) and bare not in ACRONYMS:
            if bare not in CASED_WORDS and (_is_hurried(a, b, bare) or _is_hurried(b, a, bare)):
                continue
            return "case: a word is written with other capitals"
    return ""


def _is_hurried(hurried: Reading, careful: Reading, word: str) -> bool:
    """Whether the one text has no capitals where the other begins a word with one, and enough words beside it."""
    titled = all(way[0].isupper() and way[1:].islower() for way in careful.spellings[word])
    return titled and hurried.exact == hurried.exact.lower() and len(set(hurried.content)) >= _HURRIED_WORDS_MIN


def _negation(a: Reading, b: Reading) -> str:
    if sum(word in NEGATIONS for word in a.words) % 2 != sum(word in NEGATIONS for word in b.words) % 2:
        return "negation: one negates, the other does not"
    return ""


def _prefix_negation(a: Reading, b: Reading) -> str:
    only_a, only_b = set(a.words) - set(b.words), set(b.words) - set(a.words)
    for left, right in ((only_a, only_b), (only_b, only_a)):
        for word in left:
            for prefix in NEGATING_PREFIXES:
                stem = word.removeprefix(prefix)
                if stem != word and len(stem) >= _PREFIXED_CHARS_MIN and stem in right:
                    return "negation: a word stands against the same word with a negating prefix"
    return ""


def _opposites(a: Reading, b: Reading) -> str:
    """A word that only `a` has, against an opposite that only `b` has."""
    words_a, words_b = set(a.words), set(b.words)
    opposed = any(
        other not in words_a and other not in UNITS
        for word in words_a - words_b
        if word not in _TENSES and word not in UNITS
        for other in OPPOSITES.get(word, frozenset()) & words_b
    )
    return "opposites: a word and its opposite are exchanged" if opposed else ""


def _question_kind(a: Reading, b: Reading) -> str:
    kinds_a, kinds_b = a.questions - _GENERAL_QUESTIONS, b.questions - _GENERAL_QUESTIONS
    if kinds_a and kinds_b and not kinds_a & kinds_b and "how" not in kinds_a ^ kinds_b - {"why"}:
        return "question: they do not ask for the same kind of thing"
    for x, y in ((a, b), (b, a)):
        if MEANING_WORDS.intersection(x.words) and not MEANING_WORDS.intersection(y.words) and "how" in y.questions:
            return "question: one asks what something means, the other how to do something"
    return ""


def _direction(a: Reading, b: Reading) -> str:
    """A word that both have, behind "from" in one and behind "to" in the other."""
    there, back = _directions(a), _directions(b)
    for word, prepositions in there.items():
        others = back.get(word)
        if others and prepositions.isdisjoint(others):
            opposed = {x for preposition in prepositions for x in OPPOSITES.get(preposition, frozenset())}
            if opposed & others or any(
                _SOURCE in x and _TARGETS & y for x, y in ((prepositions, others), (others, prepositions))
            ):
                return "direction: it is turned round"
    return ""


def _directions(reading: Reading) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    last = ""
    for word in reading.words:
        if word in DIRECTIONAL_WORDS or word in {"out", "in"}:
            last = word
        elif word not in _SKIPPED:
            if last:
                found.setdefault(word, set()).add(last)
            last = ""
    return found


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


def _unmatched(a: Reading, b: Reading) -> tuple[set[str], set[str]]:
    only_a, only_b = set(a.content) - set(b.content), set(b.content) - set(a.content)
    if max(len(only_a), len(only_b)) > WORDS_MAX:
        return only_a, only_b
    left = {word for word in only_a if not any(_alike(word, other, a, b) for other in b.content)}
    right = {word for word in only_b if not any(_alike(other, word, a, b) for other in a.content)}
    return left, right


def _alike(word: str, other: str, a: Reading, b: Reading) -> bool:
    if same_word(word, other, names=word in a.shouted or other in b.shouted):
        return True
    if other in LOOKALIKES.get(word, frozenset()):
        return False
    x, y = _root(word), _root(other)
    return len(x) >= _STEM_CHARS_MIN and x == y


def _root(word: str) -> str:
    """Legally and legal, kilometres and kilometers."""
    for ending in _ENDINGS:
        if word.endswith(ending):
            return word.removesuffix(ending)
    if word.endswith(("tre", "tres")):
        return word.replace("tre", "ter").removesuffix("s")
    return word.removesuffix("al").removesuffix("s")


def _is_proven(word: str, instead_of: set[str], a: Reading, proven: Sequence[Reading]) -> bool:
    """Whether one of the questions has the word, and not all of those that it stands in the place of."""
    return any(
        not instead_of.issubset(other.content) and any(_alike(word, known, a, other) for known in other.content)
        for other in proven
    )


def _covers(names: frozenset[str], *others: Reading) -> bool:
    return all(any(same_word(name, word) for other in others for word in other.words) for name in names)
