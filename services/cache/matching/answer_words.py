"""Which words the questions of an answer have, and those of its rivals have not.

Promises: pure and deterministic, the same in every process; bounded: CELLS counts in each of two rows, GROUPS_MAX
groups; finite numbers. No word, question or name of a group is kept: counts lie at digests of both together. An
embedding tells what a question is about and is blind to single words that part two answers of one topic; what was
stored shows which words do.

It is naive Bayes over the presence of words: a question's log likelihood under the answer's own questions, against that
under each rival's, both smoothed to a word's share of all questions. Counts are a count-min sketch (Cormode and
Muthukrishnan, 2005): words that share both cells with others count too high, never too low, and never for more than the
group has questions. When the sketch is half full, or many questions were counted, all counts are halved.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.group_records import GROUPS_MAX, digest

__all__ = ["CELLS", "MARGIN_MAX", "QUESTIONS_MAX", "AnswerWords"]

Digests = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint16]

CELLS: Final = 1 << 16
"""Of each row: 256 KB in all. Ten thousand questions of 77 answers fill a fifth of them."""

QUESTIONS_MAX: Final = 50_000
"""Questions that are counted before all counts are halved: within what a cell holds."""

SMOOTHING: Final = 4.0
"""Questions that an answer is taken to have besides, of which each word has its share of all."""

MARGIN_MAX: Final = 20.0
"""The margin lies within this, in nats; it is ALONE where no other answer is near."""

ALONE: Final = 6.0

_ALL: Final = np.uint64(0)
_SHIFT: Final = np.uint64(64 - 16)
_ROWS: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_WORD: Final = 0xFF51AFD7ED558CCD
_MASK: Final = (1 << 64) - 1


class AnswerWords:
    """Counts of words by group, and of all. Belongs to one event loop."""

    def __init__(self) -> None:
        self._cells: Counts = np.zeros((2, CELLS), dtype=np.uint16)
        self._questions: OrderedDict[int, int] = OrderedDict()
        self._all = 0
        self._filled = 0

    def add(self, group: str, words: Collection[str]) -> None:
        """A question of that group was stored. The group of longest ago makes room."""
        key = digest(group)
        self._questions[key] = self._questions.pop(key, 0) + 1
        self._all += 1
        while len(self._questions) > GROUPS_MAX:
            self._questions.popitem(last=False)
        if words:
            each = _words(words)
            places = _places(np.asarray([[key], [_ALL]], dtype=np.uint64) ^ each)
            self._filled += int(np.count_nonzero(self._cells[0][np.unique(places[0])] == 0))
            for row, at in zip(self._cells, places, strict=True):
                row[np.unique(at)] += np.uint16(1)
        if self._filled > CELLS // 2 or self._all >= QUESTIONS_MAX:
            self._halve()

    def margin(self, group: str, near: Iterable[str], words: Collection[str]) -> float:
        """How much likelier a question of these words is one of the group than of the likeliest other of those that are
        near, in nats, -MARGIN_MAX to MARGIN_MAX. Changes nothing."""
        keys = [digest(each) for each in dict.fromkeys((group, *near))]
        if len(keys) == 1:
            return ALONE
        if not words:
            return 0.0
        places = _places(np.asarray([*keys, 0], dtype=np.uint64)[:, None] ^ _words(words))
        seen = np.minimum(self._cells[0][places[0]], self._cells[1][places[1]]).astype(np.float64)
        questions = np.asarray([self._questions.get(key, 0) for key in keys], dtype=np.float64)[:, None]
        share = (np.minimum(seen[-1], self._all) + 0.5) / (self._all + 1.0)
        own = np.minimum(seen[:-1], questions)
        fit = np.log((own / share + SMOOTHING) / (questions + SMOOTHING)).sum(axis=1)
        return min(max(float(fit[0] - fit[1:].max()), -MARGIN_MAX), MARGIN_MAX)

    def kept(self) -> tuple[Digests, npt.NDArray[np.int64], Counts]:
        """Digests [n], the group of longest ago first; how many questions each has, and at the end how many were
        counted in all [n + 1]; the cells [2, CELLS]. For `restore`."""
        digests = np.fromiter(self._questions, dtype=np.uint64, count=len(self._questions))
        return digests, np.asarray([*self._questions.values(), self._all], dtype=np.int64), self._cells

    def restore(self, digests: Digests, questions: npt.NDArray[np.int64], cells: Counts) -> None:
        """Goes on from what was `kept`."""
        *each, self._all = questions.tolist()
        self._questions = OrderedDict(zip(digests.tolist(), each, strict=True))
        self._cells = cells.copy()
        self._filled = int(np.count_nonzero(self._cells[0]))

    def _halve(self) -> None:
        self._cells >>= np.uint16(1)
        self._questions = OrderedDict((key, count // 2) for key, count in self._questions.items() if count > 1)
        self._all //= 2
        self._filled = int(np.count_nonzero(self._cells[0]))


def _words(words: Collection[str]) -> Digests:
    """Digests of different words."""
    found = {zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words}
    return np.asarray([(each * _WORD) & _MASK for each in sorted(found)], dtype=np.uint64)


def _places(keys: Digests) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """In each row."""
    first, second = _ROWS
    return (keys * first) >> _SHIFT, (keys * second) >> _SHIFT
