"""Holds the share of wrong answers served from the cache, of all lookups, below what its owner set.

Promises: pure and deterministic given its randomness; memory is bounded; little evidence means abstaining. One
controller stands for one class of partitions, whose questions are alike. It never sees whether a served answer was
right unless that was audited, compared or told: every answer that it serves is booked at its probability to be wrong,
bounded from above, and nothing is served when the upper bound of all that was booked would exceed the limit's share of
all lookups. When audits find more wrong answers than were booked, all of it is booked dearer, at once.

    booked + z sqrt(booked) + START <= max_wrong_rate * lookups

Older lookups fade (half of their weight is gone after HALF_LIFE_LOOKUPS), so that a long good past buys no bad day.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.guard_evidence import GUARDED_WRONG_MAX, GuardEvidence, guard_code
from services.cache.matching.measured_wrong import measured_wrong
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.proposal_guard import kind_of
from services.cache.matching.risk_model import EVIDENCE_MIN, Observations, RiskModel, fit_risk_model
from services.cache.matching.risk_state import RiskState, pack_state, parse_state

__all__ = ["Decision", "Judged", "RiskController", "RiskPolicy", "RiskReport", "Source"]

Floats = npt.NDArray[np.float64]

OBSERVATIONS_MAX: Final = 6_000
"""Evidence that is kept, the newest: 0.7 MB, and a fit of about 10 ms."""

HORIZON_LOOKUPS: Final = 1_000
"""Over so many lookups to come the budget that is left is spread."""

HALF_LIFE_LOOKUPS: Final = 50_000

BAR_EVERY_LOOKUPS: Final = 25
"""So often the bar is set anew."""

BOOKED_DEVIATIONS: Final = 1.0
"""z of the formula above."""

SAME_WORDS_WRONG: Final = 1e-3
"""What an answer to the same words is booked at: it is served without evidence, the least that any answer counts."""

BOOKED_START: Final = 3.5
"""START of the formula above: while few wrong answers are allowed, one or two by chance must not break the limit."""

MODEL_DEVIATIONS: Final = 0.25
"""How far towards wrong the model's own uncertainty moves what is booked."""

RECENT_AUDITS_MAX: Final = 50
"""Audits that tell of a change that has just happened; all of them together tell of slow ones."""

AUDIT_SPREAD_MAX: Final = 3.0
"""An answer that is likelier wrong than most is audited more often, by the root of how much likelier (which tells most
of the sum, for so many audits), at most so many times the rate; a likelier right one so many times less often."""

AUDIT_START: Final = 10.0
AUDIT_START_HITS: Final = 50.0
AUDIT_START_MOST: Final = 0.5
"""The first hits are audited at so many times the rate, half as often after so many hits, and at the rate from nine
times so many on: the evidence of misses says least of what is served. About 35 audits more at a rate of 5 %."""

AUDIT_BURST: Final = 5.0
"""Audits that may run ahead of the rate."""

REFIT_SHARE: Final = 0.15
REFIT_LEAST: Final = 50
REFIT_MOST: Final = 250


_COUNTERS: Final = (
    "_lookups",
    "_hits",
    "_booked",
    "_audit_credit",
    "_audits",
    "_audited_wrong",
    "_audited_booked",
    "_drawn_wrong",
    "_drawn_booked",
    "_tightening",
)


class Source(StrEnum):
    """How it became known whether the proposed answer was right."""

    MISS = "miss"
    AUDIT = "audit"
    FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class RiskPolicy:
    """`max_wrong_rate`: wrong answers served as a share of all lookups, above 0. `audit_rate`: of hits, 0 to 1."""

    max_wrong_rate: float = 0.005
    audit_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.max_wrong_rate <= 1.0 or not 0.0 <= self.audit_rate <= 1.0:
            raise ValueError("max_wrong_rate must be above 0, audit_rate at least 0, both at most 1")


