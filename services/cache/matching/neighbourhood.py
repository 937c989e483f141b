"""What the nearest stored questions say together about a question: which answer they propose, and how clearly.

Promises: pure, total, finite, independent of the order of its input. Stored questions whose answers were found to be
the same belong to one group (an entry and its aliases); each near question votes for its group, the nearer the more. A
lone near question and a crowd of different ones look different here, where a threshold on similarity sees no
difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["NAMES", "NEAR_MAX", "NO_CENTRES", "Centres", "Near", "Proposal", "centres", "evidence", "propose"]

Vector = npt.NDArray[np.float32]

NEAR_MAX: Final = 32
"""Stored questions that have a vote. More change nothing: their similarity is too far from the first one's."""

TEMPERATURES: Final = (0.03, 0.05, 0.1)
"""Cosine differences that change a vote by a factor of e: the nearest few, the neighbourhood, its surroundings."""

TOP_ROWS: Final = 3
"""The proposed group's nearest, whose mean similarity is a signal."""

SMOOTHING: Final = 1e-4
"""Keeps the log odds of a unanimous vote finite."""

ALONE_MARGIN: Final = 0.02
"""How much farther than the farthest near question the nearest of another group is taken to be when none is near."""

PAIR_LOGIT_MAX: Final = 12.0

CENTRE_MARGIN_ALONE: Final = 0.1
"""How much nearer its centre is taken to be than any other group's when no other group is near."""

NAMES: Final = (
    "vote_nearest",
    "vote",
    "vote_wide",
    "similarity",
    "margin",
    "share",
    "aliases",
    "first",
    "similarity_top",
    "similarity_last",
    "similarity_least",
    "groups",
    "rival_aliases",
    "centre",
    "centre_margin",
    "cohesion",
    "length",
    "pair",
    "record",
    "words",
)


class Near(NamedTuple):
    """A stored question near the asked one.

    `group` is the name of the answer it has: the same for all its aliases. `similarity` is the cosine, -1 to
    1. `aliases` is how many stored questions the group has in all, at least 1.
    """

    group: str
    similarity: float
    aliases: int = 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """The answer that would be served: its group, and of the given rows those of that group, nearest first.

    `row` is the nearest one: the pair model compares the question with it. `signals` are for `evidence`.
    """

    group: str
    row: int
    rows: tuple[int, ...]
    signals: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Centres:
    """Where a question lies among its near ones' answers: the cosine to the mean of the proposed group's near ones, how
    much nearer that is than any other group's mean, and how alike the proposed group's are (the length of their
    mean, 0 to 1)."""

    nearest: float
    margin: float
    cohesion: float


NO_CENTRES: Final = Centres(0.0, 0.0, 0.0)
"""Where vectors are not known."""


def propose(near: Sequence[Near]) -> Proposal | None:
    """The group with most of the vote among the nearest NEAR_MAX; None when nothing comparable is near.

    Ties go to the nearer group, then to the lesser key.
    """
    order = sorted(
        (row for row in range(len(near)) if math.isfinite(near[row].similarity)),
        key=lambda row: (-near[row].similarity, near[row].group, row),
    )[:NEAR_MAX]
    if not order:
        return None
    similarities = [near[row].similarity for row in order]
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(order):
        groups.setdefault(near[row].group, []).append(place)
    nearest = similarities[0]
    weights = [[math.exp((each - nearest) / t) for each in similarities] for t in TEMPERATURES]
    votes = {group: _at(weights[1], places) for group, places in groups.items()}
    best = max(votes, key=lambda group: (votes[group], -groups[group][0]))
    places = groups[best]
    own = [similarities[place] for place in places]
    others = [held[0] for group, held in groups.items() if group != best]
    nearest_other = similarities[min(others)] if others else similarities[-1] - ALONE_MARGIN
    signals = (
        *(_log_odds(_at(weight, places) / sum(weight)) for weight in weights),
        own[0],
        own[0] - nearest_other,
        len(places) / len(order),
        math.log1p(max(1, near[order[places[0]]].aliases)),
        float(places[0] == 0),
        sum(own[:TOP_ROWS]) / len(own[:TOP_ROWS]),
        similarities[-1],
        own[-1],
        len(groups) / len(order),
        math.log1p(max((near[order[place]].aliases for place in others), default=0)),
    )
    rows = tuple(order[place] for place in places)
    return Proposal(best, rows[0], rows, signals)


def _at(weights: Sequence[float], places: Sequence[int]) -> float:
    return sum([weights[place] for place in places])


def _log_odds(share: float) -> float:
    return math.log((share + SMOOTHING) / (1.0 - share + SMOOTHING))


def centres(asked: Vector, near: Sequence[Near], vectors: Vector, proposal: Proposal) -> Centres:
    """`asked` [d], a unit vector; `vectors` [len(near), d]: of each a unit vector, or zeros where none is known."""
    if len(vectors) != len(near):
        raise ValueError("a vector for each of those near is needed")
    groups: dict[str, list[int]] = {}
    for row, each in enumerate(near):
        groups.setdefault(each.group, []).append(row)
    found = {}
    for group, rows in groups.items():
        mean = vectors[rows[0]]
        if len(rows) > 1:
            mean = np.add.reduce(vectors[rows], axis=0) / np.float32(len(rows))
        length = float(np.float32(math.sqrt(mean.dot(mean))))  # what np.sqrt gives, for less
        found[group] = (float(asked.dot(mean)) / max(length, 1e-6), length)
    nearest, cohesion = found.pop(proposal.group, (0.0, 0.0))
    margin = nearest - max(cosine for cosine, _ in found.values()) if found else CENTRE_MARGIN_ALONE
    result = (nearest, margin, cohesion)
    return Centres(*result) if all(map(math.isfinite, result)) else NO_CENTRES


def evidence(
    proposal: Proposal,
    pair_logit: float,
    found: Centres = NO_CENTRES,
    *,
    chars: int = 0,
    record: float = 0.0,
    words: float = 0.0,
) -> npt.NDArray[np.float64]:
    """The numbers that the risk control decides by, as `NAMES` has them.

    `pair_logit` is the pair model's log odds that the question and the proposal's nearest one have the same answer.
    `chars` is how long the question is, `record` what earlier proposals of the group came to (`group_records`), `words`
    how much likelier its words are of the group than of another near one (`answer_words`).
    """
    pair = min(max(pair_logit, -PAIR_LOGIT_MAX), PAIR_LOGIT_MAX) if math.isfinite(pair_logit) else 0.0
    return np.asarray(
        (*proposal.signals, found.nearest, found.margin, found.cohesion, math.log1p(chars), pair, record, words),
        dtype=np.float64,
    )
