"""Rows made ready to fit and to examine: embedded, fingerprinted, and judged by whoever is to be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.fitted_prompts import FittedPrompts, FittedPromptsError
from lab.router_data import RouterRows, fingerprints
from lab.router_inputs import InputError, Inputs, builtin_head, embed, load_head, remark, usable
from lab.router_outcomes import RouterData
from lab.router_scores import Scores, baselines, by_builtin, by_heuristics, by_trained, read_heuristics
from services.classifier.head_store import BUILTIN, HeadStore, HeadStoreError

__all__ = ["Prepared", "judges_of", "prepare", "sampled", "unseen"]

# A fit of so many holds some 2 GB; embedding them takes minutes.
ROWS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows as the fit wants them, with what the exam needs beside; `costs` [tiers], None when not all are known."""

    data: RouterData
    kinds: tuple[str, ...]
    costs: npt.NDArray[np.float64] | None
    prints: npt.NDArray[np.uint64]
    model_id: str
    embedding_s: float

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Prepared:
        """These rows alone."""
        kinds = tuple(kind for kind, wanted in zip(self.kinds, chosen.tolist(), strict=True) if wanted)
        return Prepared(self.data.rows(chosen), kinds, self.costs, self.prints[chosen], self.model_id, self.embedding_s)

    def tiers(self, kept: Sequence[int]) -> Prepared:
        """These tiers alone, by index; the dearest must be among them."""
        data = self.data
        chosen = RouterData(
            data.texts, data.vectors, tuple(data.tiers[index] for index in kept), data.outcomes[:, kept], data.lexical
        )
        costs = None if self.costs is None else self.costs[list(kept)]
        return Prepared(chosen, self.kinds, costs, self.prints, self.model_id, self.embedding_s)


def sampled(rows: RouterRows, *, seed: int) -> RouterRows:
    """At most ROWS_MAX of the rows, at random by content and seed, so that memory and time stay bounded."""
    if len(rows) <= ROWS_MAX:
        return rows
    remark(f"of {len(rows)} prompts a random sample of {ROWS_MAX} is used")
    order = np.argsort(fingerprints(rows.prompts) ^ np.uint64(_mixed(seed)), kind="stable")
    chosen = np.zeros(len(rows), dtype=np.bool_)
    chosen[order[:ROWS_MAX]] = True
    return rows.rows(chosen)


def _mixed(seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8).digest(), "little")


def prepare(inputs: Inputs, rows: RouterRows) -> Prepared:
    """Embeds the rows. Raises InputError."""
    tiers, outcomes, costs = usable(rows)
    vectors = embed(inputs, rows.prompts)
    data = RouterData.of(rows.prompts, vectors.values, tiers, outcomes)
    known = costs if bool(np.isfinite(costs).all()) else None
    return Prepared(data, rows.kinds, known, fingerprints(rows.prompts), vectors.model_id, vectors.seconds)


def unseen(store: HeadStore, head: str, prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Marks the rows that a head was fitted to neither themselves nor by a near copy. Raises InputError."""
    if head == BUILTIN:
        return np.ones(len(prepared.data), dtype=np.bool_)
    try:
        fresh = ~np.isin(prepared.prints, store.seen(head))
        kept = store.near(head)
        near = FittedPrompts.parse(kept) if kept else None
    except (HeadStoreError, FittedPromptsError) as error:
        raise InputError(f"what head {head} was fitted to cannot be read: {error}") from error
    if near is None:
        remark(
            f"head {head} kept nothing to tell near copies of its prompts by: only the prompts themselves are left out"
        )
        return fresh
    left = np.flatnonzero(fresh)
    fresh[left] = ~near.copies([prepared.data.texts[row] for row in left.tolist()], prepared.data.vectors[left])
    return fresh


def judges_of(inputs: Inputs, test: Prepared, *, head: str, seed: int) -> tuple[Scores, ...]:
    """`head` first (a version or "builtin"), then the built-in rule, heuristics, the baselines. Raises InputError.

    Where the built-in head is of another embedding model the heuristics are what the service says without a trained
    one, and stand under both names.
    """
    words = read_heuristics(test.data.texts)
    plain = by_heuristics(words, inputs.ladder, test.data.tiers)
    found = []
    if head != BUILTIN:
        found.append(by_trained(head, load_head(inputs.store, head, test.model_id), test.data, inputs.ladder))
    builtin = builtin_head(test.model_id)
    if builtin is None:
        found.append(Scores(BUILTIN, plain.need, plain.probabilities))
    else:
        found.append(by_builtin(builtin, words, test.data, inputs.ladder))
    return (*found, plain, *baselines(test.data, seed))
