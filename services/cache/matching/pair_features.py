"""What two questions have in common and where they differ, as numbers: the input of the pair model.

Promises: pure, symmetric, total and finite; a fixed number of features in a fixed order (`NAMES`). What depends on one
question alone is in its `Sketch`, which may be kept with the stored question; what was compared once of it is not read
again. The lexical features are of English; of other languages the similarity and the overlap remain.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect, insort
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from sys import intern
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.inflection import stems_of
from services.cache.matching.kept import NOTHING, kept, shared
from services.cache.matching.lexicon import AUXILIARIES, FUNCTION_WORDS, NEGATIONS, SYNONYMS, word_set
from services.cache.matching.reading import Reading, read
from services.cache.matching.remembered import remembered

__all__ = ["IDF_BUCKETS", "NAMES", "WORDS_MAX", "Idf", "Sketch", "bucket_of", "pair_features", "sketch", "tokens_of"]

Idf = npt.NDArray[np.float32]

IDF_BUCKETS: Final = 16_384
"""Words share a bucket now and then; the commoner one then speaks for both."""

REMEMBERED_WORDS_MAX: Final = 8_192
"""Words whose stem, bucket and letters are remembered."""

WORDS_MAX: Final = 64
"""Words of a question that are compared; longer questions are compared by their first ones."""

NAMES: Final = (
    "similarity",
    "similarity_squared",
    "overlap",
    "overlap_least",
    "overlap_most",
    "pair_overlap",
    "letters",
    "unmatched_weight_least",
    "unmatched_weight_most",
    "unmatched_heaviest_least",
    "unmatched_heaviest_most",
    "unmatched_words_least",
    "unmatched_words_most",
    "unmatched_content_least",
    "unmatched_content_most",
    "unmatched_letters",
    "length_least",
    "length_most",
    "length_ratio",
    "numbers_differ",
    "numbers_missing",
    "units_differ",
    "literals_differ",
    "code_differs",
    "names_unmatched_least",
    "names_unmatched_most",
    "questions_differ",
    "questions_missing",
    "first_word_differs",
    "negations_differ",
    "persons_differ",
    "auxiliaries_differ",
    "function_words",
    "turned",
    "language",
)

_PERSONS: Final = word_set("i me my we us our you your he she him her they them his their")


@dataclass(frozen=True, eq=False)
class Sketch:
    """A question, read once; each part when it is asked for, and kept. `weights` holds its words, reduced to a stem, by
    how rare they are (IDF, nats). About 0.1 ms for 12 words, if all of it is asked for."""

    reading: Reading
    idf: Idf

    @kept
    def tokens(self) -> tuple[str, ...]:
        return tokens_of(self.reading)

    @kept
    def weights(self) -> dict[str, float]:
        idf = self.idf
        return {token: float(idf[_bucket(token)]) for token in self.tokens}

    @kept
    def total(self) -> float:
        return sum(self.weights.values())

    @kept
    def pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(pairwise(self.tokens))

    @kept
    def letters(self) -> frozenset[str]:
        return _letters(self.tokens)

    @kept
    def content(self) -> frozenset[str]:
        return shared(map(_stem, self.reading.content[:WORDS_MAX]))

    @kept
    def order(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @kept
    def names(self) -> frozenset[str]:
        return shared(map(_stem, self.reading.names))

    @kept
    def first(self) -> str:
        words = self.reading.words
        return words[0] if words else ""

    @kept
    def negations(self) -> int:
        return sum(word in NEGATIONS for word in self._words)

    @kept
    def persons(self) -> frozenset[str]:
        return shared(_PERSONS.intersection(self._words))

    @kept
    def auxiliaries(self) -> frozenset[str]:
        return shared([AUXILIARIES[word] for word in self._words if word in AUXILIARIES])

    @kept
    def function_words(self) -> frozenset[str]:
        return FUNCTION_WORDS.intersection(self._words)

    @property
    def _words(self) -> tuple[str, ...]:
        return self.reading.words[:WORDS_MAX]


def bucket_of(word: str) -> int:
    """The same bucket in every process."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % IDF_BUCKETS


def tokens_of(reading: Reading) -> tuple[str, ...]:
    """The words and numbers that are weighted, stemmed, in order."""
    words = tuple(_stem(word) for word in reading.words[:WORDS_MAX])
    return (*words, *reading.numbers[:WORDS_MAX])


