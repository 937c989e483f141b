"""Some answers below the flagship are given by the flagship as well, and a judge compares the two.

Promises: `offer` returns at once and never fails; nothing here is ever waited for by a caller. At most `queued_max`
samples wait and UNDER_WAY_MAX are under way; what finds no room is left out and counted. Money is reserved before it
is spent: of the day's budget, which is this process's own and whole again after a restart, and of the tenant's, when it
is given; a call whose cost nobody can tell counts with its bound. What a sample has cost is handed on with its grade,
or without one with why there is none. After `stop` nothing begins, and what waits is let go. Every sample that was
drawn ends in exactly one outcome.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Protocol

from services.orchestrator.canary.comparing import CanaryOutcome, Comparing, NoGrade, Tab
from services.orchestrator.canary.drift import UNITS
from services.orchestrator.canary.judging import PairGrades
from services.orchestrator.canary.monitor import DriftMonitor
from services.orchestrator.canary.sample import Comparison, Sample
from services.orchestrator.canary.spending import Bound, DailyBudget, bounds_of, output_tokens_max
from services.orchestrator.hops import ExecutorHop
from services.orchestrator.record import grade_id
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import SpillwayError
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import finish_tasks
from spillway.routing import (
    Grade,
    GradeSource,
    OutcomeSource,
    TaskType,
    TierOutcome,
)
from spillway.settings import Settings

__all__ = ["UNDER_WAY_MAX", "Admit", "Canary", "CanaryOutcome", "Charge"]

UNDER_WAY_MAX: Final = 4
"""Callers' requests go first: a canary takes one of the executor's calls at a time."""

SUFFICES_SHARE: Final = 0.9
"""An answer with so much of the flagship's grade sufficed."""

_WORD_BYTES: Final = 8
_log = get_logger(__name__)


class Charge(Protocol):
    """A reservation of a tenant's budget."""

    async def settle(self, cost_nanousd: int, tokens: int) -> None:
        """What it came to. Called exactly once."""
        ...


Admit = Callable[[Sample, Bound], Awaitable[Charge | None]]
"""Reserves of the tenant's budget; None, or a SpillwayError, when it does not allow it."""