@dataclass(frozen=True, slots=True)
class Judged:
    """What was decided on, to be given back with its outcome. `booked` is 0 for a miss.

    `guard`: the kind of the guard that refuses the proposal, if one does. While it is not lifted, such an outcome says
    what looks wrong, but not how often what may be served is. `foretold`: of a hit that a guard spoke against, P(wrong)
    without it. `audit`: whether it was drawn for an audit, with that `chance`; of others an answer is a verdict.
    """

    features: Floats
    booked: float
    chance: float
    guard: str = ""
    foretold: float = 0.0
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """`audit`: also ask the model, off the path, and report whether its answer is the same.

    `wrong` is the bound on P(wrong) that was compared with `bar`; both are 1 and 0 without a model. `judged` is None
    when nothing was proposed.
    """

    serve: bool
    audit: bool
    wrong: float
    bar: float
    reason: str
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class RiskReport:
    """What is known of the error, of lookups faded by age. `wrong_rate` is a share of all lookups, with its 95 %
    interval; it is measured by audits, with what was booked as their control variate."""

    lookups: float
    hits: float
    audits: float
    audited_wrong: float
    wrong_rate: float
    wrong_rate_low: float
    wrong_rate_high: float
    booked_rate: float
    tightening: float
    bar: float
    observations: int
    opened: bool