@remembered(REMEMBERED_WORDS_MAX)
def _stem(word: str) -> str:
    stem = min((form for form in stems_of(word) if len(form) >= 3), key=len, default=word)
    return SYNONYMS.get(stem, SYNONYMS.get(word, stem))


@remembered(REMEMBERED_WORDS_MAX)
def _bucket(word: str) -> int:
    return bucket_of(word)


def sketch(text: str, idf: Idf) -> Sketch:
    """Reads a question."""
    return Sketch(read(text), idf)


def _letters(tokens: Iterable[str]) -> frozenset[str]:
    return NOTHING.union(*map(_letters_of, tokens))


@remembered(REMEMBERED_WORDS_MAX)
def _letters_of(token: str) -> tuple[str, ...]:
    padded = f"^{token}$"
    return tuple(intern(padded[at : at + 3]) for at in range(max(1, len(padded) - 2)))


def pair_features(a: Sketch, b: Sketch, similarity: float) -> npt.NDArray[np.float32]:
    """The features of two questions, as `NAMES` has them. `similarity` is the cosine of their embeddings."""
    s = similarity if math.isfinite(similarity) else 0.0
    shared = a.weights.keys() & b.weights.keys()
    common = sum(a.weights[token] for token in shared)
    only_a, only_b = a.weights.keys() - shared, b.weights.keys() - shared
    weight_a, weight_b = a.total - common, b.total - common
    heavy_a = max((a.weights[token] for token in only_a), default=0.0)
    heavy_b = max((b.weights[token] for token in only_b), default=0.0)
    content_a, content_b = len(a.content - b.weights.keys()), len(b.content - a.weights.keys())
    names_a, names_b = len(a.names - b.weights.keys()), len(b.names - a.weights.keys())
    length_a, length_b = len(a.weights), len(b.weights)
    ra, rb = a.reading, b.reading
    return np.asarray(
        (
            s,
            s * s,
            _share(common, a.total + b.total - common),
            *_ordered(_share(common, a.total), _share(common, b.total)),
            _jaccard(a.pairs, b.pairs),
            _jaccard(a.letters, b.letters),
            *_ordered(weight_a / 10.0, weight_b / 10.0),
            *_ordered(heavy_a / 10.0, heavy_b / 10.0),
            *_ordered(len(only_a) / 5.0, len(only_b) / 5.0),
            *_ordered(content_a / 5.0, content_b / 5.0),
            _jaccard(_letters(only_a), _letters(only_b)) if only_a and only_b else 0.5,
            *_ordered(math.log1p(length_a), math.log1p(length_b)),
            _share(min(length_a, length_b), max(length_a, length_b)),
            float(ra.numbers != rb.numbers and bool(ra.numbers) == bool(rb.numbers)),
            float(bool(ra.numbers) != bool(rb.numbers)),
            float(ra.units != rb.units),
            float(ra.literals != rb.literals),
            float(ra.code != rb.code),
            *_ordered(min(names_a, 3.0), min(names_b, 3.0)),
            float(ra.questions != rb.questions and bool(ra.questions) == bool(rb.questions)),
            float(bool(ra.questions) != bool(rb.questions)),
            float(a.first != b.first),
            float(min(abs(a.negations - b.negations), 2)),
            _difference(a.persons, b.persons),
            _difference(a.auxiliaries, b.auxiliaries),
            _jaccard(a.function_words, b.function_words),
            _turned(a, b),
            float(ra.latin and ra.english and rb.latin and rb.english),
        ),
        dtype=np.float32,
    )


def _ordered(x: float, y: float) -> tuple[float, float]:
    return (x, y) if x <= y else (y, x)


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 1.0


def _jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    both = len(a & b)
    return _share(both, len(a) + len(b) - both)


def _difference(a: frozenset[str], b: frozenset[str]) -> float:
    return min(len(a ^ b), 3) / 3.0


def _turned(a: Sketch, b: Sketch) -> float:
    """The share of neighbouring shared words that stand the other way round in the other question."""
    place = {token: index for index, token in enumerate(b.order)}
    places = [place[token] for token in a.order if token in place]
    if len(places) < 2:
        return 0.0
    # Inversions of neighbours in one order are not those in the other: take all pairs, which are the same both ways.
    inversions, before = 0, list[int]()
    for at in places if places != sorted(places) else ():
        inversions += len(before) - bisect(before, at)
        insort(before, at)
    return 2.0 * inversions / (len(places) * (len(places) - 1))
