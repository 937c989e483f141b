"""What a class of partitions has seen of its guards: how often one alone kept an answer back, and was right.

Promises: pure; bounded (three numbers and 50 digests a kind). A refused proposal is a miss, so a model answers, and its
answer tells whether the refusal was needed: a guard is judged by full evidence, at no risk. Only kinds of LIFTABLE are
ever lifted; with no evidence none is, nor by the questions of a few answers, which one caller can plant; and with
little, what decides is raised by what may still come. What was served all the same is booked at what is to be expected
(docs/adr/0025). Once lifted, it is judged by its audited hits, and comes back when they speak for it.

A lifted guard is on a short lead: beyond the last proposal that was shown to be right, only so many hits are served as
a share of the wrong answers that may be (`is_due`), and none after one was shown to be wrong until a later one is shown
to be right. So who had a guard lifted by what he planted gains few hits by it, however much that was and however late
audits come back.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.group_records import digest
from services.cache.matching.proposal_guard import LIFTABLE

__all__ = [
    "GUARDED_WRONG_MAX",
    "GUARD_CODES",
    "HEARD_EACH_MAX",
    "HEARD_MAX",
    "UNSHOWN_MAX",
    "UNSHOWN_MIN",
    "GuardEvidence",
    "guard_code",
]

Floats = npt.NDArray[np.float64]
Digests = npt.NDArray[np.uint64]

GUARDED_WRONG_MAX: Final = 0.05
"""What is refused is evidence of its guard where nothing else speaks against it, up to this P(wrong); and only there
the guard may be lifted."""

SEEN_MIN: Final = 50.0
"""Such outcomes before a guard is lifted."""

HEARD_EACH_MAX: Final = 3
"""Of one answer no more outcomes count for these."""

HEARD_MAX: Final = int(SEEN_MIN)
"""Answers of each kind that are counted at most: then there are enough."""

SURCHARGE_PROVEN: Final = 2.0
"""Up to this surcharge, what a guard speaks against counts like the rest when probabilities are recalibrated."""

UNSHOWN_SHARE: Final = 0.25
UNSHOWN_MIN: Final = 4.0
UNSHOWN_MAX: Final = 64
"""Hits under one kind of guard beyond the last proposal that was shown to be right: at most that share of the wrong
answers that may be served in all, but not below the one nor above the other. They may all be wrong."""

_NO_GUARD: Final = 0
_HARD: Final = 1
_FIRST_LIFTABLE: Final = 2

GUARD_CODES: Final = _FIRST_LIFTABLE + len(LIFTABLE)
"""Numbers that `guard_code` gives: those below."""


def guard_code(guard: str) -> int:
    """A number for a kind of guard; "" is none. `GuardEvidence.refuses` is by these numbers."""
    if not guard:
        return _NO_GUARD
    return _FIRST_LIFTABLE + LIFTABLE.index(guard) if guard in LIFTABLE else _HARD


class GuardEvidence:
    """`counts` [len(LIFTABLE), 3]: what was observed of each kind, the wrong ones among them, and how many wrong ones
    were foretold by what was known but for the guard; all faded by age. `lifts`: whether anything is ever lifted.

    Beside these it is known of which answers the first outcomes of each kind were, until there are enough; and, since
    this process started, how many hits were served under each kind, and at which of them one was last shown right."""

    def __init__(self, *, lifts: bool = True) -> None:
        self.counts: Floats = np.zeros((len(LIFTABLE), 3))
        self._heard: tuple[dict[int, int], ...] = tuple({} for _ in LIFTABLE)
        self._lifts = lifts
        self._places = [0] * len(LIFTABLE)
        self._shown = [0] * len(LIFTABLE)

    def fade(self, factor: float) -> None:
        """Another lookup: what was seen counts for so much less."""
        self.counts *= factor

    def add(
        self, guard: str, *, group: str, wrong: float, same: bool, served: bool = False, place: int | None = None
    ) -> None:
        """The outcome of a proposal that the guard spoke against, whose P(wrong) was otherwise `wrong`, not tightened.

        `group`: whose answer was proposed. `served`: it was served all the same, so it counts however dear it looks.
        `place`: what `place` was when it was decided; None where that was now.
        """
        if guard not in LIFTABLE or not (served or wrong <= GUARDED_WRONG_MAX):
            return
        kind = LIFTABLE.index(guard)
        self.counts[kind] += (1.0, float(not same), wrong)
        if same:
            self._shown[kind] = max(self._shown[kind], self._places[kind] if place is None else place)
        else:  # what was decided before it shows nothing any more
            self._places[kind] += UNSHOWN_MAX
        heard = self._heard[kind]
        if sum(heard.values()) < SEEN_MIN:
            key = digest(group)
            heard[key] = min(HEARD_EACH_MAX, heard.get(key, 0) + 1)

    def place(self, guard: str) -> int | None:
        """Where among the hits under such guards a proposal is decided now; None for what is never lifted."""
        return self._places[LIFTABLE.index(guard)] if guard in LIFTABLE else None

    def serve(self, guard: str) -> None:
        """A hit that the guard speaks against is served."""
        if guard in LIFTABLE:
            self._places[LIFTABLE.index(guard)] += 1

    def is_due(self, guard: str, *, wrong_max: float) -> bool:
        """Whether another proposal has to be shown right before any more hits are served under the guard.

        `wrong_max`: how many wrong answers may be served in all.
        """
        if guard not in LIFTABLE:
            return False
        kind = LIFTABLE.index(guard)
        lead = min(max(UNSHOWN_SHARE * wrong_max, UNSHOWN_MIN), UNSHOWN_MAX)
        return self._places[kind] - self._shown[kind] >= lead

    def surcharge(self, guard: str) -> float:
        """By how much P(wrong) is to be multiplied where the guard speaks: at least 1, infinite while it is not lifted.

        It is the 95 % upper bound of the wrong ones there may be, for those that were seen, over those foretold.
        """
        if not guard:
            return 1.0
        if guard not in LIFTABLE or not self._lifts:
            return math.inf
        kind = LIFTABLE.index(guard)
        seen, wrong, foretold = self.counts[kind].tolist()
        if min(seen, sum(self._heard[kind].values())) < SEEN_MIN or foretold <= 0.0:
            return math.inf
        return max(1.0, _poisson_high(float(wrong)) / float(foretold))

    def expected(self, guard: str) -> float:
        """By how much P(wrong) of what is served where the guard speaks is multiplied when it is booked: at least 1.

        `surcharge` decides what is served, and is a bound: a guard is right until it was shown to be wrong. What is
        booked is a mean, as it is of all else that is served, since the budget adds room for chance to the sum: the
        mean of the very distribution (Gamma, of the wrong ones seen and one more) whose 95 % bound the surcharge is.
        """
        if guard not in LIFTABLE:
            return 1.0
        _, wrong, foretold = self.counts[LIFTABLE.index(guard)].tolist()
        return max(1.0, float((wrong + 1.0) / foretold)) if foretold > 0.0 else 1.0

    def kept(self) -> tuple[Digests, Floats]:
        """Of which answers was heard: digests [n], and the kind's place and how many outcomes [n, 2]: for `restore`."""
        found = [(key, kind, count) for kind, heard in enumerate(self._heard) for key, count in heard.items()]
        digests = np.asarray([key for key, *_ in found], dtype=np.uint64)
        return digests, np.asarray([rest for _, *rest in found], dtype=np.float64).reshape(-1, 2)

    def restore(self, counts: Floats, digests: Digests, heard: Floats) -> None:
        """Goes on from `counts` and what was `kept`."""
        self.counts = counts
        self._heard = tuple({} for _ in LIFTABLE)
        for key, (kind, count) in zip(digests.tolist(), heard.astype(int).tolist(), strict=True):
            self._heard[kind][key] = count

    def refuses(self) -> Floats:
        """By `guard_code`, whether what a guard of that kind speaks against is no evidence of other things: 0 or 1."""
        return np.asarray([0.0, 1.0, *(float(self.surcharge(guard) > SURCHARGE_PROVEN) for guard in LIFTABLE)])


def _poisson_high(count: float) -> float:
    """The one-sided 95 % upper bound of a Poisson mean of which `count` events were seen (Wilson and Hilferty)."""
    more = count + 1.0
    return float(more * (1.0 - 1.0 / (9.0 * more) + 1.645 / (3.0 * math.sqrt(more))) ** 3)
