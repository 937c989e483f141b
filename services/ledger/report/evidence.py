"""What is known of the two arms of a rollout: counts by stratum and by user, and grades.

Promises: pure. A stratum is one kind of work under one version of the configuration. A request that was sent again
after a run that failed counts once, as its last run ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from services.ledger.report.clustered import FIRST, SECOND, Compared, Part, Unit, stratified_difference
from services.ledger.report.source import Graded, Remark, Trial
from spillway.routing import FeedbackKind

__all__ = ["BASELINE", "ROUTED", "Arm", "Evidence", "gather"]

ROUTED: Final = "routed"
BASELINE: Final = "baseline"
_ARMS: Final = {ROUTED: FIRST, BASELINE: SECOND}
_NEGATIVE: Final = frozenset(
    {FeedbackKind.THUMBS_DOWN.value, FeedbackKind.REGENERATED.value, FeedbackKind.COMPLAINT.value}
)

Key = tuple[str, int]
"""A stratum ("kind version") and an arm."""


@dataclass(slots=True)
class Arm:
    """What is counted of one arm, or of a user in one stratum of it. Requests; tries that failed before another run of
    the same request; costs in nano US dollars, those of such tries included."""

    requests: int = 0
    failed: int = 0
    negative: int = 0
    failed_tries: int = 0
    cost_nanousd: int = 0

    @property
    def answered(self) -> int:
        return self.requests - self.failed

    def add(self, trial: Trial, *, is_negative: bool) -> None:
        """One run more."""
        self.cost_nanousd += trial.cost_nanousd
        if trial.tried_again:
            self.failed_tries += 1
            return
        self.requests += 1
        self.failed += trial.status_code != 0
        self.negative += is_negative and trial.status_code == 0


@dataclass(slots=True)
class Evidence:
    """What is known: by arm, by stratum and arm, by user. Memory: some hundred bytes for each user."""

    arms: dict[str, Arm] = field(default_factory=lambda: {ROUTED: Arm(), BASELINE: Arm()})
    cells: dict[Key, Arm] = field(default_factory=lambda: defaultdict(Arm))
    users: dict[str, dict[Key, Arm]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Arm)))
    nobody: dict[Key, Arm] = field(default_factory=lambda: defaultdict(Arm))
    grades: list[Unit] = field(default_factory=list)
    grade_count: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of work that both arms have."""
        found = {arm: {_kind(stratum) for stratum, at in self.cells if at == arm} for arm in (FIRST, SECOND)}
        return tuple(sorted(found[FIRST] & found[SECOND]))

    def compared(self, measure: str, kind: str | None = None) -> Compared | None:
        """The share of `measure`, "failed" of all requests or "negative" of those answered; of one kind or of all."""
        return stratified_difference(self._units(measure, kind))

    def costs(self) -> tuple[float, float] | None:
        """Nano US dollars a request, routed and baseline, over the same mix of strata."""
        weights: dict[str, float] = {}
        for stratum in {stratum for stratum, _ in self.cells}:
            first, second = (self._requests(stratum, arm) for arm in (FIRST, SECOND))
            if first and second:
                weights[stratum] = first * second / (first + second)
        whole = sum(weights.values())
        if not whole:
            return None
        routed, baseline = (
            sum(w / whole * self.cells[s, arm].cost_nanousd / self._requests(s, arm) for s, w in weights.items())
            for arm in (FIRST, SECOND)
        )
        return routed, baseline

    def _requests(self, stratum: str, arm: int) -> int:
        cell = self.cells.get((stratum, arm))
        return cell.requests if cell else 0

    def _units(self, measure: str, kind: str | None) -> Collection[Unit]:
        units = []
        for cells in self.users.values():
            parts = tuple(Part(*key, *_of(measure, arm)) for key, arm in cells.items() if _is_of(key, kind))
            if parts:
                units.append(Unit(parts))
        for key, arm in self.nobody.items():
            if _is_of(key, kind):
                count, events = _of(measure, arm)
                units.append(Unit((Part(*key, 1, 1),), events))
                units.append(Unit((Part(*key, 1, 0),), count - events))
        return units


def gather(
    trials: Iterable[Trial],
    remarks: Iterable[Remark],
    graded: Iterable[Graded],
    task_type: str = "",
    without: Collection[str] = (),
) -> Evidence:
    """The evidence of one kind of work or (empty) of all but those of `without`."""

    def is_meant(kind: str) -> bool:
        return kind == task_type if task_type else kind not in without

    disliked = {remark.decision_id for remark in remarks if remark.kind in _NEGATIVE and remark.arm in _ARMS}
    evidence = Evidence()
    for trial in trials:
        if trial.arm not in _ARMS or not is_meant(trial.task_type):
            continue
        key = (f"{trial.task_type} {trial.config_version}", _ARMS[trial.arm])
        mine = evidence.users[trial.end_user_hash] if trial.end_user_hash else evidence.nobody
        for arm in (evidence.arms[trial.arm], evidence.cells[key], mine[key]):
            arm.add(trial, is_negative=trial.decision_id in disliked)
    by_user: dict[str, tuple[int, float]] = {}
    for grade in graded:
        if grade.arm == ROUTED and is_meant(grade.task_type):
            difference = grade.score - grade.flagship_score
            evidence.grade_count += 1
            if grade.end_user_hash:
                count, total = by_user.get(grade.end_user_hash, (0, 0.0))
                by_user[grade.end_user_hash] = (count + 1, total + difference)
            else:
                evidence.grades.append(Unit((Part("", FIRST, 1, difference),)))
    evidence.grades += (Unit((Part("", FIRST, *mine),)) for mine in by_user.values())
    return evidence


def _of(measure: str, arm: Arm) -> tuple[int, int]:
    """(requests, events)."""
    return (arm.requests, arm.failed) if measure == "failed" else (arm.answered, arm.negative)


def _kind(stratum: str) -> str:
    return stratum.partition(" ")[0]


def _is_of(key: Key, kind: str | None) -> bool:
    return kind is None or _kind(key[0]) == kind
