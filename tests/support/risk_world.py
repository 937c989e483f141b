"""A made-up stream of lookups for tests of the risk control."""

from __future__ import annotations

from random import Random

import numpy as np

from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Decision, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

__all__ = ["LIMIT", "World"]

LIMIT = 0.01

TELLING = 19
"""Numbers of the evidence that tell: worlds stay as they are when there is one more. The others say nothing."""


class World:
    """Questions whose clarity says how likely the proposal is right."""

    def __init__(self, seed: int, limit: float = LIMIT, audit_rate: float = 0.05) -> None:
        self.rng = np.random.default_rng(seed)
        self.controller = RiskController(RiskPolicy(limit, audit_rate), Random(seed))
        self.hits = self.wrong = self.lookups = self.audits = 0
        self.worst = 0.0

    def ask(self, count: int, *, spoiled: float = 0.0, refusal: str = "") -> list[Decision]:
        decisions = []
        for _ in range(count):
            clarity = float(self.rng.normal(2.5, 3.0))
            right = bool(self.rng.random() < 1 / (1 + np.exp(-clarity))) and bool(self.rng.random() >= spoiled)
            features = np.zeros(len(NAMES))
            features[:TELLING] = clarity + self.rng.normal(0, 0.3, TELLING)
            decision = self.controller.decide(features, refusal=lambda: refusal)
            decisions.append(decision)
            self.lookups += 1
            self.hits += decision.serve
            self.wrong += decision.serve and not right
            self.audits += decision.audit
            if self.lookups > 500:
                self.worst = max(self.worst, self.wrong / self.lookups)
            if decision.judged is not None and (decision.audit or not decision.serve):
                source = Source.AUDIT if decision.audit else Source.MISS
                self.controller.observe(decision.judged, same=right, source=source)
            if self.controller.stale:
                self.controller.adopt(fit_risk_model(self.controller.observations()))
        return decisions
