"""Holds the share of wrong answers served from the cache, of all lookups, below what its owner set.

Promises: pure and deterministic given its randomness; memory is bounded; little evidence means abstaining. One
controller stands for one class of partitions, whose questions are alike. It never sees whether a served answer was
right unless that was audited, compared or told: every answer that it serves is booked at its probability to be wrong,
bounded from above, against the budget of `risk_budget`. When audits find more wrong answers than were booked, all of it
is booked dearer, at once (`risk_audits`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.answer_words import AnswerWords
from services.cache.matching.group_records import GroupRecords
from services.cache.matching.guard_evidence import GUARDED_WRONG_MAX, GuardEvidence, guard_code
from services.cache.matching.measured_wrong import mean_wrong, measured_wrong
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.proposal_guard import kind_of
from services.cache.matching.risk_audits import COUNTERS_LEAST as AUDIT_COUNTERS_LEAST
from services.cache.matching.risk_audits import RiskAudits
from services.cache.matching.risk_budget import COUNTERS_LEAST as BUDGET_COUNTERS_LEAST
from services.cache.matching.risk_budget import FADE, RiskBudget
from services.cache.matching.risk_model import EVIDENCE_MIN, Observations, RiskModel, fit_risk_model
from services.cache.matching.risk_state import RiskState, pack_state, parse_state
from services.cache.matching.risk_values import Decision, Judged, RiskPolicy, RiskReport, Source

__all__ = ["Decision", "Judged", "RiskController", "RiskPolicy", "RiskReport", "Source"]

Floats = npt.NDArray[np.float64]

OBSERVATIONS_MAX: Final = 6_000
"""Evidence that is kept, the newest: 1 MB, and a fit of about 10 ms."""

SAME_WORDS_WRONG: Final = 1e-3
"""What an answer to the same words is booked at: it is served without evidence, the least that any answer counts."""

REFIT_SHARE: Final = 0.15
REFIT_LEAST: Final = 50
REFIT_MOST: Final = 250


class RiskController:
    """See the head of the file. Belongs to one event loop; `observations` and `adopt` let a thread do the fitting."""

    def __init__(self, policy: RiskPolicy, random: Random, *, lifts: bool = True) -> None:
        """`lifts`: whether what is observed here may lift guards; not where several tenants are observed. `guards` is
        what was observed of them, `words` what words the stored questions of each answer have."""
        self._model: RiskModel | None = None
        self._features = np.zeros((OBSERVATIONS_MAX, len(NAMES)))
        self._outcomes = np.zeros((OBSERVATIONS_MAX, 2))  # same, guard_code
        self.guards = GuardEvidence(lifts=lifts)
        self.words = AnswerWords()
        self._groups = GroupRecords()
        self._observed = 0
        self._next_fit = EVIDENCE_MIN
        self._budget = RiskBudget(policy.max_wrong_rate)
        self._audits = RiskAudits(policy.audit_rate, random)

    def record(self, group: str) -> float:
        """What earlier proposals of the group came to, as `evidence` is given it."""
        return self._groups.log_odds(group)

    def decide(
        self, features: Floats | None, *, group: str = "", refusal: Callable[[], str] = str, known: bool = True
    ) -> Decision:
        """Counts a lookup and decides it. `features` come from `neighbourhood.evidence`; None: nothing is proposed.
        `group`: whose answer is proposed. `known`: whether what is observed here tells of who asks; nothing is served
        where not.

        `refusal`: why a guard refuses the proposal, empty when none does. What was refused is a miss. It is evidence of
        what looks wrong; what the others are worth is not read off it: it would book them too dear.
        """
        self._count_lookup()
        if features is None:
            self._budget.seen(1.0)
            return Decision(False, False, 1.0, self._budget.bar, "nothing comparable is stored")
        found = self.consider(features, group=group, refusal=refusal, known=known)
        guard = found.judged.guard if found.judged is not None else ""
        if self._model is not None:
            self._budget.seen(found.wrong if found.serve else min(1.0, self._charged(found.wrong, guard)))
        if not found.serve:
            return found
        audit = self._draw_audit(found.wrong)
        foretold = self._foretold(features)
        booked = self._booked(foretold, guard)
        self._book(booked)
        place = self.guards.place(guard)
        self.guards.serve(guard)
        return replace(found, audit=audit, judged=Judged(features, booked, guard, foretold, audit, group, place))

    def serve_same_words(self) -> tuple[bool, Judged]:
        """Counts a lookup that the answer to the same words is served for, books it, and whether to audit it.

        What speaks for the answer decides nothing; who is told of the hit adds it.
        """
        self._count_lookup()
        self._budget.seen(SAME_WORDS_WRONG)
        audit = self._draw_audit(SAME_WORDS_WRONG)
        self._book(SAME_WORDS_WRONG)
        return audit, Judged(None, SAME_WORDS_WRONG, audit=audit)

    def judge_elsewhere(self, features: Floats, guard: str, *, group: str = "", audit: bool) -> Judged:
        """A hit that another replica decided, as this one would have booked it. `audit`: as `Judged` has it."""
        if self._model is None:
            return Judged(features, 0.0, guard, group=group)
        wrong = self._foretold(features)
        booked = self._booked(wrong, guard)
        return Judged(features, booked, guard, wrong, audit, group)

    def consider(
        self, features: Floats, *, group: str = "", refusal: Callable[[], str] = str, known: bool = True
    ) -> Decision:
        """What `decide` would say of these now, but for an audit; nothing is counted."""
        refused = refusal()
        guard = kind_of(refused)
        judged = Judged(features, 0.0, guard, group=group, place=self.guards.place(guard))
        if self._model is None or not known:
            return Decision(False, False, 1.0, 0.0, "too little is known of such questions yet", judged)
        plain = self._wrong(features)
        wrong = self._charged(plain, judged.guard)
        if plain > self._budget.bar:
            return Decision(False, False, plain, self._budget.bar, "the stored answer is too likely wrong", judged)
        if refused and wrong > self._budget.bar:
            return Decision(False, False, plain, self._budget.bar, refused, judged)
        if refused and self.guards.is_due(judged.guard, wrong_max=self._budget.wrong_max):
            return Decision(False, False, plain, self._budget.bar, refused, judged)
        if not self._budget.allows(self._spent + wrong):
            return Decision(False, False, plain, self._budget.bar, "the budget of wrong answers is spent", judged)
        return Decision(True, False, wrong, self._budget.bar, "likely enough the same answer", judged)

    def observe(self, judged: Judged, *, same: bool, source: Source) -> None:
        """Tells the outcome of a decision. Of a hit that nobody audited or complained of, nothing is ever told.

        An audit is one that was drawn; the rest is feedback, of which only complaints change what is measured.
        """
        if source is Source.AUDIT and not judged.audit:
            source = Source.FEEDBACK
        praise = source is Source.FEEDBACK and same
        served = judged.booked > 0.0
        if judged.features is not None:
            at = self._observed % OBSERVATIONS_MAX
            self._features[at] = judged.features
            self._outcomes[at] = (float(same), float(guard_code(judged.guard)))
            self._observed += 1
            if judged.guard and not praise and (served or self._model is not None):
                foretold = judged.foretold if served else self._foretold(judged.features)
                self.guards.add(
                    judged.guard, group=judged.group, wrong=foretold, same=same, served=served, place=judged.place
                )
        if judged.group and not praise:
            self._groups.add(judged.group, same=same)
        if source is Source.MISS or praise or not served:
            return
        self._audits.told(wrong=not same, booked=judged.booked, drawn=source is Source.AUDIT)

    @property
    def stale(self) -> bool:
        """Whether enough was observed since the last fit for another one."""
        return self._observed >= self._next_fit

    def observations(self) -> Observations:
        """A copy of what was observed, the oldest first, to fit a model to, here or in a thread."""
        kept = min(self._observed, OBSERVATIONS_MAX)
        order = (self._observed - kept + np.arange(kept)) % OBSERVATIONS_MAX
        same, guard = self._outcomes[order].T
        refused = self.guards.refuses()[guard.astype(np.int64)]
        self._next_fit = self._observed + int(min(REFIT_MOST, max(REFIT_LEAST, self._observed * REFIT_SHARE)))
        return Observations(self._features[order], same, refused)

    def adopt(self, model: RiskModel | None) -> None:
        """Decides by this model from now on; by none, nothing is served."""
        self._model = model

    @property
    def observed(self) -> int:
        """How many outcomes were observed."""
        return self._observed

    @property
    def wrong_rate(self) -> float:
        """As `report` has it."""
        wrong = mean_wrong(self._budget.booked, wrong=self._audits.drawn_wrong, foretold=self._audits.drawn_booked)
        return min(1.0, wrong / max(self._budget.lookups, 1.0))

    def report(self) -> RiskReport:
        """The measured wrong rate and what it is measured from."""
        budget, audits = self._budget, self._audits
        lookups = max(budget.lookups, 1.0)
        rate, low, high = measured_wrong(budget.booked, wrong=audits.drawn_wrong, foretold=audits.drawn_booked)
        return RiskReport(
            lookups=budget.lookups,
            hits=budget.hits,
            audits=audits.audits,
            audited_wrong=audits.wrong,
            wrong_rate=min(1.0, rate / lookups),
            wrong_rate_low=min(1.0, low / lookups),
            wrong_rate_high=min(1.0, high / lookups),
            booked_rate=min(1.0, self._spent / lookups),
            tightening=audits.tightening,
            bar=budget.bar,
            observations=self._observed,
            opened=self._model is not None,
        )

    def state(self) -> bytes:
        """All of it but the model, which the next fit brings back: .npz without pickles, about 1 MB at most."""
        kept = min(self._observed, OBSERVATIONS_MAX)
        groups, group_counts = self._groups.kept()
        word_groups, word_questions, word_cells = self.words.kept()
        guard_groups, guard_heard = self.guards.kept()
        return pack_state(
            RiskState(
                features=self._features[:kept],
                outcomes=self._outcomes[:kept],
                observed=self._observed,
                counters=(*self._budget.counters(), *self._audits.counters()),
                recent=self._budget.recent,
                recent_audits=self._audits.recent,
                guards=self.guards.counts,
                guard_groups=guard_groups,
                guard_heard=guard_heard,
                groups=groups,
                group_counts=group_counts,
                word_groups=word_groups,
                word_questions=word_questions,
                word_cells=word_cells,
            )
        )

    def restore(self, data: bytes) -> None:
        """Goes on from a `state`, fitted anew. Raises RiskStateError, and stays as it was, on anything else."""
        least = (*BUDGET_COUNTERS_LEAST, *AUDIT_COUNTERS_LEAST)
        found = parse_state(data, least=least, observations_max=OBSERVATIONS_MAX)
        kept = len(found.features)
        self._features[:kept], self._outcomes[:kept] = found.features, found.outcomes
        self._observed = self._next_fit = found.observed
        self.guards.restore(found.guards, found.guard_groups, found.guard_heard)
        self._groups.restore(found.groups, found.group_counts)
        self.words.restore(found.word_groups, found.word_questions, found.word_cells)
        budgets = len(BUDGET_COUNTERS_LEAST)
        self._budget.restore(found.counters[:budgets], found.recent)
        self._audits.restore(found.counters[budgets:], found.recent_audits)
        self._model = fit_risk_model(self.observations())

    def _foretold(self, features: Floats) -> float:
        """P(wrong) before it is tightened; 1 without a model."""
        if self._model is None:
            return 1.0
        return min(1.0, self._model.wrong(self._model.log_odds(features)))

    def _wrong(self, features: Floats) -> float:
        """P(wrong) as it counts now; 1 without a model."""
        return min(1.0, self._foretold(features) * self._audits.tightening)

    def _charged(self, wrong: float, guard: str) -> float:
        """What P(wrong) is taken for where that guard speaks; infinite where the guard decides, whatever it is."""
        if not guard:
            return wrong
        surcharge = self.guards.surcharge(guard)
        if wrong > GUARDED_WRONG_MAX or not math.isfinite(surcharge):
            return math.inf
        return min(1.0, wrong * surcharge)

    def _booked(self, wrong: float, guard: str) -> float:
        """What a hit of that P(wrong), not tightened, is booked at where that guard speaks."""
        return min(1.0, wrong * self.guards.expected(guard))

    @property
    def _spent(self) -> float:
        return self._audits.spent(self._budget.booked)

    def _book(self, wrong: float) -> None:
        self._budget.book(wrong)
        self._audits.book(wrong)

    def _count_lookup(self) -> None:
        self._budget.count_lookup(spent=self._spent)
        self._audits.fade(FADE)
        self.guards.fade(FADE)

    def _draw_audit(self, wrong: float) -> bool:
        hits = self._budget.hits
        return self._audits.draw(wrong, mean=self._spent / hits if hits >= 1.0 else wrong, hits=hits)
