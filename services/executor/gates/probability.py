"""The composite gate: one calibrated P(acceptable) from all that is known of an answer, against one threshold.

Promises: pure. The signals and the calibration stand in `signals` and `calibration`. The threshold is, in this order:
the gate's own; the request's least confidence; with the cost of a wrong answer, the value at which taking the answer
and asking the next rung are equally dear (`threshold_for_cost`); the executor's least confidence. The verdict's score
is the probability, its reason the signals that moved it most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.executor.gates.calibration import Calibration, threshold_for_cost
from services.executor.gates.observation import Observed, observe
from spillway.routing import CompositeSpec, GateVerdict, Verdict

__all__ = ["GATE", "Stakes", "check"]

GATE: Final = "composite"


@dataclass(frozen=True, slots=True)
class Stakes:
    """What the threshold depends on beside the gate itself.

    `confidence_asked`: the request's own least confidence; `confidence_min`: the executor's. `next_nanousd`: what one
    call of the next rung is estimated to cost; None when nothing can follow.
    """

    confidence_min: float
    confidence_asked: float | None = None
    next_nanousd: int | None = None


def check(observed: Observed, spec: CompositeSpec, stakes: Stakes, calibration: Calibration, tier: str) -> GateVerdict:
    """PASS when P(acceptable) of an answer of `tier` reaches the threshold, else FAIL."""
    found = calibration.assess(observe(observed), observed.task_type, tier)
    threshold = _threshold(spec, stakes)
    verdict = Verdict.PASS if found.p >= threshold else Verdict.FAIL
    return GateVerdict(GATE, verdict, f"P(acceptable) {found.p:.2f}, {threshold:.2f} needed: {found.reason}", found.p)


def _threshold(spec: CompositeSpec, stakes: Stakes) -> float:
    if spec.threshold is not None:
        return spec.threshold
    if stakes.confidence_asked is not None:
        return stakes.confidence_asked
    if spec.wrong_answer_cost_nanousd is not None and stakes.next_nanousd is not None:
        return threshold_for_cost(stakes.next_nanousd, spec.wrong_answer_cost_nanousd)
    return stakes.confidence_min
