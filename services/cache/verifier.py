"""Whether the answer to one question may be given to another: the last word on a semantic hit.

Promises: pure, symmetric, total, and it explains itself: every refusal names its guard. A high cosine similarity is
necessary and never sufficient: "turn on" and "turn off" lie closer together than most paraphrases. Each guard looks for
one way in which similar texts ask for different things; any of them refuses. The guards err towards a miss, which costs
one model call, where a wrong hit costs a wrong answer.

Reasons never quote a question; they name at most words of the guards' own tables.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from services.cache.frame import frame_difference
from services.cache.inflection import OPPOSITES, same_word
from services.cache.lexicon import (
    COMMON_WORDS,
    DIRECTIONAL_WORDS,
    GENITIVE_WORDS,
    NEGATING_PREFIXES,
    NEGATIONS,
    PERSONS,
)
from services.cache.reading import Reading, read

__all__ = ["TEXT_CHARS_MAX", "Verification", "verify"]

TEXT_CHARS_MAX = 2_000
"""Longer questions are not compared: one vector says too little of them, and the guards' time stays bounded."""

UNMATCHED_WORDS_MAX = 12
"""Texts with more words of their own on either side are different questions; bounds the pairwise comparison."""

EXTRA_WORDS_MAX = 0
"""Content words that one text may have beyond the other, repetitions included. Each could narrow the question."""

