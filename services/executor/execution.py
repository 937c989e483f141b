"""Runs a plan: asks the cascade what to do, does it, and tells it what came of it.

Promises: one answer of one model, never spliced; every attempt is reported with its cost; a caller who leaves ends the
calls under way, with their permits given back. A stream flows as it is written only when nothing can replace the
answer any more: from the last rung that may be reached, with no gates of its own and no form to check. All others are
held back and sent whole. The first piece that flows is the one with the first visible character, so a call that fails
before it falls back unseen; after it, a break is STREAM_INTERRUPTED.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.budget import estimate_call
from services.executor.cascade import Call, Cascade, Fail, FailReason, Judged, Return, Skip
from services.executor.gates import schema
from services.executor.gates.calibration import Calibration
from services.executor.gates.composite import Evidence, Judgement, judge_answer
from services.executor.opinions import Opinions, gate_targets
from services.executor.outcome import Answer, FailureKind
from services.executor.prompt import augment
from services.executor.providers.provider import Provider
from services.executor.tab import Tab
from services.executor.targets import Lease, Refusal, TargetPool
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Internal, SpillwayError, Unavailable
from spillway.chat import ChatRequest, FormatKind
from spillway.routing import (
    AnswerDelta,
    AttemptOutcome,
    Execution,
    Plan,
    TaskType,
)

__all__ = ["ExecutionEvent", "Executor"]

ExecutionEvent = AnswerDelta | Execution


class Executor:
    """The use case. One per process; safe for many executions at once on one event loop."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        pool: TargetPool,
        clock: Clock,
        *,
        confidence_min: float,
        calibration: Calibration,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._confidence_min = confidence_min
        self._calibration = calibration
        self._attempts = Attempts(providers, pool, clock)
        self.schemas = schema.Schemas()
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
        evidence = Evidence(
            chat,
            task_type,
            confidence_min=self._confidence_min,
            confidence_asked=plan.confidence_min,
            calibration=self._calibration,
        )
        names = {name for tier in plan.tiers for name in (*tier.targets, *gate_targets(tier))}
        estimates_nanousd = {name: estimate_call(chat, self._pool[name].price) for name in names}
        cascade = Cascade(plan, estimates_nanousd)
        tab = Tab(self._attempts, self._pool, self._clock, estimates_nanousd, plan.cost_nanousd_max)
        run = _Run(self._attempts, self._pool, self._opinions, plan, tab, cascade, evidence)
        while True:
            action = cascade.next(deadline_s - tab.elapsed_s)
            if isinstance(action, Skip):
                tab.skip(action.tier, action.target, action.error_reason)
            elif isinstance(action, Call):
                lease = run.take(action)
                if lease is None:
                    continue
                if streaming and _may_flow(action, chat):
                    async with aclosing(run.flow(action, lease)) as deltas:
                        async for delta in deltas:
                            yield delta
                else:
                    await run.hold(action, lease)
            elif isinstance(action, Return):
                execution = run.conclude(action)
                if streaming and not run.has_flowed:
                    yield AnswerDelta(execution.message.text, execution.message.tool_calls)
                yield execution
                return
            else:
                raise _error(action)


