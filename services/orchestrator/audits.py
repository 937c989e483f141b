"""Audits: for some answers found by meaning a model is asked as well, and the cache is told what it said.

Promises: an audit begins after the answer has left, never delays or changes it, and never costs its caller anything:
what it costs is counted apart. At most `cache.audits.per_minute_max` begin in any minute and `UNDER_WAY_MAX` are under
way; after `stop` none begins. Only an answer that the gates accepted is evidence. The plan is the one that the request
would have had on a miss. What one has cost is kept by the ledger, beside the grades.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from enum import StrEnum

from services.orchestrator.background import Background
from services.orchestrator.fresh_answer import fresh_answer, is_proven
from services.orchestrator.hops import OLD_MOMENT, CacheHop, ExecutionError, ExecutorHop
from services.orchestrator.outcomes import OutcomeReporter, tier_outcomes
from services.orchestrator.planner import Planner
from services.orchestrator.policy.opening import NoEligibleTargetError
from services.orchestrator.record import grade_id
from services.orchestrator.run import Run
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import SpillwayError
from services.runtime.logs import get_logger
from spillway.routing import Grade, GradeSource, TaskType

__all__ = ["AuditOutcome", "Auditor", "PerMinute"]

_log = get_logger(__name__)

# They wait for models, and callers' requests go first.
UNDER_WAY_MAX = 32
# Nobody waits for it.
EVIDENCE_TIMEOUT_S = 2.0
_MINUTE_S = 60.0


class AuditOutcome(StrEnum):
    """What became of an audit: a verdict, or why there is none."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    UNPROVEN = "unproven"
    FAILED = "failed"
    LEFT_OUT = "left_out"


class PerMinute:
    """At most so many permits in any sixty seconds. Pure: time comes in."""

    def __init__(self) -> None:
        self._taken_s: deque[float] = deque()

    def take(self, now_s: float, count_max: int) -> bool:
        """A permit, if there is one of `count_max`."""
        while self._taken_s and self._taken_s[0] <= now_s - _MINUTE_S:
            self._taken_s.popleft()
        if len(self._taken_s) >= count_max:
            return False
        self._taken_s.append(now_s)
        return True


class Auditor:
    """Audits for one process.

    `on_audit` is called with each one's outcome and cost in nano dollars, `on_spent` with what is to be kept of those
    that have cost something.
    """

    def __init__(
        self,
        *,
        cache: CacheHop,
        executor: ExecutorHop,
        clock: Clock,
        background: Background,
        outcomes: OutcomeReporter,
        planner: Planner,
        on_audit: Callable[[AuditOutcome, int], None] = lambda outcome, cost_nanousd: None,
        on_spent: Callable[[Grade], object] = lambda grade: None,
    ) -> None:
        self._per_minute = PerMinute()
        self._cache = cache
        self._executor = executor
        self._clock = clock
        self._background = background
        self._outcomes = outcomes
        self._planner = planner
        self._on_audit = on_audit
        self._on_spent = on_spent
        self._under_way = 0
        self._stopped = False

    def stop(self) -> None:
        """No audit begins any more."""
        self._stopped = True

    def offer(self, run: Run, context: Context | None) -> None:
        """Audits the answer of a run that has ended, in the background, if there is leave to."""
        busy = self._stopped or self._under_way >= UNDER_WAY_MAX
        if busy or not self._per_minute.take(
            self._clock.monotonic(), run.configured.settings.cache.audits.per_minute_max
        ):
            self._on_audit(AuditOutcome.LEFT_OUT, 0)
            return
        self._under_way += 1
        if not self._background.spawn("audit", lambda: self._audit(run), context=context):
            self._under_way -= 1
            self._on_audit(AuditOutcome.LEFT_OUT, 0)

    async def _audit(self, run: Run) -> None:
        try:
            with telemetry.tracer().start_as_current_span("audit"):
                outcome, cost_nanousd = await self._ask(run)
                telemetry.set_attributes(
                    {"spillway.audit.outcome": outcome.value, "spillway.audit.cost_nanousd": cost_nanousd}
                )
        finally:
            self._under_way -= 1
        self._on_audit(outcome, cost_nanousd)
        if cost_nanousd:
            self._on_spent(self._spent(run, outcome, cost_nanousd))
        _log.info("audited", request_id=run.request_id, outcome=outcome.value, cost_nanousd=cost_nanousd)

    async def _ask(self, run: Run) -> tuple[AuditOutcome, int]:
        """What became of it, and what it cost."""
        chat = run.request.chat
        try:
            plan = self._planner.planned(run).decision.plan
            if plan is None:
                return AuditOutcome.FAILED, 0
            execution = await self._executor.execute(
                chat, plan, task_type=run.task_type, timeout_s=run.configured.settings.orchestrator.deadline_s
            )
        except NoEligibleTargetError:  # nothing but the cache could have answered
            return AuditOutcome.FAILED, 0
        except ExecutionError as error:
            return AuditOutcome.FAILED, error.failed.cost_nanousd
        except SpillwayError:
            return AuditOutcome.FAILED, 0
        self._outcomes.offer(tier_outcomes(run.cluster, execution.attempts))
        answer = fresh_answer(execution)
        if not is_proven(execution):
            return AuditOutcome.UNPROVEN, answer.cost_nanousd
        verdict = await self._cache.record_evidence(
            run.query(run.embedding),
            run.cache.entry_key,
            answer,
            ttl_s=run.request.options.cache_ttl_s,
            tags=run.request.tags,
            token=run.store_token or OLD_MOMENT,
            answer_version=run.cache.answer_version,
            timeout_s=EVIDENCE_TIMEOUT_S,
        )
        return AuditOutcome(verdict.value), answer.cost_nanousd

    def _spent(self, run: Run, outcome: AuditOutcome, cost_nanousd: int) -> Grade:
        hit = run.completion
        return Grade(
            grade_id=grade_id(GradeSource.AUDIT, run.request.tenant, run.request_id),
            request_id=run.request_id,
            tenant=run.request.tenant,
            source=GradeSource.AUDIT,
            task_type=run.task_type or TaskType.OTHER,
            tier=hit.tier if hit else "",
            target=hit.target if hit else "",
            flagship_target=run.configured.flagship.name,
            score=0.0,
            flagship_score=0.0,
            arm=run.routing.arm,
            cost_nanousd=cost_nanousd,
            graded_at_unix_s=self._clock.unix(),
            outcome=outcome.value,
        )
