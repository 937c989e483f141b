"""What became of prompts like this one: decayed counts of outcomes for every cluster and tier. Pure.

Promises: bounded (clusters x tiers of at most VERSIONS_MAX heads; outcomes of clusters or tiers that are not known are
left out); the same outcomes at the same times give the same state; nothing is said of a tier with fewer than
`evidence_min` outcomes left after decay; what is said never falls from a tier to a dearer one, and is 1 for the last.

For tier t of a cluster let s and f be the weighted outcomes that sufficed and that failed. The head's own estimate p is
a Beta prior of weight w (`prior_weight`); what is served is the mean of the posterior,
    (w * p + s) / (w + s + f),
made monotone over the tiers by isotonic regression with the weights w + s + f. What suffices on one tier would have
sufficed on every dearer one, so it counts there too. A failure counts for its own tier alone: that a dear tier failed
where a cheap one was never asked, nobody has seen. An outcome counts half after `half_life_s`.

A prompt far from what the clusters were made of has a nearest one all the same, whose outcomes are of other prompts:
they count less for it the farther it is, and nothing once it is out of the domain (`nearness`); nor do they raise P
above a bound that comes down with it.

Who says it matters: a gate's pass is a guess (weight 1), a canary's grade has seen the flagship's answer (2), whoever
asked knows what was wanted (3). The floor counts outcomes, not weights, so a few loud callers do not pass it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from services.classifier.clusters import split_name
from services.classifier.head import log_odds
from spillway.routing import OutcomeSource, Signal, TierOutcome, TierSufficiency

__all__ = [
    "CLUSTERS_MAX",
    "MEMORY_FORMAT",
    "SOURCE_WEIGHTS",
    "VERSIONS_MAX",
    "ClusterMemory",
    "MemoryCorruptError",
    "nearness",
]

SOURCE_WEIGHTS: Final[Mapping[OutcomeSource, float]] = {
    OutcomeSource.GATES: 1.0,
    OutcomeSource.CANARY: 2.0,
    OutcomeSource.FEEDBACK: 3.0,
}
# As many as a trained model may have.
CLUSTERS_MAX: Final = 1_024
# The head in use, the one before it (calls under way still name it, and a rollback wants it back), and one more.
VERSIONS_MAX: Final = 3
MEMORY_FORMAT: Final = "cluster-memory-1"
# Decayed to less than this a cluster is forgotten, which keeps what is written small.
COUNT_MIN: Final = 0.01
COUNT_MAX: Final = 1e12

# Of the out-of-domain score; 0.5 is the 95th percentile of what the head was made of.
NEAR: Final = 0.5
# What the memory raises P to at most far away, in proportion between: a trained head's own P comes down to it there.
FAR_MOST: Final = 0.25

_SOURCES: Final = tuple(SOURCE_WEIGHTS)
_WEIGHTS: Final = np.asarray(list(SOURCE_WEIGHTS.values()))

Counts = npt.NDArray[np.float64]


class MemoryCorruptError(ValueError):
    """What was written cannot be read."""


@dataclass(slots=True)
class _Cell:
    """One cluster: counts [tiers, sources, 2] as of `at_s`; the last axis is failed, sufficed."""

    counts: Counts
    at_s: float

    def at(self, now_s: float, half_life_s: float) -> Counts:
        # The wall clock may be set back: then nothing decays, and nothing grows.
        factor: float = 0.5 ** (max(0.0, now_s - self.at_s) / half_life_s)
        return self.counts * factor


@dataclass(slots=True)
class _Space:
    """The clusters of one version."""

    clusters: int
    cells: dict[int, _Cell] = field(default_factory=dict)


def _monotone(values: Counts, weights: Counts) -> list[float]:
    """Weighted isotonic regression: the nearest values, in least squares, that never fall."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, mass, size = blocks.pop()
            total = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / total, total, size + block[2])
        blocks.append(block)
    return [mean for mean, _, size in blocks for _ in range(size)]


def nearness(out_of_domain: float | None) -> float:
    """What outcomes of the nearest cluster count for a prompt: 1 up to NEAR, then less, 0 at out-of-domain 1.

    0 where nobody said how far it is. P is drawn down along the same line (`sufficiency.pull_down`), so that the memory
    does not undo it.
    """
    return 0.0 if out_of_domain is None else min(1.0, max(0.0, (1.0 - out_of_domain) / (1.0 - NEAR)))


