"""What the risk control is asked, decides, is told, and reports: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Decision", "Judged", "RiskPolicy", "RiskReport", "Source"]

Floats = npt.NDArray[np.float64]


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
    """What was decided on, to be given back with its outcome. `features` are None where they were not looked at, as for
    the same words: the outcome is then counted, and no evidence of what such features are worth. `booked` is 0 for a
    miss. `group`: whose answer it is, where that has a past of its own; empty otherwise.

    `guard`: the kind of the guard that refuses the proposal, if one does. While it is not lifted, such an outcome says
    what looks wrong, but not how often what may be served is. `foretold`: of a hit that a guard spoke against, P(wrong)
    without it. `audit`: whether it was drawn for an audit; of others an answer is a verdict. `place`: as
    `GuardEvidence.place` had it when it was decided; None where that is when it is told.
    """

    features: Floats | None
    booked: float
    guard: str = ""
    foretold: float = 0.0
    audit: bool = False
    group: str = ""
    place: int | None = None


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
    interval: what was booked, corrected by what audits found (`measured_wrong`)."""

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
