"""Whether the evidence supports the next step of a rollout: routed users against those with the baseline model.

Promises: pure. Both arms are measured alike, over the same time, and compared within strata of one kind of work and one
version of the configuration, since the share that is routed may differ between them; users, not requests, are what is
counted as independent (`clustered`). A step up needs, at 95 %:

- *enough*: at least `REQUESTS_MIN` answered requests and `USERS_MIN` users in each arm (a request that names no user is
  one; users who ask much more than others count as fewer);
- *no harm to people*: the share of answered requests with negative feedback (thumbs down, regenerated, complaint) is at
  most `MARGIN` higher in the routed arm: the upper end of the difference's interval, so that little feedback is no
  evidence;
- *no harm to reliability*: the same for requests that failed; one that was answered when it was tried again did not;
- *quality*: judges graded at least `GRADES_MIN` routed answers, and the lower end of their mean difference to the
  flagship's is above -`DROP_MAX`;
- *no kind of work harmed*: in none is a difference shown to be above the margin.

A step down is advised when the lower end of a difference is above the margin, or the upper end of the grades'
difference is below the drop: then harm is shown. Everything between is "wait". At 100 % there is no step up: the
rollout is complete, unless harm is shown. The intervals are for looking once: who asks every
day until it says "go" is wrong more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.ledger.report.clustered import Compared, clustered_mean
from services.ledger.report.evidence import BASELINE, ROUTED, Evidence
from spillway.intervals import Interval

__all__ = ["STEPS", "Advice", "Verdict", "advise", "next_step"]

STEPS: Final = (5.0, 10.0, 25.0, 50.0, 100.0)
COMPLETE: Final = 100.0
REQUESTS_MIN: Final = 200
USERS_MIN: Final = 50
"""Below it the intervals say too little of users who differ much."""
GRADES_MIN: Final = 100
MARGIN: Final = 0.01
DROP_MAX: Final = 0.03


class Verdict(StrEnum):
    """What to do."""

    GO = "go"
    WAIT = "wait"
    BACK = "back"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Advice:
    """The verdict and its reasons, one sentence for each thing that was looked at. Differences: routed - baseline.

    `costs`: see Evidence.costs.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    negative: Interval | None = None
    failed: Interval | None = None
    grade: Interval | None = None
    costs: tuple[float, float] | None = None


def advise(evidence: Evidence, percent: float = 0.0) -> Advice:
    """What the evidence says, where `percent` of the users are routed now."""
    advice = _advice(evidence)
    if percent < COMPLETE or advice.verdict is Verdict.BACK:
        return advice
    # There is no step that what is missing could be waited for.
    reasons = tuple(reason for reason in advice.reasons if not reason.startswith(f"{Verdict.WAIT}:"))
    return Advice(Verdict.COMPLETE, reasons, advice.negative, advice.failed, advice.grade, advice.costs)


def next_step(percent: float, verdict: Verdict) -> float:
    """The percentage that the advice leads to."""
    if verdict is Verdict.GO:
        return min((step for step in STEPS if step > percent), default=COMPLETE)
    if verdict is Verdict.BACK:
        return max((step for step in STEPS if step < percent), default=0.0)
    return percent


def _advice(evidence: Evidence) -> Advice:
    routed, baseline = evidence.arms[ROUTED], evidence.arms[BASELINE]
    short = [name for name, arm in evidence.arms.items() if arm.answered < REQUESTS_MIN]
    if short:
        counts = f"{routed.answered:,} routed, {baseline.answered:,} with the baseline"
        reason = f"too few answered requests in {' and '.join(short)}: {counts}; {REQUESTS_MIN} of each are needed"
        return Advice(Verdict.WAIT, (f"{Verdict.WAIT}: {reason}",), costs=evidence.costs())
    verdicts: list[Verdict] = []
    reasons: list[str] = []
    found: dict[str, Interval | None] = {}
    for measure, name in _MEASURES.items():
        compared = evidence.compared(measure)
        found[measure] = compared.difference if compared else None
        verdict, reason = _judged(compared, name)
        verdicts.append(verdict)
        reasons.append(f"{verdict}: {reason}")
    verdict, reason, grade = _quality(evidence)
    verdicts.append(verdict)
    reasons.append(f"{verdict}: {reason}")
    if harmed := list(_harmed(evidence)):
        verdicts.append(Verdict.WAIT)
        reasons += harmed
    whole = Verdict.BACK if Verdict.BACK in verdicts else Verdict.WAIT if Verdict.WAIT in verdicts else Verdict.GO
    return Advice(whole, tuple(reasons), found["negative"], found["failed"], grade, evidence.costs())


_MEASURES: Final[Mapping[str, str]] = {"negative": "requests with negative feedback", "failed": "failed requests"}


def _judged(compared: Compared | None, name: str) -> tuple[Verdict, str]:
    if compared is None:
        return Verdict.WAIT, f"{name}: no kind of work was in both arms under one version of the configuration"
    if not _are_enough(compared):
        users = f"{compared.first_units:,.0f} routed and {compared.second_units:,.0f} with the baseline"
        return Verdict.WAIT, (
            f"{name}: too few users; where some ask more than others they count as {users}; "
            f"{USERS_MIN} of each are needed"
        )
    found = compared.difference
    verdict = Verdict.GO if found.high <= MARGIN else Verdict.BACK if found.low > MARGIN else Verdict.WAIT
    left_out = f"; {compared.left_out:,} requests have no counterpart in the other arm" if compared.left_out else ""
    return verdict, f"{name}, {_points(found)}; at most +{100 * MARGIN:g} is allowed{left_out}"


def _quality(evidence: Evidence) -> tuple[Verdict, str, Interval | None]:
    found = clustered_mean(evidence.grades)
    if found is None:
        return Verdict.WAIT, "no routed answer was graded beside the flagship's; `canary.share` has some graded", None
    grade, _ = found
    if evidence.grade_count < GRADES_MIN:
        return Verdict.WAIT, f"grades beside the flagship's: {evidence.grade_count:,}, {GRADES_MIN} are needed", grade
    verdict = Verdict.GO if grade.low > -DROP_MAX else Verdict.BACK if grade.high < -DROP_MAX else Verdict.WAIT
    counts = f"over {evidence.grade_count:,}; above -{100 * DROP_MAX:g} is needed"
    return verdict, f"grades beside the flagship's, {_points(grade)} {counts}", grade


def _harmed(evidence: Evidence) -> Iterable[str]:
    """One sentence for each kind of work, of several, that is harmed beyond the margin."""
    kinds = evidence.kinds
    for kind in kinds if len(kinds) > 1 else ():
        for measure, name in _MEASURES.items():
            compared = evidence.compared(measure, kind)
            if compared and _are_enough(compared) and compared.difference.low > MARGIN:
                yield (
                    f"{Verdict.WAIT}: {name} in {kind or '(not judged)'}, {_points(compared.difference)}; give it a "
                    "smaller percentage of its own (policy.rollout.task_types)"
                )


def _are_enough(compared: Compared) -> bool:
    return min(compared.first_units, compared.second_units) >= USERS_MIN


def _points(value: Interval) -> str:
    return f"{100 * value.value:+.2f} points [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"
