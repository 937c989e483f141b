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
from services.cache.matching.risk_control import Decision, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

__all__ = ["OnlineClass", "PairJudge", "online_run"]

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

    def words(self, row: int) -> tuple[str, ...]:
        """Its words, stemmed."""
        return self._read(row).tokens

    def chars(self, row: int) -> int:
        """How long the question is."""
        return len(self._texts[row])

    def _read(self, row: int) -> Sketch:
        if row not in self._known:
            self._known[row] = sketch(self._texts[row], self._model.idf)
        return self._known[row]


class OnlineClass:
    """A partition class that learns from rows as they are asked: each miss is answered, compared and stored."""

    def __init__(self, similarities: Vectors, judge: PairJudge, policy: RiskPolicy, random: Random) -> None:
        self.controller = RiskController(policy, random)
        self._similarities, self._judge = similarities, judge
        self._stored = np.zeros(len(similarities), dtype=np.int64)
        self._group_of: list[str] = []
        self._sizes: dict[str, int] = {}
        self._answer_of: dict[str, int] = {}

    def peek(self, row: int) -> tuple[Decision | None, int | None]:
        """What would be decided of the row now, and the proposed answer; None where nothing is near."""
        near, rows = self._near(row)
        proposal = propose(near)
        if proposal is None:
            return None, None
        features, refusal = self._evidence(row, near, rows, proposal)
        return self.controller.consider(features, group=proposal.group, refusal=refusal), self._answer_of[
            proposal.group
        ]

    def ask(self, row: int, answer: int) -> tuple[Decision, bool]:
        """Decides the row, whose right answer is `answer`, and learns; whether the proposed answer is right as well."""
        near, rows = self._near(row)
        proposal = propose(near)
        features: Floats | None = None
        refusal: Callable[[], str] = str
        if proposal is not None:
            features, refusal = self._evidence(row, near, rows, proposal)
        group = proposal.group if proposal is not None else ""
        decision = self.controller.decide(features, group=group, refusal=refusal)
        right = proposal is not None and self._answer_of[proposal.group] == answer
        if decision.serve and not decision.audit:
            return decision, right
        if decision.judged is not None:
            source = Source.AUDIT if decision.audit else Source.MISS
            self.controller.observe(decision.judged, same=right, source=source)
            if self.controller.stale:
                self.controller.adopt(fit_risk_model(self.controller.observations()))
        self._store(row, answer, near)
        return decision, right

    def _near(self, row: int) -> tuple[list[Near], list[int]]:
        """The nearest stored questions, nearest first, and their places."""
        if not self._group_of:
            return [], []
        found = self._similarities[row, self._stored[: len(self._group_of)]]
        count = min(NEAR_MAX, len(found))
        top = np.argpartition(found, len(found) - count)[len(found) - count :]
        top = top[np.argsort(-found[top])]
        rows: list[int] = top.tolist()
        return [Near(self._group_of[r], float(found[r]), self._sizes[self._group_of[r]]) for r in rows], rows

    def _evidence(
        self, row: int, near: Sequence[Near], rows: Sequence[int], proposal: Proposal
    ) -> tuple[Floats, Callable[[], str]]:
        best = rows[proposal.row]
        features = evidence(
            proposal,
            self._judge.logit(row, int(self._stored[best]), near[proposal.row].similarity),
            self._judge.centres(row, self._stored[rows].tolist(), near, proposal),
            chars=self._judge.chars(row),
            record=self.controller.record(proposal.group),
            words=self.controller.words.margin(proposal.group, (n.group for n in near), self._judge.words(row)),
        )
        own = [int(self._stored[rows[r]]) for r in proposal.rows[:ROWS_READ]]
        return features, partial(self._judge.refusal, row, own, near[proposal.row].aliases)

    def _store(self, row: int, answer: int, near: Sequence[Near]) -> None:
        """The fresh answer is compared with those of the near questions: an alias of the first that has the same."""
        group = next((n.group for n in near if self._answer_of[n.group] == answer), str(row))
        self._answer_of[group] = answer
        self._sizes[group] = self._sizes.get(group, 0) + 1
        self.controller.words.add(group, self._judge.words(row))
        self._stored[len(self._group_of)] = row
        self._group_of.append(group)


def online_run(
    similarities: Vectors, answers: npt.NDArray[np.int64], judge: PairJudge, policy: RiskPolicy, seed: int
) -> Run:
    """One random order through the product's proposal, pair model and risk control."""
    order = np.random.default_rng(seed).permutation(len(answers))
    learning = OnlineClass(similarities, judge, policy, Random(seed))
    tally = Tally()
    for row in order.tolist():
        decision, right = learning.ask(row, int(answers[row]))
        tally.add(hit=decision.serve, wrong=decision.serve and not right)
        tally.audits += decision.audit
    report = learning.controller.report()
    true_rate = tally.wrong / max(1, tally.lookups)
    covered = report.wrong_rate_low <= true_rate <= report.wrong_rate_high
    return tally.run(booked=report.booked_rate, covered=covered)
