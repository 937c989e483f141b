"""Runs a plan: asks the cascade what to do, does it, and tells it what came of it.

Promises: one answer of one model, never spliced; every attempt is reported with its cost; a caller who leaves ends the
calls under way, with their permits given back. When a stream flows as it is written is said in `flow`; all others are
held back and sent whole. What has flowed is what is reported as the answer, and a stream that breaks after it began to
flow ends with STREAM_INTERRUPTED: nothing follows it. The gates that need the whole answer judge a stream that flows
too, for the record: it can then be reported as not accepted, but not be replaced.

An execution that finds no place for any call, neither at a target nor among its provider's connections, waits in `line`
and begins anew: for `LINE_SHARE_MAX` of its time, since with less left a call would be in vain. Then it is shed. The
targets that it passed over are counted once, as of its last beginning, and the current span says how long it waited.

A plan may come from an orchestrator whose configuration is older or newer. What it names and is not configured here is
reported as skipped; as long as one target is known there is an answer to be had.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.budget import estimate_call
from services.executor.calls import Calls
from services.executor.cascade import Cascade
from services.executor.ceiling import full_nanousd, least_nanousd
from services.executor.gates import schema
from services.executor.gates.calibration import Calibration
from services.executor.gates.composite import Evidence
from services.executor.hedging import HedgeShare, Hedging, hedge_delay_s
from services.executor.lease import RETRY_S
from services.executor.line import Line
from services.executor.metrics import ExecutorMetrics
from services.executor.no_answer import NoAnswerError, busy_targets, no_answer
from services.executor.opinions import Opinions, gate_targets
from services.executor.providers.provider import Provider
from services.executor.run import Run
from services.executor.steps import Call, Cancel, FailReason, Return, Skip, Wait
from services.executor.tab import Tab
from services.executor.targets import TargetPool
from services.executor.unknown_targets import TARGET_UNKNOWN, known_tiers
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, Internal
from services.runtime.telemetry import set_attributes
from spillway.chat import ChatRequest
from spillway.routing import (
    AnswerDelta,
    Execution,
    Plan,
    Strategy,
    TaskType,
)
from spillway.settings import Hedging as HedgingSettings

__all__ = ["LINE_SHARE_MAX", "ExecutionEvent", "Executor"]

ExecutionEvent = AnswerDelta | Execution
LINE_SHARE_MAX = 0.5
WAITED_S = "spillway.line.waited_s"
_TYPICAL_SHARE = 0.95  # of a target's calls end within what is taken for its usual time


class Executor:
    """The use case. One per configuration; safe for many executions at once on one event loop."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        pool: TargetPool,
        clock: Clock,
        *,
        confidence_min: float,
        calibration: Calibration,
        hedging: HedgingSettings,
        metrics: ExecutorMetrics | None = None,
        before: Executor | None = None,
    ) -> None:
        """`before`, of an earlier configuration, may go on beside this one: they share what is counted and compiled."""
        self._pool = pool
        self._clock = clock
        self._confidence_min = confidence_min
        self._calibration = calibration
        self._hedging = hedging
        self.hedge_share: HedgeShare = HedgeShare(hedging.share_max) if before is None else before.hedge_share
        self.hedge_share.reconfigure(hedging.share_max)
        self.line: Line = Line(clock) if before is None else before.line
        if before is None:
            pool.waiting.append(self.line.freed)
            pool.promised.append(self.line.promised)
            if metrics is not None:
                metrics.watch(self.line.__len__)
        self._attempts = Attempts(providers, pool, clock, metrics)
        self.schemas: schema.Schemas = schema.Schemas() if before is None else before.schemas
        self._opinions = Opinions(self._attempts, pool, self.schemas)

    async def execute(self, chat: ChatRequest, plan: Plan, task_type: TaskType | None, deadline_s: float) -> Execution:
        """Runs `plan` within `deadline_s` seconds. Raises SpillwayError when there is no answer."""
        async with aclosing(self._run(chat, plan, task_type, deadline_s, streaming=False)) as events:
            async for event in events:
                if isinstance(event, Execution):
                    return event
        raise Internal(detail="an execution without an end")

    def stream(
        self, chat: ChatRequest, plan: Plan, task_type: TaskType | None, deadline_s: float
    ) -> AsyncGenerator[ExecutionEvent, None]:
        """As `execute`: pieces of the answer, then the Execution, which repeats all of it."""
        return self._run(chat, plan, task_type, deadline_s, streaming=True)

    async def _run(
        self, chat: ChatRequest, plan: Plan, task_type: TaskType | None, deadline_s: float, *, streaming: bool
    ) -> AsyncGenerator[ExecutionEvent, None]:
        began_s = self._clock.monotonic()
        number = -1
        freed: frozenset[str] = frozenset()
        made: list[AttemptInProgress] = []
        try:
            while True:
                waited_s = self._clock.monotonic() - began_s
                events = self._once(chat, plan, task_type, deadline_s - waited_s, made, streaming=streaming)
                try:
                    async with aclosing(events):
                        async for event in events:
                            yield event
                    return
                except NoAnswerError as error:
                    busy = busy_targets(error)
                    if freed:
                        self.line.freed(freed, behind=number)
                    if not busy:
                        raise
                    left_s = deadline_s * LINE_SHARE_MAX - (self._clock.monotonic() - began_s)
                    if left_s <= 0:
                        raise NoAnswerError(FailReason.OVERLOADED, RETRY_S, error.failed) from None
                if number < 0:
                    number = self.line.number()
                try:
                    freed = await self.line.wait(number, busy, left_s)
                finally:
                    set_attributes({WAITED_S: self._clock.monotonic() - began_s})
        finally:
            for attempt in made:
                attempt.end_span()

    async def _once(
        self,
        chat: ChatRequest,
        plan: Plan,
        task_type: TaskType | None,
        deadline_s: float,
        last_made: list[AttemptInProgress],
        *,
        streaming: bool,
    ) -> AsyncGenerator[ExecutionEvent, None]:
        """From the beginning. `last_made` has its attempts afterwards, and no others: their spans are to be ended."""
        evidence = Evidence(
            chat,
            task_type,
            confidence_min=self._confidence_min,
            confidence_asked=plan.confidence_min,
            calibration=self._calibration,
        )
        tiers, left_out = known_tiers(plan, self._pool)
        if not tiers:
            raise FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan names no target that is configured")
        plan = self._pool.arranged(replace(plan, tiers=tiers), self._clock.monotonic())
        named = {name for tier in plan.tiers for name in (*tier.targets, *gate_targets(tier))}
        names = {name for name in named if name in self._pool}
        estimates_nanousd = {name: estimate_call(chat, self._pool[name].price) for name in names}
        cascade = self._cascade(chat, plan, names, estimates_nanousd)
        tab = Tab(self._attempts, self._pool, self._clock, estimates_nanousd, plan.cost_nanousd_max)
        for tier, name in left_out:
            tab.skip(tier, name, TARGET_UNKNOWN)
        calls = Calls(self._attempts, self._clock)
        run = Run(calls, self._pool, self._opinions, plan, tab, cascade, evidence, streaming=streaming)
        try:
            while True:
                action = cascade.next(deadline_s - tab.elapsed_s)
                if isinstance(action, Wait):
                    for delta in await run.wait(action.for_s):
                        yield delta
                elif isinstance(action, Call):
                    run.call(action)
                elif isinstance(action, Skip):
                    tab.skip(action.tier, action.target, action.error_reason)
                elif isinstance(action, Cancel):
                    await run.cancel(action.number)
                elif isinstance(action, Return):
                    execution = run.conclude(action)
                    if streaming and not run.has_flowed:
                        yield AnswerDelta(execution.message.text, execution.message.tool_calls)
                    yield execution
                    return
                else:
                    raise no_answer(
                        action,
                        run.failed(),
                        remaining_s=deadline_s - tab.elapsed_s,
                        retry_after_s=self._pool.retry_after_s(names, self._clock.monotonic()),
                    )
        finally:
            try:
                await calls.close()
            finally:
                last_made[:] = tab.made

    def _cascade(self, chat: ChatRequest, plan: Plan, names: set[str], estimates_nanousd: Mapping[str, int]) -> Cascade:
        """Under a ceiling the machine counts with bounds, not with estimates."""
        least: dict[str, int] | None = None
        if plan.cost_nanousd_max is not None:
            estimates_nanousd = {name: full_nanousd(chat, self._pool[name].price) for name in names}
            least = {name: least_nanousd(chat, self._pool[name].price) for name in names}
        return Cascade(plan, estimates_nanousd, self._typical_s(names), self._hedging_of(plan), least_nanousd=least)

    def _typical_s(self, names: set[str]) -> dict[str, float]:
        quantiles = {name: self._pool.latencies[name].quantile_s(_TYPICAL_SHARE) for name in names}
        return {name: seconds for name, seconds in quantiles.items() if seconds is not None}

    def _hedging_of(self, plan: Plan) -> Hedging | None:
        if plan.strategy is not Strategy.HEDGED:
            return None
        names = [name for tier in plan.tiers for name in tier.targets]
        delays_s = {name: hedge_delay_s(self._pool.latencies[name], self._hedging) for name in names}
        return Hedging(delays_s, self.hedge_share.begin())