class ClusterMemory:
    """Outcomes of `tiers` (cheapest first). Times are seconds since 1970, since they outlive the process."""

    def __init__(self, tiers: Sequence[str], *, half_life_s: float, evidence_min: float, prior_weight: float) -> None:
        self._tiers = tuple(tiers)
        self._index = {name: index for index, name in enumerate(self._tiers)}
        self._half_life_s = half_life_s
        self._evidence_min = evidence_min
        self._prior_weight = prior_weight
        # The one in use last.
        self._spaces: OrderedDict[str, _Space] = OrderedDict()
        self._changes = 0

    @property
    def changes(self) -> int:
        """Grows with every change that is worth writing."""
        return self._changes

    @property
    def clusters(self) -> int:
        """How many clusters have outcomes, those of earlier heads included."""
        return sum(len(space.cells) for space in self._spaces.values())

    def follow(self, version: str, clusters: int) -> None:
        """From now on prompts are of these clusters. What was learnt of a version is kept while it is remembered."""
        space = self._spaces.pop(version, None)
        if space is None or space.clusters != clusters:
            space = _Space(min(clusters, CLUSTERS_MAX))
        self._spaces[version] = space
        while len(self._spaces) > VERSIONS_MAX:
            self._spaces.popitem(last=False)
        self._changes += 1

    def retier(self, tiers: Sequence[str]) -> None:
        """From now on these are the tiers, cheapest first. What was learnt of one that is gone is forgotten."""
        if tuple(tiers) == self._tiers:
            return
        before = self._index
        self._tiers = tuple(tiers)
        self._index = {name: index for index, name in enumerate(self._tiers)}
        for space in self._spaces.values():
            for cell in space.cells.values():
                counts = np.zeros((len(self._tiers), len(_SOURCES), 2))
                for name, index in self._index.items():
                    if name in before:
                        counts[index] = cell.counts[before[name]]
                cell.counts = counts
        self._changes += 1

    def record(self, outcomes: Iterable[TierOutcome], now_s: float) -> int:
        """Counts outcomes; those of unknown clusters or tiers are left out. How many were counted."""
        counted = 0
        for outcome in outcomes:
            tier = self._index.get(outcome.tier)
            found = self._find(outcome.cluster)
            if tier is None or found is None:
                continue
            space, index = found
            cell = space.cells.get(index)
            if cell is None:
                cell = space.cells[index] = _Cell(np.zeros((len(self._tiers), len(_SOURCES), 2)), now_s)
            cell.counts = cell.at(now_s, self._half_life_s)
            cell.at_s = now_s
            cell.counts[tier, _SOURCES.index(outcome.source), int(outcome.sufficed)] += 1.0
            counted += 1
        self._changes += counted > 0
        return counted

    def adjust(
        self, cluster: str, sufficiency: tuple[TierSufficiency, ...], now_s: float, *, nearness: float = 1.0
    ) -> tuple[tuple[TierSufficiency, ...], Signal | None]:
        """P(a tier suffices) with what is remembered, and the signal that says so; unchanged without evidence.

        `nearness`, 0 to 1: what an outcome of this cluster counts for this prompt; see `nearness`.
        The signal's value is the new P of the tier that was moved most, its contribution by how much its log-odds
        fell (positive: towards a dearer tier).
        """
        found = self._find(cluster)
        cell = found[0].cells.get(found[1]) if found is not None else None
        rows = [self._index[entry.tier] for entry in sufficiency if entry.tier in self._index]
        if cell is None or nearness <= 0.0 or not rows or len(rows) < len(sufficiency):
            return sufficiency, None
        counts = nearness * cell.at(now_s, self._half_life_s)[rows]
        counts[:, :, 1] = np.cumsum(counts[:, :, 1], axis=0)
        outcomes = counts.sum(axis=(1, 2))
        # The dearest is what "suffices" is measured by.
        speaks = outcomes >= self._evidence_min
        speaks[-1] = False
        if not speaks.any():
            return sufficiency, None
        weighted = np.where(speaks[:, None], np.einsum("tsk,s->tk", counts, _WEIGHTS), 0.0)
        before = np.asarray([entry.probability for entry in sufficiency])
        weights = self._prior_weight + weighted.sum(axis=1)
        means = (self._prior_weight * before + weighted[:, 1]) / weights
        means[-1], weights[-1] = 1.0, COUNT_MAX
        most = nearness + (1.0 - nearness) * FAR_MOST
        after = [
            min(max(0.0, value), max(old, most))
            for value, old in zip(_monotone(means, weights), before.tolist(), strict=True)
        ]
        after[-1] = 1.0
        shifts = [log_odds(old) - log_odds(new) for old, new in zip(before.tolist(), after, strict=True)]
        told = max(np.flatnonzero(speaks).tolist(), key=lambda tier: abs(shifts[tier]))
        tier = sufficiency[told].tier
        seen = counts[told] / nearness
        said = f"{seen[:, 1].sum():.0f} of {seen.sum():.0f} answers of {tier} sufficed in cluster {cluster}"
        signal = Signal(
            name="memory",
            value=after[told],
            contribution=shifts[told],
            evidence=said if nearness == 1.0 else f"{said}, each counted {nearness:.2f} so far from it",
        )
        adjusted = tuple(TierSufficiency(entry.tier, value) for entry, value in zip(sufficiency, after, strict=True))
        return adjusted, signal

    def dump(self, now_s: float) -> dict[str, object]:
        """The state as JSON values; `load` reads it. Clusters that have decayed to nothing are forgotten."""
        spaces: list[dict[str, object]] = []
        for version, space in self._spaces.items():
            for index in [i for i, c in space.cells.items() if c.at(now_s, self._half_life_s).sum() < COUNT_MIN]:
                del space.cells[index]
            cells = {str(index): self._dump_cell(cell) for index, cell in sorted(space.cells.items())}
            spaces.append({"version": version, "clusters": space.clusters, "cells": cells})
        return {"format": MEMORY_FORMAT, "heads": spaces}

    def load(self, document: object) -> None:
        """Takes over what `dump` gave. Tiers that are not configured any more are left out.

        Raises MemoryCorruptError, and then changes nothing.
        """
        try:
            if not isinstance(document, dict) or document["format"] != MEMORY_FORMAT:
                raise MemoryCorruptError("the file is no memory of clusters of this version")
            spaces: OrderedDict[str, _Space] = OrderedDict()
            for entry in document["heads"][-VERSIONS_MAX:]:
                clusters = int(entry["clusters"])
                if not 0 <= clusters <= CLUSTERS_MAX:
                    raise MemoryCorruptError("a head has too many clusters")
                version = str(entry["version"])
                cells = {int(key): self._load_cell(value) for key, value in entry["cells"].items()}
                if any(not 0 <= index < clusters for index in cells):
                    raise MemoryCorruptError("a cluster is out of range")
                spaces[version] = _Space(clusters, cells)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, MemoryCorruptError):
                raise
            raise MemoryCorruptError(f"the file is unreadable ({type(error).__name__})") from error
        # What is followed already stays what was followed last.
        for version, space in self._spaces.items():
            known = spaces.pop(version, None)
            spaces[version] = known if known is not None and known.clusters == space.clusters else space
        while len(spaces) > VERSIONS_MAX:
            spaces.popitem(last=False)
        self._spaces = spaces

    def _find(self, cluster: str) -> tuple[_Space, int] | None:
        parts = split_name(cluster)
        space = self._spaces.get(parts[0]) if parts is not None else None
        if parts is None or space is None or parts[1] >= space.clusters:
            return None
        return space, parts[1]

    def _dump_cell(self, cell: _Cell) -> dict[str, object]:
        tiers = {
            name: {source.value: cell.counts[tier, number].tolist() for number, source in enumerate(_SOURCES)}
            for tier, name in enumerate(self._tiers)
        }
        return {"at_unix_s": cell.at_s, "failed_and_sufficed": tiers}

    def _load_cell(self, value: Mapping[str, object]) -> _Cell:
        at_s = float(value["at_unix_s"])  # type: ignore[arg-type] # a TypeError is caught by `load`
        counts = np.zeros((len(self._tiers), len(_SOURCES), 2))
        written = value["failed_and_sufficed"]
        for name, tier in self._index.items():
            by_source = written.get(name, {})  # type: ignore[attr-defined] # an AttributeError is caught by `load`
            for number, source in enumerate(_SOURCES):
                counts[tier, number] = by_source.get(source.value, (0.0, 0.0))
        if not (math.isfinite(at_s) and np.isfinite(counts).all() and (counts >= 0).all() and counts.max() < COUNT_MAX):
            raise MemoryCorruptError("a count is out of range")
        return _Cell(counts, at_s)
