"""Whether the answer to one question may be given to another: the last word on a semantic hit.

Promises: pure, symmetric, total, and it explains itself: every refusal names its guard. A high cosine similarity is
necessary and never sufficient: "turn on" and "turn off" lie closer together than most paraphrases. Each guard looks for
one way in which similar texts ask for different things; any of them refuses. The guards err towards a miss, which costs
one model call, where a wrong hit costs a wrong answer.

Reasons never quote a question; they name at most words of the guards' own tables.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.cache.lexicon import (
    ANTONYMS,
    COMMON_WORDS,
    CONFUSABLES,
    DIRECTIONAL_WORDS,
    GENITIVE_WORDS,
    NEGATING_PREFIXES,
    NEGATIONS,
    SYNONYMS,
)
from services.cache.reading import Reading, read

__all__ = ["TEXT_CHARS_MAX", "Verification", "verify"]

TEXT_CHARS_MAX = 2_000
"""Longer questions are not compared: one vector says too little of them, and the guards' time stays bounded."""

UNMATCHED_WORDS_MAX = 12
"""Texts with more words of their own on either side are different questions; bounds the pairwise comparison."""

TYPO_CHARS_MIN = 6
"""Shorter words one letter apart are different words too often."""

EXTRA_WORDS_MAX = 0
"""Content words that one text may have beyond the other, repetitions included. Each could narrow the question."""

_PREFIXED_CHARS_MIN = 4
_STRONG_QUESTIONS_EXEMPT = frozenset({"what", "how"})
_PERSONS = {"i": "1", "me": "1", "we": "1", "us": "1", "you": "2", "he": "3m", "him": "3m", "she": "3f", "they": "3p",
            "them": "3p"}  # fmt: skip


def _both_ways(pairs: tuple[tuple[str, str], ...]) -> dict[str, frozenset[str]]:
    partners: dict[str, set[str]] = {}
    for a, b in pairs:
        partners.setdefault(a, set()).add(b)
        partners.setdefault(b, set()).add(a)
    return {word: frozenset(others) for word, others in partners.items()}


_OPPOSITES = _both_ways(ANTONYMS)
_LOOKALIKES = _both_ways(CONFUSABLES)


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
    for word in sorted(words_a & _OPPOSITES.keys()):
        for other in sorted(_OPPOSITES[word]):
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
    return "" if _covers(a.names, b.words) and _covers(b.names, a.words) else "names differ"


def _covers(names: frozenset[str], words: tuple[str, ...]) -> bool:
    return all(name in words or any(_forms(name) & _forms(word) for word in words) for name in names)


def _exchanged_words(a: Reading, b: Reading) -> str:
    """A content word of one text that the other does not have, beyond inflection, synonyms and typing errors."""
    left, right = Counter(a.content), Counter(b.content)
    only_a, only_b = sorted((left - right).elements()), sorted((right - left).elements())
    if max(len(only_a), len(only_b)) > UNMATCHED_WORDS_MAX:
        return "too many words differ"
    for word in list(only_a):
        match = next((other for other in only_b if _same_word(word, other)), None)
        if match is not None:
            only_a.remove(word)
            only_b.remove(match)
    if only_a and only_b:
        return f"{len(only_a)} and {len(only_b)} words stand in each other's place"
    extra = len(only_a) + len(only_b)
    return f"{extra} words narrow only one question" if extra > EXTRA_WORDS_MAX else ""


def _order(a: Reading, b: Reading) -> str:
    """The same words around "from" and "to" the other way round, or you and me exchanged."""
    persons_a, persons_b = ([_PERSONS[word] for word in reading.words if word in _PERSONS] for reading in (a, b))
    if persons_a != persons_b and sorted(persons_a) == sorted(persons_b):
        return "the persons are the other way round"
    counts_a, counts_b = Counter(a.sequence), Counter(b.sequence)
    once = {word for word, count in counts_a.items() if count == counts_b[word] == 1}
    if [word for word in a.sequence if word in once] == [word for word in b.sequence if word in once]:
        return ""
    around_a, around_b = (DIRECTIONAL_WORDS.intersection(reading.words) for reading in (a, b))
    if {*around_a, *around_b} <= GENITIVE_WORDS and bool(around_a) != bool(around_b):
        return ""  # "symptoms of a cold" and "cold symptoms"
    return "the same words stand in another order"


def _same_word(a: str, b: str) -> bool:
    if b in _LOOKALIKES.get(a, frozenset()) or b in _OPPOSITES.get(a, frozenset()):
        return False
    if not _forms(a).isdisjoint(_forms(b)):
        return True
    return min(len(a), len(b)) >= TYPO_CHARS_MIN and a[0] == b[0] and _is_mistyped(a, b)


def _forms(word: str) -> frozenset[str]:
    """The word, what it may be an inflection of, and the groups of synonyms these belong to."""
    found = {word, *_stems(word)}
    return frozenset(found | {f"={SYNONYMS[form]}" for form in found if form in SYNONYMS})


def _stems(word: str) -> Iterator[str]:
    if word.endswith("ies") and len(word) > 4:
        yield f"{word[:-3]}y"
    elif word.endswith("es") and len(word) > 4:
        yield word[:-2]
        yield word[:-1]
    elif word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        yield word[:-1]
    for suffix in ("ing", "ed"):
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            yield stem
            yield f"{stem}e"
            if stem[-1] == stem[-2]:
                yield stem[:-1]


def _is_mistyped(a: str, b: str) -> bool:
    """One letter too many or too few, not the first, or two neighbours exchanged; never another letter instead."""
    if len(a) == len(b):
        wrong = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        return (
            len(wrong) == 2 and wrong[1] == wrong[0] + 1 and a[wrong[0]] == b[wrong[1]] and a[wrong[1]] == b[wrong[0]]
        )
    short, long = sorted((a, b), key=len)
    return len(long) == len(short) + 1 and any(long[:i] + long[i + 1 :] == short for i in range(1, len(long)))


_GUARDS: tuple[tuple[str, Callable[[Reading, Reading], str]], ...] = (
    ("language", _language),
    ("numbers", _numbers),
    ("literals", _literals),
    ("code", _code),
    ("antonyms", _antonyms),
    ("negation", _negation),
    ("question", _question_kind),
    ("names", _names),
    ("words", _exchanged_words),
    ("order", _order),
)
