"""Whether the evidence supports the next step of a rollout: routed users against those with the baseline model.

Promises: pure. Both arms are measured alike, over the same time. A step up needs, at 95 %:

- *enough*: at least `REQUESTS_MIN` answered requests in each arm;
- *no harm to people*: the share of requests with negative feedback (thumbs down, regenerated, complaint) is at most
  `MARGIN` higher in the routed arm: the upper end of the difference's interval, so that little feedback is no evidence;
- *no harm to reliability*: the same for requests that failed;
- *quality*: where judges graded routed answers, the lower end of their mean difference to the flagship's is above
  -`DROP_MAX`; without grades this cannot be said, and the step is not supported.

A step down is advised when the lower end of a difference is above the margin, or the upper end of the grades'
difference is below the drop: then harm is shown. Everything between is "wait".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.ledger.report.source import Decided, Graded, Remark
from spillway.intervals import Interval, independent_difference, mean_interval
from spillway.routing import FeedbackKind

__all__ = ["BASELINE", "ROUTED", "STEPS", "Advice", "Arm", "Verdict", "advise", "arms_of", "next_step"]

STEPS: Final = (5.0, 10.0, 25.0, 50.0, 100.0)
REQUESTS_MIN: Final = 200
MARGIN: Final = 0.01
DROP_MAX: Final = 0.03
ROUTED: Final = "routed"
BASELINE: Final = "baseline"
_NEGATIVE: Final = frozenset(
    {FeedbackKind.THUMBS_DOWN.value, FeedbackKind.REGENERATED.value, FeedbackKind.COMPLAINT.value}
)


class Verdict(StrEnum):
    """What to do."""

    GO = "go"
    WAIT = "wait"
    BACK = "back"


@dataclass(slots=True)
class Arm:
    """What is known of one arm: counts of requests, sums of cost (nano US dollars) and of grade differences."""

    requests: int = 0
    failed: int = 0
    negative: int = 0
    cost_nanousd: int = 0
    grades: int = 0
    difference_sum: float = 0.0
    difference_squares: float = 0.0

    @property
    def answered(self) -> int:
        return self.requests - self.failed


@dataclass(frozen=True, slots=True)
class Advice:
    """The verdict and its reasons, one sentence for each thing that was looked at. Differences: routed - baseline."""

    verdict: Verdict
    reasons: tuple[str, ...]
    negative: Interval | None
    failed: Interval | None
    grade: Interval | None


def arms_of(
    decided: Iterable[Decided], remarks: Iterable[Remark], graded: Iterable[Graded], task_type: str = ""
) -> dict[str, Arm]:
    """Both arms, of one kind of work or (empty) of all."""
    arms = {ROUTED: Arm(), BASELINE: Arm()}
    for row in decided:
        if row.arm in arms and task_type in {"", row.task_type}:
            arm = arms[row.arm]
            arm.requests += 1
            arm.failed += row.status_code != 0
            arm.cost_nanousd += row.cost_nanousd
    negative: dict[str, set[int]] = {name: set() for name in arms}
    for remark in remarks:
        if remark.arm in arms and remark.kind in _NEGATIVE and task_type in {"", remark.task_type}:
            negative[remark.arm].add(remark.decision_id)
    for grade in graded:
        if grade.arm in arms and task_type in {"", grade.task_type}:
            difference = grade.score - grade.flagship_score
            arms[grade.arm].grades += 1
            arms[grade.arm].difference_sum += difference
            arms[grade.arm].difference_squares += difference * difference
    for name, ids in negative.items():
        arms[name].negative = len(ids)
    return arms


def advise(routed: Arm, baseline: Arm) -> Advice:
    """What the evidence says."""
    short = [name for name, arm in ((ROUTED, routed), (BASELINE, baseline)) if arm.answered < REQUESTS_MIN]
    if short:
        counts = f"{routed.answered:,} routed, {baseline.answered:,} with the baseline"
        reason = f"too few answered requests in {' and '.join(short)}: {counts}; {REQUESTS_MIN} of each are needed"
        return Advice(Verdict.WAIT, (reason,), None, None, None)
    negative = independent_difference(routed.negative, routed.answered, baseline.negative, baseline.answered)
    failed = independent_difference(routed.failed, routed.requests, baseline.failed, baseline.requests)
    verdicts, reasons = [], []
    for name, found in (("requests with negative feedback", negative), ("failed requests", failed)):
        verdict = Verdict.GO if found.high <= MARGIN else Verdict.BACK if found.low > MARGIN else Verdict.WAIT
        verdicts.append(verdict)
        reasons.append(f"{verdict}: {name}, {_points(found)}; at most +{100 * MARGIN:g} is allowed")
    grade: Interval | None = None
    if routed.grades > 1:
        grade = mean_interval(routed.difference_sum, routed.difference_squares, routed.grades)
        verdict = Verdict.GO if grade.low > -DROP_MAX else Verdict.BACK if grade.high < -DROP_MAX else Verdict.WAIT
        reasons.append(
            f"{verdict}: grades beside the flagship's, {_points(grade)} over {routed.grades:,}; "
            f"above -{100 * DROP_MAX:g} is needed"
        )
    else:
        verdict = Verdict.WAIT
        reasons.append(f"{verdict}: no routed answer was graded beside the flagship's; `canary.share` has some graded")
    verdicts.append(verdict)
    whole = Verdict.BACK if Verdict.BACK in verdicts else Verdict.WAIT if Verdict.WAIT in verdicts else Verdict.GO
    return Advice(whole, tuple(reasons), negative, failed, grade)


def next_step(percent: float, verdict: Verdict) -> float:
    """The percentage that the advice leads to."""
    if verdict is Verdict.GO:
        return min((step for step in STEPS if step > percent), default=100.0)
    if verdict is Verdict.BACK:
        return max((step for step in STEPS if step < percent), default=0.0)
    return percent


def _points(value: Interval) -> str:
    return f"{100 * value.value:+.2f} points [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"