_PREFIXED_CHARS_MIN = 4
_STRONG_QUESTIONS_EXEMPT = frozenset({"what", "how"})


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict: `guard` is the one that refused, from a fixed set, or empty for a hit; `reason` is one sentence."""

    hit: bool
    guard: str
    reason: str


def verify(question: str, stored_question: str, *, similarity: float, similarity_min: float) -> Verification:
    """Judges whether the answer to `stored_question` also answers `question`.

    `similarity` is the cosine of their embeddings, -1 to 1; NaN is refused. Everything else that belongs to the
    requests is taken to be equal: the partition saw to that.
    """
    if not similarity >= similarity_min:
        shown = "not a number" if math.isnan(similarity) else f"{similarity:.3f}"
        return Verification(False, "similarity", f"similarity {shown} is below {similarity_min:.3f}")
    if max(len(question), len(stored_question)) > TEXT_CHARS_MAX:
        return Verification(False, "length", f"a question is longer than {TEXT_CHARS_MAX} characters")
    if question == stored_question:
        return _hit(similarity, "the same question")
    a, b = map(read, sorted((question, stored_question)))  # one order, so that the verdict is the same both ways
    for name, guard in _GUARDS:
        if reason := guard(a, b):
            return Verification(False, name, f"{name}: {reason}")
    return _hit(similarity, "every guard passed")


def _hit(similarity: float, why: str) -> Verification:
    return Verification(True, "", f"similarity {similarity:.3f}, {why}")


def _language(a: Reading, b: Reading) -> str:
    """The guards know English; anything else must be the same up to case, spacing and outer punctuation."""
    if a.plain == b.plain:
        return ""
    if not (a.latin and b.latin):
        return "another script than Latin must be the same word for word"
    if not (a.english and b.english):
        return "another language than English must be the same word for word"
    if not (a.words or a.numbers) or not (b.words or b.numbers):
        return "a question has no words"
    return ""


def _numbers(a: Reading, b: Reading) -> str:
    if a.numbers != b.numbers:
        return "numbers or identifiers differ"
    return "" if a.units == b.units else "units or dates differ"


def _literals(a: Reading, b: Reading) -> str:
    return "" if a.literals == b.literals else "quoted texts differ"


def _code(a: Reading, b: Reading) -> str:
    return "" if a.code == b.code else "code, names with symbols or symbols differ"


def _negation(a: Reading, b: Reading) -> str:
    counts = [sum(word in NEGATIONS for word in reading.words) for reading in (a, b)]
    if counts[0] != counts[1]:
        return "one negates more than the other"
    only_a, only_b = set(a.words) - set(b.words), set(b.words) - set(a.words)
    if any(_negates(x, only_b) for x in only_a) or any(_negates(x, only_a) for x in only_b):
        return "a word stands against the same word with a negating prefix"
    return ""


def _negates(word: str, others: set[str]) -> bool:
    return any(
        word.startswith(prefix) and len(word) - len(prefix) >= _PREFIXED_CHARS_MIN and word[len(prefix) :] in others
        for prefix in NEGATING_PREFIXES
    )


def _antonyms(a: Reading, b: Reading) -> str:
    words_a, words_b = set(a.words), set(b.words)
    for word in sorted(words_a & OPPOSITES.keys()):
        for other in sorted(OPPOSITES[word]):
            # Both texts speak of the pair, but not alike. That one says "to" once more means nothing; "off" does.
            sides_b = {word, other} & words_b
            changed = ({word, other} & words_a) ^ sides_b
            if sides_b and changed and not (len(changed) == 1 and changed <= COMMON_WORDS):
                return f'"{min(word, other)}" and "{max(word, other)}" are exchanged'
    return ""


def _question_kind(a: Reading, b: Reading) -> str:
    strong_a, strong_b = a.questions - _STRONG_QUESTIONS_EXEMPT, b.questions - _STRONG_QUESTIONS_EXEMPT
    weak_a, weak_b = a.questions - strong_a, b.questions - strong_b
    if strong_a != strong_b or (weak_a and weak_b and weak_a != weak_b):
        return f"{_listed(a.questions, b.questions)} do not ask the same"
    return ""


def _listed(a: frozenset[str], b: frozenset[str]) -> str:
    shown = sorted([", ".join(sorted(a)) or "no question word", ", ".join(sorted(b)) or "no question word"])
    return f"({shown[0]}) and ({shown[1]})"


def _names(a: Reading, b: Reading) -> str:
    return "" if _covers(a, b) and _covers(b, a) else "names differ"


def _covers(a: Reading, b: Reading) -> bool:
    other_names = a.names.difference(b.words)
    return len(other_names) <= UNMATCHED_WORDS_MAX and all(
        any(same_word(name, word, names=_is_name(name, word, a, b)) for word in b.words) for name in other_names
    )


def _is_name(word: str, other: str, a: Reading, b: Reading) -> bool:
    """Whether one of two words, of two texts, is written in capitals."""
    return word in a.shouted or other in b.shouted


def _capitals(a: Reading, b: Reading) -> str:
    for x, y in ((a, b), (b, a)):
        if (x.capitalised - x.lowered) & (y.lowered - y.capitalised):
            return "a word is a name in only one"
    return ""


def _roles(a: Reading, b: Reading) -> str:
    return frame_difference(a.frame, b.frame)


def _exchanged_words(a: Reading, b: Reading) -> str:
    """A content word of one text that the other does not have, beyond inflection, synonyms and typing errors."""
    left, right = Counter(a.content), Counter(b.content)
    only_a, only_b = sorted((left - right).elements()), sorted((right - left).elements())
    if max(len(only_a), len(only_b)) > UNMATCHED_WORDS_MAX:
        return "too many words differ"
    for word in list(only_a):
        match = next((other for other in only_b if same_word(word, other, names=_is_name(word, other, a, b))), None)
        if match is not None:
            only_a.remove(word)
            only_b.remove(match)
    if only_a and only_b:
        return f"{len(only_a)} and {len(only_b)} words stand in each other's place"
    extra = len(only_a) + len(only_b)
    return f"{extra} words narrow only one question" if extra > EXTRA_WORDS_MAX else ""


def _order(a: Reading, b: Reading) -> str:
    """The same words the other way round, whatever their inflection: what acts, and what is acted upon."""
    places = _places(a, b)
    if places == sorted(places):
        return ""
    if _is_genitive_turned(a, b) or _is_genitive_turned(b, a):
        return ""
    return "the same words stand in another order"


def _places(a: Reading, b: Reading) -> list[int]:
    """Where each word of `a` stands in `b`, for the words that both have equally often."""
    counts_a, counts_b = Counter(a.sequence), Counter(b.sequence)
    free: dict[str, deque[int]] = {}
    for i, word in enumerate(b.sequence):
        free.setdefault(word, deque()).append(i)
    rest = [(i, word) for i, word in enumerate(b.sequence) if word not in counts_a][:UNMATCHED_WORDS_MAX]
    places = []
    for word in a.sequence:
        if word in free:
            if counts_a[word] == counts_b[word]:
                places.append(free[word].popleft())
            continue
        match = next((pair for pair in rest if same_word(word, pair[1], names=_is_name(word, pair[1], a, b))), None)
        if match is not None:
            rest.remove(match)
            places.append(match[0])
    return places


def _is_genitive_turned(a: Reading, b: Reading) -> bool:
    """Whether `b` is `a` with one "X of Y" said as "Y X" or "Y's X"."""
    if a.possessive or DIRECTIONAL_WORDS.intersection((*a.words, *b.words)):
        return False
    of_a, of_b = (sum(word in GENITIVE_WORDS for word in reading.words) for reading in (a, b))
    if of_a != 1 or of_b:
        return False
    before = a.words[: next(i for i, word in enumerate(a.words) if word in GENITIVE_WORDS)]
    split = sum(PERSONS.get(word, word) in a.sequence for word in before)
    places = _places(a, b)
    if len(places) != len(a.sequence) or not 0 < split < len(places):
        return False
    return any(
        places[:head] + places[split:tail] + places[head:split] + places[tail:] == sorted(places)
        for head in range(split)
        for tail in range(split + 1, len(places) + 1)
    )


_GUARDS: tuple[tuple[str, Callable[[Reading, Reading], str]], ...] = (
    ("language", _language),
    ("numbers", _numbers),
    ("literals", _literals),
    ("code", _code),
    ("antonyms", _antonyms),
    ("negation", _negation),
    ("question", _question_kind),
    ("names", _names),
    ("capitals", _capitals),
    ("words", _exchanged_words),
    ("roles", _roles),
    ("order", _order),
)
