"""The life of a request: exact lookup, judgement, semantic lookup, policy, execution; and what follows the answer.

    begin ─► complete | stream | explain ─► the answer leaves ─► finish

Promises: only the executor's errors, a route that leaves no target, a spent budget, and the deadline reach the caller;
what is optional (`front`) never does. Before models are asked, the most that they can cost is reserved of the tenant's
budgets and becomes the plan's ceiling; what they did cost is settled however the request ends. Of requests that are the
same and under way at once, one asks the models (`flights`). Nothing is stored, recorded or learned before `finish`,
which returns at once (`aftermath`). A cancelled caller cancels the hop under way, and nothing of its request is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from contextvars import Context
from uuid import uuid4

from services.orchestrator.aftermath import Aftermath
from services.orchestrator.audits import Auditor, AuditOutcome
from services.orchestrator.background import Background
from services.orchestrator.canary.canary import Canary
from services.orchestrator.configured import Configured
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.flights import Flights
from services.orchestrator.front import Front, refusals
from services.orchestrator.hops import Again, CacheHop, ClassifierHop, ExecutorHop
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.outcomes import OutcomeReporter
from services.orchestrator.planner import Planner
from services.orchestrator.policy.opening import Opening
from services.orchestrator.policy.policy import Routed
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.policy.quality import QualityTable
from services.orchestrator.quotas.quotas import Quotas
from services.orchestrator.run import Run
from services.orchestrator.spending import Spending
from services.orchestrator.users import UserCounter
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, Internal
from spillway.chat import FinishReason
from spillway.routing import (
    AnswerDelta,
    CachedAnswer,
    Classification,
    Completion,
    CompletionRequest,
    Execution,
    Explanation,
    Plan,
    RoutingDecision,
)
from spillway.settings import Settings

__all__ = ["Pipeline"]

# What remains of the caller's time is passed on less this, so that the executor's own answer to a deadline arrives.
ANSWER_MARGIN_S = 0.02


class Pipeline:
    """The use case of the service. For one event loop; its requests run side by side."""

    def __init__(
        self,
        settings: Settings,
        *,
        config_version: str,
        cache: CacheHop,
        classifier: ClassifierHop,
        executor: ExecutorHop,
        clock: Clock,
        background: Background,
        decision_log: DecisionLog | None,
        outcomes: OutcomeReporter,
        users: UserCounter,
        quotas: Quotas,
        reporter: LedgerReporter | None = None,
        canary: Canary | None = None,
        qualities: Callable[[], QualityTable | None] = lambda: None,
        on_answer: Callable[[Classification | None, Completion | None], None] = lambda judgement, completion: None,
        on_audit: Callable[[AuditOutcome, int], None] = lambda outcome, cost_nanousd: None,
    ) -> None:
        self._configured = Configured.of(settings, config_version)
        self._executor = executor
        self._quotas = quotas
        self._canary = canary
        self._planner = Planner() if canary is None else Planner(canary.confidence_min)
        self._qualities = qualities
        self._clock = clock
        self._flights = Flights()
        self._settling: set[asyncio.Task[None]] = set()
        self._front = Front(cache=cache, classifier=classifier, users=users, clock=clock, flights=self._flights)
        self._outcomes = outcomes
        self._auditor = Auditor(
            cache=cache,
            executor=executor,
            clock=clock,
            background=background,
            outcomes=self._outcomes,
            planner=self._planner,
            on_audit=on_audit,
            on_spent=reporter.offer_grade if reporter is not None else lambda grade: None,
        )
        self._aftermath = Aftermath(
            cache=cache,
            background=background,
            decision_log=decision_log,
            outcomes=self._outcomes,
            auditor=self._auditor,
            reporter=reporter,
            canary=canary,
            on_answer=on_answer,
        )

    @property
    def deadline_s(self) -> float:
        """For callers that set none."""
        return self._configured.settings.orchestrator.deadline_s

    def reconfigure(self, settings: Settings, version: str, in_force: str = "") -> None:
        """For requests that begin from now on; versions as `Configured` has them.

        Raises ValueError, and changes nothing, for settings that cannot be.
        """
        self._configured = Configured.of(settings, version, in_force)

    @property
    def flagship(self) -> str:
        """The target that savings are measured against, now."""
        return self._configured.flagship.name

    def begin(
        self,
        request: CompletionRequest,
        *,
        remaining_s: float,
        trace_id: str = "",
        key_id: str = "",
        job_id: str = "",
    ) -> Run:
        """A run for a request that came in now and whose caller waits for `remaining_s`."""
        now_s = self._clock.monotonic()
        request_id, received_at_unix_s = request.request_id or uuid4().hex, self._clock.unix()
        return Run(
            request=request,
            request_id=request_id,
            configured=self._configured,
            clock=self._clock,
            started_s=now_s,
            received_at_unix_s=received_at_unix_s,
            deadline_s=now_s + remaining_s,
            trace_id=trace_id,
            key_id=key_id,
            job_id=job_id,
            state=PolicyState(received_at_unix_s, request_id, qualities=self._qualities()),
        )

    async def complete(self, run: Run) -> Completion:
        """The answer. Raises SpillwayError."""
        with _aboard(run), run.ending():
            hit, opening = await self._front.pass_through(run)
            if hit is not None:
                return self._answer_from_cache(run, opening, hit)
            async with self._reserved(run, self._decide(run)) as (plan, again):
                timeout_s = self._executor_timeout_s(run)
                with run.hop("executor"), run.executing():
                    execution = await self._executor.execute(
                        run.request.chat, plan, task_type=run.task_type, timeout_s=timeout_s, again=again
                    )
                return run.answered(execution)

    async def stream(self, run: Run) -> AsyncGenerator[AnswerDelta | Completion, None]:
        """The answer piece by piece, and the Completion last. Raises SpillwayError."""
        with _aboard(run), run.ending():
            hit, opening = await self._front.pass_through(run)
            if hit is not None:
                completion = self._answer_from_cache(run, opening, hit)
                yield AnswerDelta(hit.message.text, hit.message.tool_calls)
                yield completion
                return
            async with self._reserved(run, self._decide(run)) as (plan, again):
                timeout_s = self._executor_timeout_s(run)
                with run.hop("executor"), run.executing():
                    events = self._executor.stream(
                        run.request.chat, plan, task_type=run.task_type, timeout_s=timeout_s, again=again
                    )
                    execution: Execution | None = None
                    async with aclosing(events):
                        async for event in events:
                            if isinstance(event, Execution):
                                execution = event
                            else:
                                yield event
                if execution is None:
                    raise Internal(detail="the executor's stream had no end")
                completion = run.answered(execution)
            yield completion

    async def explain(self, run: Run) -> Explanation:
        """What would be done, with no model called and nothing stored. Raises SpillwayError."""
        with run.ending():
            _, opening = await self._front.pass_through(run, peek=True)
            if opening.needs_judgement:
                await self._front.judge(run, want_embedding=False)
            routed = self._route(run)
            return Explanation(routing=run.routing, cache=run.cache, rules=routed.trials)

    def finish(self, run: Run, *, context: Context | None = None) -> None:
        """To be called once the answer, or the error, has left. `context` is the request's: for what follows."""
        self._aftermath.finish(run, context=context)

    def stop_extras(self) -> None:
        """To be called when the process begins to stop: no audit and no canary begins any more."""
        self._auditor.stop()
        if self._canary is not None:
            self._canary.stop()

    async def close(self, timeout_s: float) -> None:
        """To be called after the last request: tells the classifier what is still to be told."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=timeout_s)
        await self._outcomes.close(timeout_s)

    def _route(self, run: Run) -> Routed:
        with run.hop("policy"), refusals():
            routed = self._planner.planned(run)
        run.routing = routed.decision
        return routed

    def _decide(self, run: Run) -> Plan:
        plan = self._route(run).decision.plan
        if plan is None:
            raise Internal(detail="a decision without a plan")
        return plan

    @asynccontextmanager
    async def _reserved(self, run: Run, plan: Plan) -> AsyncGenerator[tuple[Plan, Again | None], None]:
        """Around the execution of `plan`: the plan under its budgets, and how to send it again."""
        spending = Spending(self._quotas, run, plan, self._settle)
        under_budget = await spending.open()
        try:
            yield under_budget, None if self._quotas.is_empty else spending.again
        finally:
            spending.settle()

    def _settle(self, telling: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling, name="settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def _executor_timeout_s(self, run: Run) -> float:
        timeout_s = run.remaining_s - ANSWER_MARGIN_S
        if timeout_s <= 0:
            raise DeadlineExceeded(detail="no time left for the executor")
        return timeout_s

    def _answer_from_cache(self, run: Run, opening: Opening, hit: CachedAnswer) -> Completion:
        run.routing = RoutingDecision(
            policy_step=opening.step,
            arm=opening.arm,
            reason="answered from the cache",
            rule=opening.rule_name,
            classification=run.classification,
            degraded=tuple(run.degraded),
            config_version=run.configured.in_force,
        )
        return run.answered_from_cache(hit)


@contextmanager
def _aboard(run: Run) -> Iterator[None]:
    """Around a request, its ending included: leaves its flight at once when it has no answer to share.

    With one it stays, until the cache has said whether it takes it.
    """
    try:
        yield
    finally:
        seat, execution = run.seat, run.execution
        if seat is not None and not run.storable:
            answered = run.status_code == 0 and execution is not None
            if answered and execution is not None and execution.finish_reason is not FinishReason.STOP:
                seat.release()  # cut at the caller's own limit, or a call of a tool: the next one's would be as well
            seat.leave(in_vain=answered)
