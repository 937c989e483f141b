"""Online control over one order of a stream: the product's own proposal, pair model, guards and risk control.

Promises: deterministic for a seed. A miss tells whether the proposed answer was right, a hit tells nothing unless it is
audited; only the tally knows the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import numpy as np
import numpy.typing as npt

from lab.cache_runs import Run, Tally
from services.cache.matching.neighbourhood import NEAR_MAX, Centres, Near, Proposal, centres, evidence, propose
from services.cache.matching.pair_features import Sketch, pair_features, sketch
from services.cache.matching.pair_model import PairModel
from services.cache.matching.proposal_guard import ROWS_READ, proposal_refusal
from services.cache.matching.risk_control import RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

__all__ = ["PairJudge", "online_run"]

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


class PairJudge:
    """The pair model's and the guards' word on two questions of the stream, by their rows."""

    def __init__(self, model: PairModel, texts: Sequence[str], vectors: Vectors) -> None:
        self._model, self._texts, self._vectors = model, texts, vectors
        self._known: dict[int, Sketch] = {}

    def logit(self, a: int, b: int, similarity: float) -> float:
        """Log odds that they have one answer."""
        features = pair_features(self._read(a), self._read(b), similarity)
        return self._model.logit(features, self._vectors[a], self._vectors[b])

    def refusal(self, asked: int, stored: Sequence[int], aliases: int) -> str:
        """Why a guard refuses to serve the stored questions' answer."""
        return proposal_refusal(self._read(asked).reading, [self._read(row).reading for row in stored], aliases=aliases)

    def centres(self, asked: int, stored: Sequence[int], near: Sequence[Near], proposal: Proposal) -> Centres:
        """Where the question lies among the near ones' answers."""
        return centres(self._vectors[asked], near, self._vectors[list(stored)], proposal)

    def chars(self, row: int) -> int:
        """How long the question is."""
        return len(self._texts[row])

    def _read(self, row: int) -> Sketch:
        if row not in self._known:
            self._known[row] = sketch(self._texts[row], self._model.idf)
        return self._known[row]


def online_run(
    similarities: Vectors, answers: npt.NDArray[np.int64], judge: PairJudge, policy: RiskPolicy, seed: int
) -> Run:
    """One random order through the product's proposal, pair model and risk control."""
    order = np.random.default_rng(seed).permutation(len(answers))
    controller = RiskController(policy, Random(seed))
    tally = Tally()
    stored = np.zeros(len(order), dtype=np.int64)
    group_of: list[str] = []
    sizes: dict[str, int] = {}
    answer_of: dict[str, int] = {}
    for row in order.tolist():
        near: list[Near] = []
        rows: list[int] = []
        if group_of:
            found = similarities[row, stored[: len(group_of)]]
            count = min(NEAR_MAX, len(found))
            top = np.argpartition(found, len(found) - count)[len(found) - count :]
            top = top[np.argsort(-found[top])]
            rows = top.tolist()
            near = [Near(group_of[r], float(found[r]), sizes[group_of[r]]) for r in rows]
        proposal = propose(near)
        features: Floats | None = None
        refusal: Callable[[], str] = str
        if proposal is not None:
            best = rows[proposal.row]
            features = evidence(
                proposal,
                judge.logit(row, int(stored[best]), near[proposal.row].similarity),
                judge.centres(row, stored[rows].tolist(), near, proposal),
                chars=judge.chars(row),
            )
            own = [int(stored[rows[r]]) for r in proposal.rows[:ROWS_READ]]
            refusal = partial(judge.refusal, row, own, near[proposal.row].aliases)
        decision = controller.decide(features, refusal=refusal)
        right = proposal is not None and answer_of[proposal.group] == int(answers[row])
        tally.add(hit=decision.serve, wrong=decision.serve and not right)
        tally.audits += decision.audit
        if decision.serve and not decision.audit:
            continue
        if decision.judged is not None:
            controller.observe(decision.judged, same=right, source=Source.AUDIT if decision.audit else Source.MISS)
            if controller.stale:
                controller.adopt(fit_risk_model(controller.observations()))
        # The fresh answer is compared with those of the near questions: an alias of the first that has the same.
        group = next((n.group for n in near if answer_of[n.group] == int(answers[row])), str(row))
        answer_of[group] = int(answers[row])
        sizes[group] = sizes.get(group, 0) + 1
        stored[len(group_of)] = row
        group_of.append(group)
    report = controller.report()
    true_rate = tally.wrong / max(1, tally.lookups)
    covered = report.wrong_rate_low <= true_rate <= report.wrong_rate_high
    return tally.run(booked=report.booked_rate, covered=covered)
