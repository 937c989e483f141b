"""What a risk controller learned, as bytes: .npz without pickles, and read with suspicion.

Promises: pure; reading takes no more memory than `UNPACKED_BYTES_MAX` allows; what was read has the shapes, the ranges,
the kinds of guards and the numbers of evidence of this version, or RiskStateError is raised and nothing was taken over.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.answer_words import CELLS, QUESTIONS_MAX
from services.cache.matching.group_records import GROUPS_MAX, OUTCOMES_MAX
from services.cache.matching.guard_evidence import GUARD_CODES, HEARD_EACH_MAX, HEARD_MAX
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.packed_arrays import PackedArraysError, unpack_arrays
from services.cache.matching.proposal_guard import LIFTABLE

__all__ = ["STATE_BYTES_MAX", "UNPACKED_BYTES_MAX", "RiskState", "RiskStateError", "pack_state", "parse_state"]

Floats = npt.NDArray[np.float64]

STATE_BYTES_MAX: Final = 4 * 1024 * 1024

UNPACKED_BYTES_MAX: Final = 8 * 1024 * 1024
"""Unpacked: 6,000 observations of 20 numbers are 1 MB, counts of words 0.3 MB."""

FEATURE_MAX: Final = 1e6
COUNT_MAX: Final = 1e9
RECENT_MAX: Final = 100_000
_MEMBERS: Final = (
    "features",
    "outcomes",
    "observed",
    "counters",
    "recent",
    "recent_audits",
    "guards",
    "guard_heard",
    "guard_groups",
    "kinds",
    "names",
    "groups",
    "group_counts",
    "word_groups",
    "word_questions",
    "word_cells",
)
_TEXTS: Final = ("kinds", "names")
_COUNTS: Final = ("guard_groups", "groups", "word_groups", "word_questions", "word_cells")


class RiskStateError(ValueError):
    """Not the state of a controller of this version."""


@dataclass(frozen=True, slots=True)
class RiskState:
    """`features` [n, len(NAMES)] and `outcomes` [n, 2] (same, code of the guard), the newest of `observed`;
    `counters` and `recent` are the controller's own; `recent_audits` are as `RiskAudits.recent`; `guards`
    [len(LIFTABLE), 3] as `GuardEvidence.counts`, `guard_groups` and `guard_heard` as its `kept`; `groups` and
    `group_counts` as `GroupRecords.kept`; `word_groups`, `word_questions` [m + 1] and `word_cells` as
    `AnswerWords.kept`."""

    features: Floats
    outcomes: Floats
    observed: int
    counters: tuple[float, ...]
    recent: tuple[float, ...]
    recent_audits: tuple[tuple[bool, float, float], ...]
    guards: Floats
    guard_groups: npt.NDArray[np.uint64]
    guard_heard: Floats
    groups: npt.NDArray[np.uint64]
    group_counts: Floats
    word_groups: npt.NDArray[np.uint64]
    word_questions: npt.NDArray[np.int64]
    word_cells: npt.NDArray[np.uint16]


def pack_state(state: RiskState) -> bytes:
    """About 1 MB at most."""
    stream = io.BytesIO()
    audits = np.asarray([(float(wrong), *rest) for wrong, *rest in state.recent_audits]).reshape(-1, 3)
    np.savez_compressed(
        stream,
        features=state.features,
        outcomes=state.outcomes,
        observed=np.asarray(state.observed),
        counters=np.asarray(state.counters),
        recent=np.asarray(state.recent),
        recent_audits=audits,
        guards=state.guards,
        guard_groups=state.guard_groups,
        guard_heard=state.guard_heard,
        kinds=np.asarray(LIFTABLE),
        names=np.asarray(NAMES),
        groups=state.groups,
        group_counts=state.group_counts,
        word_groups=state.word_groups,
        word_questions=state.word_questions,
        word_cells=state.word_cells,
    )
    return stream.getvalue()


def parse_state(data: bytes, *, least: Sequence[float], observations_max: int) -> RiskState:
    """The state of `pack_state`, of as many counters as `least` has, none less than there. Raises RiskStateError."""
    if len(data) > STATE_BYTES_MAX:
        raise RiskStateError("the state is too large")
    try:
        read = unpack_arrays(data, unpacked_bytes_max=UNPACKED_BYTES_MAX)
        kinds, names = (tuple(map(str, read[name].tolist())) for name in _TEXTS)
        numbers = {name: read[name].astype(np.float64) for name in _MEMBERS if name not in (*_TEXTS, *_COUNTS)}
        guard_groups, groups, *words = (read[name] for name in _COUNTS)
        observed = int(numbers["observed"])
    except PackedArraysError as error:
        raise RiskStateError(f"the state is unreadable ({error})") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RiskStateError(f"the state is unreadable ({type(error).__name__})") from error
    if kinds != LIFTABLE:
        raise RiskStateError("the state is of other guards")
    if names != NAMES:
        raise RiskStateError("the state is of other evidence")
    shaped = _has_shapes(numbers, counters=len(least), observations_max=observations_max)
    if not shaped or not _has_ranges(numbers, np.asarray(least)) or not _are_words(*words):
        raise RiskStateError("the state has wrong shapes or values")
    if not _are_groups(groups, numbers["group_counts"]) or not _are_heard(guard_groups, numbers["guard_heard"]):
        raise RiskStateError("the state has wrong shapes or values")
    return RiskState(
        features=numbers["features"],
        outcomes=numbers["outcomes"],
        observed=observed,
        counters=tuple(numbers["counters"].tolist()),
        recent=tuple(numbers["recent"].tolist()),
        recent_audits=tuple((bool(wrong), *rest) for wrong, *rest in numbers["recent_audits"].tolist()),
        guards=numbers["guards"],
        guard_groups=guard_groups,
        guard_heard=numbers["guard_heard"],
        groups=groups,
        group_counts=numbers["group_counts"],
        word_groups=words[0],
        word_questions=words[1],
        word_cells=words[2],
    )


def _has_shapes(read: dict[str, Floats], *, counters: int, observations_max: int) -> bool:
    kept, observed = len(read["features"]) if read["features"].ndim else -1, float(read["observed"])
    return (
        0 <= observed <= COUNT_MAX
        and observed.is_integer()
        and kept == min(int(observed), observations_max)
        and read["features"].shape == (kept, len(NAMES))
        and read["outcomes"].shape == (kept, 2)
        and read["counters"].shape == (counters,)
        and read["recent"].ndim == 1
        and len(read["recent"]) <= RECENT_MAX
        and read["recent_audits"].ndim == 2
        and read["recent_audits"].shape[1] == 3
        and len(read["recent_audits"]) <= RECENT_MAX
        and read["guards"].shape == (len(LIFTABLE), 3)
    )


def _are_digests(digests: npt.NDArray[Any]) -> bool:
    return bool(
        digests.dtype == np.uint64
        and digests.ndim == 1
        and len(digests) <= GROUPS_MAX
        and len(np.unique(digests)) == len(digests)
    )


def _are_groups(digests: npt.NDArray[Any], counts: Floats) -> bool:
    return (
        _are_digests(digests)
        and counts.shape == (len(digests), 2)
        and bool(((counts >= 0.0) & (counts <= OUTCOMES_MAX)).all())
    )


def _are_heard(digests: npt.NDArray[Any], heard: Floats) -> bool:
    return bool(
        digests.dtype == np.uint64
        and digests.ndim == 1
        and len(digests) <= HEARD_MAX * len(LIFTABLE)
        and heard.shape == (len(digests), 2)
        and np.isin(heard[:, 0], np.arange(len(LIFTABLE))).all()
        and np.isin(heard[:, 1], np.arange(1, HEARD_EACH_MAX + 1)).all()
    )


def _are_words(digests: npt.NDArray[Any], questions: npt.NDArray[Any], cells: npt.NDArray[Any]) -> bool:
    """The last of `questions` are all there were, of groups that are not kept too."""
    return (
        _are_digests(digests)
        and questions.dtype == np.int64
        and questions.shape == (len(digests) + 1,)
        and bool(((questions >= 0) & (questions <= QUESTIONS_MAX)).all())
        and cells.dtype == np.uint16
        and cells.shape == (2, CELLS)
        and bool((cells <= QUESTIONS_MAX).all())
    )


def _has_ranges(read: dict[str, Floats], least: Floats) -> bool:
    if not all(np.isfinite(part).all() for part in read.values()):
        return False
    same, code = read["outcomes"].T
    seen, wrong, foretold = read["guards"].T
    told, booked, before = read["recent_audits"].T
    return bool(
        (np.abs(read["features"]) <= FEATURE_MAX).all()
        and np.isin(same, (0.0, 1.0)).all()
        and np.isin(code, np.arange(GUARD_CODES)).all()
        and ((read["counters"] >= least) & (read["counters"] <= COUNT_MAX)).all()
        and ((read["recent"] >= 0.0) & (read["recent"] <= 1.0)).all()
        and np.isin(told, (0.0, 1.0)).all()
        and ((booked >= 0.0) & (booked <= 1.0)).all()
        and ((before >= 0.0) & (before <= COUNT_MAX)).all()
        and ((wrong >= 0.0) & (foretold >= 0.0) & (wrong <= seen) & (foretold <= seen) & (seen <= COUNT_MAX)).all()
    )