class Canary:
    """Canaries of one process, for one event loop. `draw` gives numbers in [0, 1).

    `on_grade` is handed each grade, and what was spent without one; `on_outcome` the outcome, cost in nano dollars and
    kind of work of each sample; `on_learned` what a grade says of the tier, for the classifier.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        executor: ExecutorHop,
        monitor: DriftMonitor,
        clock: Clock,
        draw: Callable[[], float],
        on_grade: Callable[[Grade], None] = lambda grade: None,
        on_outcome: Callable[[CanaryOutcome, int, TaskType], None] = lambda outcome, cost_nanousd, task_type: None,
        on_learned: Callable[[Sequence[TierOutcome]], None] = lambda outcomes: None,
        admit: Admit | None = None,
        word: Callable[[], str] = lambda: secrets.token_hex(_WORD_BYTES),
    ) -> None:
        self.monitor = monitor
        self._executor = executor
        self._clock = clock
        self._draw = draw
        self._on_grade = on_grade
        self._on_outcome = on_outcome
        self._on_learned = on_learned
        self._admit = admit
        self._word = word
        self._budget = DailyBudget(settings.canary.cost_usd_per_day)
        self._waiting: deque[tuple[Sample, Context | None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._set(settings)

    def apply(self, settings: Settings) -> None:
        """Goes on with other settings: what is under way ends with the former ones."""
        self._set(settings)
        self._budget.apply(settings.canary.cost_usd_per_day)
        self.monitor.apply(settings)

    def confidence_min(self, task_type: TaskType | None, configured: float | None) -> float | None:
        """The least confidence for a plan, as tightened; see `DriftMonitor.confidence_min`."""
        return self.monitor.confidence_min(task_type, configured)

    @property
    def under_way(self) -> int:
        """How many samples are being compared."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """How many samples wait."""
        return len(self._waiting)

    def offer(self, sample: Sample, context: Context | None = None) -> None:
        """Draws; a sample that is drawn is compared in the background, in `context`."""
        if self._draw() >= self._settings.canary.share:
            return
        if not self._stopped and len(self._tasks) < UNDER_WAY_MAX:
            self._start(sample, context)
        elif not self._stopped and len(self._waiting) < self._settings.canary.queued_max:
            self._waiting.append((sample, context))
        else:
            self._on_outcome(CanaryOutcome.LEFT_OUT, 0, sample.task_type)

    def stop(self) -> None:
        """Nothing begins any more."""
        self._stopped = True
        while self._waiting:
            sample, _ = self._waiting.popleft()
            self._on_outcome(CanaryOutcome.LEFT_OUT, 0, sample.task_type)

    async def close(self, timeout_s: float) -> int:
        """Stops, waits for what is under way, after `timeout_s` cancels the rest, and says how many those were."""
        self.stop()
        return await finish_tasks(self._tasks, timeout_s)

    def _set(self, settings: Settings) -> None:
        self._settings = settings
        self._compared = Comparison.of(settings)

    def _start(self, sample: Sample, context: Context | None) -> None:
        task = asyncio.get_running_loop().create_task(self._run(sample), name="canary", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("canary_failed", **describe_exception(error))
        if self._waiting and not self._stopped:
            self._start(*self._waiting.popleft())

    async def _run(self, sample: Sample) -> None:
        outcome, tab, compared = CanaryOutcome.BROKEN, Tab(), self._compared
        try:
            with telemetry.tracer().start_as_current_span("canary"):
                outcome = await self._paid(sample, compared, tab)
                telemetry.set_attributes(
                    {"spillway.canary.outcome": outcome.value, "spillway.canary.cost_nanousd": tab.cost_nanousd}
                )
        except asyncio.CancelledError:
            outcome = CanaryOutcome.CUT_OFF
            raise
        finally:
            self._on_outcome(outcome, tab.cost_nanousd, sample.task_type)
            if outcome is not CanaryOutcome.GRADED and tab.cost_nanousd:
                self._on_grade(self._record(sample, compared, tab, outcome=outcome.value))
            _log.debug("canary", request_id=sample.request_id, outcome=outcome.value, cost_nanousd=tab.cost_nanousd)

    async def _paid(self, sample: Sample, compared: Comparison, tab: Tab) -> CanaryOutcome:
        """Compares within what may be spent; says what became of it."""
        output_tokens = output_tokens_max(sample.chat, sample.usage)
        bounds = bounds_of(sample.chat, sample.message, output_tokens, compared.flagship, compared.judge)
        reserved = self._budget.reserve(bounds.total.cost_nanousd, self._clock.unix())
        if reserved is None:
            return CanaryOutcome.OVER_BUDGET
        tab.left_nanousd, charge = bounds.total.cost_nanousd, None
        try:
            if self._admit is not None and (charge := await self._charged(self._admit, sample, bounds.total)) is None:
                return CanaryOutcome.OVER_QUOTA
            timeout_s = self._settings.orchestrator.deadline_s
            comparing = Comparing(self._executor, self._word, sample, compared, bounds, tab, timeout_s)
            await self._graded(comparing, output_tokens)
        except NoGrade as ending:
            return ending.outcome
        finally:
            tab.spend_bound()  # of a call that was cut off nobody knows what it cost
            self._budget.settle(reserved, tab.cost_nanousd)
            if charge is not None:
                await charge.settle(tab.cost_nanousd, tab.tokens)
        return CanaryOutcome.GRADED

    @staticmethod
    async def _charged(admit: Admit, sample: Sample, bound: Bound) -> Charge | None:
        try:
            return await admit(sample, bound)
        except SpillwayError:
            return None

    async def _graded(self, comparing: Comparing, output_tokens: int) -> None:
        sample = comparing.sample
        grades = await comparing.grades(output_tokens)
        self._on_grade(self._record(sample, comparing.compared, comparing.tab, grades))
        if sample.cluster:
            sufficed = grades.answer >= SUFFICES_SHARE * grades.flagship
            self._on_learned([TierOutcome(sample.cluster, sample.tier, sufficed, OutcomeSource.CANARY)])
        if comparing.compared == self._compared:  # not with a former flagship or judge
            await self.monitor.take(sample.task_type, grades.flagship - grades.answer)

    def _record(
        self,
        sample: Sample,
        compared: Comparison,
        tab: Tab,
        grades: PairGrades | None = None,
        outcome: str = "",
    ) -> Grade:
        """What is kept of a sample: its grades, or else its outcome; and its cost."""
        return Grade(
            grade_id=grade_id(GradeSource.CANARY, sample.tenant, sample.request_id),
            request_id=sample.request_id,
            tenant=sample.tenant,
            source=GradeSource.CANARY,
            task_type=sample.task_type,
            tier=sample.tier,
            target=sample.target,
            arm=sample.arm,
            flagship_target=compared.flagship.name,
            judge_target=compared.judge.name,
            score=grades.answer / UNITS if grades else 0.0,
            flagship_score=grades.flagship / UNITS if grades else 0.0,
            orders_agree=grades is not None and grades.orders_agree,
            cost_nanousd=tab.cost_nanousd,
            graded_at_unix_s=self._clock.unix(),
            outcome=outcome,
        )