class _Run:
    """One execution: its attempts so far, and the cascade that decides on the next."""

    def __init__(
        self,
        attempts: Attempts,
        pool: TargetPool,
        opinions: Opinions,
        plan: Plan,
        tab: Tab,
        cascade: Cascade,
        evidence: Evidence,
    ) -> None:
        self._attempts = attempts
        self._pool = pool
        self._opinions = opinions
        self._plan = plan
        self._tab = tab
        self._cascade = cascade
        self._evidence = evidence
        self._answers: dict[int, Answer] = {}  # by number of the attempt, as the gates left them
        self.has_flowed = False

    def take(self, call: Call) -> Lease | None:
        """A lease for the call; None, with the cascade told, when the target gives none."""
        lease = self._pool.take(call.target, self._tab.now_s)
        if isinstance(lease, Refusal):
            self._tab.skip(call.tier, call.target, lease.error_reason)
            self._cascade.skipped(lease.retry_after_s)
            return None
        return lease

    async def hold(self, call: Call, lease: Lease) -> None:
        """Makes the call, with what its gates ask others at the same time; judges the answer."""
        chat = augment(self._evidence.chat, call.tier, call.notes, is_last=call.is_last)
        attempt = self._begin(call)
        judgement = stand_in = None
        async with self._opinions.panel(self._tab, call, chat, self._evidence_for(call)) as panel:
            await self._attempts.complete(attempt, lease, chat, call.timeout_s)
            if attempt.answer is not None:
                judgement = await panel.judge(attempt.answer)
            elif attempt.failure is not None and attempt.failure.kind is not FailureKind.REJECTED:
                stand_in = await panel.stand_in()
                if stand_in is not None and stand_in.answer is not None:
                    judgement = await panel.judge(stand_in.answer)
        spent_nanousd = attempt.cost_nanousd + panel.cost_nanousd
        if judgement is not None:
            judged = self._judged(call, stand_in or attempt, judgement)
            self._cascade.answered(judged, spent_nanousd, by_second=stand_in is not None)
        elif attempt.failure is not None:
            self._cascade.unavailable(attempt.failure, spent_nanousd)

    async def flow(self, call: Call, lease: Lease) -> AsyncGenerator[AnswerDelta, None]:
        """Makes the call and passes its text on as it comes. Raises Unavailable when it breaks after that began."""
        chat = augment(self._evidence.chat, call.tier, call.notes, is_last=call.is_last)
        attempt = self._begin(call)
        held = ""
        async with aclosing(self._attempts.stream(attempt, lease, chat, call.timeout_s)) as deltas:
            async for delta in deltas:
                held += delta.text
                if self.has_flowed or held.strip():
                    self.has_flowed = True
                    yield AnswerDelta(held)
                    held = ""
        if attempt.failure is not None and self.has_flowed:
            raise Unavailable("STREAM_INTERRUPTED", "the stream broke off; what was received is incomplete")
        calls = attempt.answer.message.tool_calls if attempt.answer else ()
        if calls or (held and self.has_flowed):
            self.has_flowed = True
            yield AnswerDelta(held, calls)
        if attempt.answer is not None:
            judgement = judge_answer(attempt.answer, call.tier.gates, self._evidence_for(call), self._opinions.schemas)
            self._cascade.answered(self._judged(call, attempt, judgement), attempt.cost_nanousd)
        elif attempt.failure is not None:
            self._cascade.unavailable(attempt.failure, attempt.cost_nanousd)

    def conclude(self, end: Return) -> Execution:
        """The result."""
        attempt = self._tab.made[end.attempt]
        attempt.outcome = AttemptOutcome.ACCEPTED
        answer = self._answers[end.attempt]
        return Execution(
            message=answer.message,
            finish_reason=answer.finish_reason,
            accepted=end.accepted,
            tier=attempt.tier.name,
            target=attempt.target.name,
            model=answer.model or attempt.target.model,
            attempts=tuple(made.record() for made in self._tab.made),
            usage=attempt.billed,
            usage_total=self._tab.usage,
            cost_nanousd=self._tab.cost_nanousd,
            escalations=self._cascade.escalations,
            fallbacks=self._cascade.fallbacks,
        )

    def _begin(self, call: Call) -> AttemptInProgress:
        return self._tab.begin(call.tier, call.target)

    def _evidence_for(self, call: Call) -> Evidence:
        return replace(self._evidence, tier=call.tier.name, next_nanousd=self._next_nanousd(call), is_last=call.is_last)

    def _next_nanousd(self, call: Call) -> int | None:
        """What asking the next rung is estimated to cost; None when none may follow."""
        if call.is_last:
            return None
        place = next(index for index, tier in enumerate(self._plan.tiers) if tier is call.tier)
        return self._tab.estimate_nanousd(self._plan.tiers[place + 1].targets[0])

    def _judged(self, call: Call, attempt: AttemptInProgress, judgement: Judgement) -> Judged:
        """Writes the verdicts on the attempt, and says the same in the cascade's words."""
        number = self._tab.number(attempt)
        self._answers[number] = judgement.answer
        attempt.verdicts = judgement.verdicts
        is_empty = judgement.answer.is_empty and not self.has_flowed
        is_returned = judgement.accepted or (call.is_last and not is_empty)
        attempt.outcome = AttemptOutcome.ACCEPTED if is_returned else AttemptOutcome.REJECTED
        attempt.end_span()
        return Judged(number, judgement.accepted, judgement.is_hard_failure, is_empty, judgement.notes)


def _may_flow(call: Call, chat: ChatRequest) -> bool:
    """Whether nothing can replace the answer: it may be sent while it is written."""
    form = chat.response_format
    return call.is_last and not call.tier.gates and (form is None or form.kind is FormatKind.TEXT)


def _error(end: Fail) -> SpillwayError:
    match end.reason:
        case FailReason.COST_CEILING:
            return FailedPrecondition("COST_CEILING", "every model that could answer would cost more than is allowed")
        case FailReason.PROVIDER_REJECTED:
            return FailedPrecondition("PROVIDER_REJECTED", "the provider refused the request itself")
        case FailReason.DEADLINE_EXCEEDED:
            return DeadlineExceeded()
        case FailReason.NO_MODEL_AVAILABLE:
            return Unavailable("NO_MODEL_AVAILABLE", "no model could answer", end.retry_after_s)