class RiskController:
    """See the head of the file. Belongs to one event loop; `observations` and `adopt` let a thread do the fitting."""

    def __init__(self, policy: RiskPolicy, random: Random, *, lifts: bool = True) -> None:
        """`lifts`: whether what is observed here may lift guards; not where several tenants are observed. `guards` is
        what was observed of them."""
        self._policy = policy
        self._random = random
        self._model: RiskModel | None = None
        self._features = np.zeros((OBSERVATIONS_MAX, len(NAMES)))
        self._outcomes = np.zeros((OBSERVATIONS_MAX, 3))  # same, weight, guard_code
        self.guards = GuardEvidence(lifts=lifts)
        self._observed = 0
        self._next_fit = EVIDENCE_MIN
        self._recent: deque[float] = deque(maxlen=HORIZON_LOOKUPS)
        self._until_bar = 0
        self._bar = 0.0
        self._fade = 0.5 ** (1.0 / HALF_LIFE_LOOKUPS)
        self._lookups = self._hits = self._booked = self._audit_credit = 0.0
        self._audits = self._audited_wrong = self._audited_booked = 0.0
        self._drawn_wrong = self._drawn_booked = 0.0
        self._recent_audits: deque[tuple[bool, float]] = deque(maxlen=RECENT_AUDITS_MAX)
        self._tightening = 1.0

    def decide(self, features: Floats | None, *, refusal: Callable[[], str] = str) -> Decision:
        """Counts a lookup and decides it. `features` come from `neighbourhood.evidence`; None: nothing is proposed.

        `refusal`: why a guard refuses the proposal, empty when none does. What was refused is a miss. It is evidence of
        what looks wrong; what the others are worth is not read off it: it would book them too dear.
        """
        self._count_lookup()
        if features is None:
            self._recent.append(1.0)
            return Decision(False, False, 1.0, self._bar, "nothing comparable is stored")
        found = self.consider(features, refusal=refusal)
        if self._model is not None:
            guard = found.judged.guard if found.judged is not None else ""
            self._recent.append(found.wrong if found.serve else min(1.0, self._charged(found.wrong, guard)))
        if not found.serve:
            return found
        audit, chance = self._draw_audit(found.wrong)
        self._hits += 1.0
        booked = found.wrong / self._tightening
        self._booked += booked
        guard = found.judged.guard if found.judged is not None else ""
        judged = Judged(features, booked, chance, guard, self._foretold(features), audit)
        return replace(found, audit=audit, judged=judged)

    def serve_same_words(self, features: Floats) -> tuple[bool, Judged]:
        """Counts a lookup that the answer to the same words is served for, books it, and whether to audit it."""
        self._count_lookup()
        self._recent.append(SAME_WORDS_WRONG)
        audit, chance = self._draw_audit(SAME_WORDS_WRONG)
        self._hits += 1.0
        self._booked += SAME_WORDS_WRONG
        return audit, Judged(features, SAME_WORDS_WRONG, chance, audit=audit)

    def judge_elsewhere(self, features: Floats, guard: str, *, audit: bool) -> Judged:
        """A hit that another replica decided, as this one would have booked it. `audit`: as `Judged` has it."""
        if self._model is None:
            return Judged(features, 0.0, 1.0, guard)
        wrong = self._foretold(features)
        surcharge = self.guards.surcharge(guard)
        booked = min(1.0, wrong * surcharge) if math.isfinite(surcharge) else wrong
        return Judged(features, booked, max(self._policy.audit_rate, 1e-6), guard, wrong, audit)

    def consider(self, features: Floats, *, refusal: Callable[[], str] = str) -> Decision:
        """What `decide` would say of these now, but for an audit; nothing is counted."""
        refused = refusal()
        judged = Judged(features, 0.0, 1.0, kind_of(refused))
        if self._model is None:
            return Decision(False, False, 1.0, 0.0, "too little is known of such questions yet", judged)
        plain = self._wrong(features)
        wrong = self._charged(plain, judged.guard)
        if plain > self._bar:
            return Decision(False, False, plain, self._bar, "the stored answer is too likely wrong", judged)
        if refused and wrong > self._bar:
            return Decision(False, False, plain, self._bar, refused, judged)
        if _upper(self._spent + wrong) > self._policy.max_wrong_rate * self._lookups:
            return Decision(False, False, plain, self._bar, "the budget of wrong answers is spent", judged)
        return Decision(True, False, wrong, self._bar, "likely enough the same answer", judged)

    def observe(self, judged: Judged, *, same: bool, source: Source) -> None:
        """Tells the outcome of a decision. Of a hit that nobody audited or complained of, nothing is ever told.

        An audit is one that was drawn; the rest is feedback, of which only complaints change what is measured.
        """
        if source is Source.AUDIT and not judged.audit:
            source = Source.FEEDBACK
        at = self._observed % OBSERVATIONS_MAX
        weight = 1.0 / judged.chance if source is Source.AUDIT else 1.0
        self._features[at] = judged.features
        self._outcomes[at] = (float(same), weight, float(guard_code(judged.guard)))
        self._observed += 1
        praise = source is Source.FEEDBACK and same
        served = judged.booked > 0.0
        if judged.guard and not praise and (served or self._model is not None):
            foretold = judged.foretold if served else self._foretold(judged.features)
            self.guards.add(judged.guard, wrong=foretold, same=same, served=served)
        if source is Source.MISS or praise or not served:
            return
        wrong = not same
        self._recent_audits.append((wrong, judged.booked))
        self._audited_wrong += wrong
        self._audited_booked += judged.booked
        if source is Source.AUDIT:
            self._audits += 1.0
            self._drawn_wrong += wrong
            self._drawn_booked += judged.booked
        recent_wrong = sum(told for told, _ in self._recent_audits)
        recent_booked = sum(booked for _, booked in self._recent_audits)
        self._tightening = max(
            1.0,
            _poisson_low(self._audited_wrong) / max(self._audited_booked, 1e-3),
            _poisson_low(recent_wrong) / max(recent_booked, 1e-3),
        )

    @property
    def stale(self) -> bool:
        """Whether enough was observed since the last fit for another one."""
        return self._observed >= self._next_fit

    def observations(self) -> Observations:
        """A copy of what was observed, the oldest first, to fit a model to, here or in a thread."""
        kept = min(self._observed, OBSERVATIONS_MAX)
        order = (self._observed - kept + np.arange(kept)) % OBSERVATIONS_MAX
        same, weight, guard = self._outcomes[order].T
        refused = self.guards.refuses()[guard.astype(np.int64)]
        self._next_fit = self._observed + int(min(REFIT_MOST, max(REFIT_LEAST, self._observed * REFIT_SHARE)))
        return Observations(self._features[order], same, weight, refused)

    def adopt(self, model: RiskModel | None) -> None:
        """Decides by this model from now on; by none, nothing is served."""
        self._model = model

    def report(self) -> RiskReport:
        """The measured wrong rate and what it is measured from."""
        lookups = max(self._lookups, 1.0)
        rate, low, high = measured_wrong(self._booked, wrong=self._drawn_wrong, foretold=self._drawn_booked)
        return RiskReport(
            lookups=self._lookups,
            hits=self._hits,
            audits=self._audits,
            audited_wrong=self._audited_wrong,
            wrong_rate=min(1.0, rate / lookups),
            wrong_rate_low=min(1.0, low / lookups),
            wrong_rate_high=min(1.0, high / lookups),
            booked_rate=min(1.0, self._spent / lookups),
            tightening=self._tightening,
            bar=self._bar,
            observations=self._observed,
            opened=self._model is not None,
        )

    def state(self) -> bytes:
        """All of it but the model, which the next fit brings back: .npz without pickles, about 0.7 MB at most."""
        kept = min(self._observed, OBSERVATIONS_MAX)
        return pack_state(
            RiskState(
                features=self._features[:kept],
                outcomes=self._outcomes[:kept],
                observed=self._observed,
                counters=tuple(float(getattr(self, name)) for name in _COUNTERS),
                recent=tuple(self._recent),
                recent_audits=tuple(self._recent_audits),
                guards=self.guards.counts,
            )
        )

    def restore(self, data: bytes) -> None:
        """Goes on from a `state`, fitted anew. Raises RiskStateError, and stays as it was, on anything else."""
        found = parse_state(data, counters=len(_COUNTERS), observations_max=OBSERVATIONS_MAX)
        kept = len(found.features)
        self._features[:kept], self._outcomes[:kept] = found.features, found.outcomes
        self._observed = self._next_fit = found.observed
        self.guards.counts = found.guards
        for name, value in zip(_COUNTERS, found.counters, strict=True):
            setattr(self, name, value)
        self._tightening = max(1.0, self._tightening)
        self._recent = deque(found.recent, maxlen=HORIZON_LOOKUPS)
        self._recent_audits = deque(found.recent_audits, RECENT_AUDITS_MAX)
        self._until_bar = 0
        self._model = fit_risk_model(self.observations())

    def _foretold(self, features: Floats) -> float:
        """The bound on P(wrong) before it is tightened; 1 without a model."""
        if self._model is None:
            return 1.0
        return min(1.0, self._model.wrong(self._model.log_odds(features), deviations=MODEL_DEVIATIONS))

    def _wrong(self, features: Floats) -> float:
        """The bound on P(wrong) as it is booked now; 1 without a model."""
        return min(1.0, self._foretold(features) * self._tightening)

    def _charged(self, wrong: float, guard: str) -> float:
        """What P(wrong) is taken for where that guard speaks; infinite where the guard decides, whatever it is."""
        if not guard:
            return wrong
        surcharge = self.guards.surcharge(guard)
        if wrong > GUARDED_WRONG_MAX or not math.isfinite(surcharge):
            return math.inf
        return min(1.0, wrong * surcharge)

    @property
    def _spent(self) -> float:
        return self._booked * self._tightening

    def _count_lookup(self) -> None:
        fade = self._fade
        self._lookups = self._lookups * fade + 1.0
        self._hits *= fade
        self._booked *= fade
        self._audits *= fade
        self._audited_wrong *= fade
        self._audited_booked *= fade
        self._drawn_wrong *= fade
        self._drawn_booked *= fade
        self.guards.fade(fade)
        if self._until_bar <= 0:
            self._until_bar = BAR_EVERY_LOOKUPS
            self._bar = self._bar_now()
        self._until_bar -= 1

    def _bar_now(self) -> float:
        """The greatest P(wrong) at which the lookups to come, if they are like the last ones, keep to the budget."""
        if not self._recent:
            return 0.0
        ahead = self._policy.max_wrong_rate * (self._lookups + HORIZON_LOOKUPS)
        margin = _upper(max(self._spent, 0.5)) - max(self._spent, 0.5)
        each = max(0.0, (ahead - margin - self._spent) / HORIZON_LOOKUPS)
        wrong = np.sort(np.asarray(self._recent))
        within = int(np.searchsorted(np.cumsum(wrong) / len(wrong), each))
        return float(wrong[within - 1]) if within else 0.0

    def _draw_audit(self, wrong: float) -> tuple[bool, float]:
        """Whether to audit, and the chance that it had: the likelier wrong, the more is learned."""
        rate = self._policy.audit_rate
        early = AUDIT_START / (1.0 + self._hits / AUDIT_START_HITS)
        rate = max(rate, min(AUDIT_START_MOST, rate * early))
        self._audit_credit = min(self._audit_credit + rate, AUDIT_BURST)
        mean = self._spent / self._hits if self._hits >= 1.0 else wrong
        likelier = min(max(math.sqrt(wrong / max(mean, 1e-6)), 1.0 / AUDIT_SPREAD_MAX), AUDIT_SPREAD_MAX)
        chance = min(1.0, rate * likelier)
        audit = chance > 0.0 and self._random.random() < chance and self._audit_credit > 1.0 - AUDIT_BURST
        if audit:
            self._audit_credit -= 1.0
        return audit, max(chance, 1e-6)


def _upper(booked: float) -> float:
    z = BOOKED_DEVIATIONS
    return booked + z * math.sqrt(booked) + BOOKED_START


def _poisson_low(count: float) -> float:
    """The one-sided 99 % lower bound of a Poisson mean of which `count` events were seen (Wilson and Hilferty): it is
    looked at after every audit, so a looser one would often tighten by chance."""
    if count < 0.5:
        return 0.0
    return float(count * max(0.0, 1.0 - 1.0 / (9.0 * count) - 2.33 / (3.0 * math.sqrt(count))) ** 3)
