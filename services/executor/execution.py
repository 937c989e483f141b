"""Runs a plan: asks the cascade what to do, does it, and tells it what came of it.

Promises: one answer of one model, never spliced; every attempt is reported with its cost; a caller who leaves ends the
calls under way, with their permits given back. A stream flows as it is written only when nothing can replace the
answer any more: from the last rung that may be reached, with no gates of its own and no form to check. All others are
held back and sent whole. The first piece that flows is the one with the first visible character, so a call that fails
before it falls back unseen; after it, a break is STREAM_INTERRUPTED.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.budget import estimate_call
from services.executor.cascade import Call, Cascade, Fail, FailReason, Judged, Return, Skip
from services.executor.gates import hard_failure, schema
from services.executor.gates.composite import Evidence, judge
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.prompt import another_sample, augment
from services.executor.providers.provider import Provider
from services.executor.targets import Lease, Refusal, TargetPool
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Internal, SpillwayError, Unavailable
from spillway.chat import ChatRequest, FormatKind, Message, Role, Usage
from spillway.routing import (
    AgreementSpec,
    AnswerDelta,
    AttemptOutcome,
    Execution,
    Plan,
    PlannedTier,
    TaskType,
    Verdict,
)

__all__ = ["ExecutionEvent", "Executor"]

ExecutionEvent = AnswerDelta | Execution


class Executor:
    """The use case. One per process; safe for many executions at once on one event loop."""

    def __init__(
        self, providers: Mapping[str, Provider], pool: TargetPool, clock: Clock, *, confidence_min: float
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._confidence_min = confidence_min
        self._attempts = Attempts(providers, pool, clock)
        self.schemas = schema.Schemas()

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
            confidence_min=self._confidence_min if plan.confidence_min is None else plan.confidence_min,
        )
        names = {name for tier in plan.tiers for name in (*tier.targets, *_second_targets(tier))}
        cascade = Cascade(plan, {name: estimate_call(chat, self._pool[name].price) for name in names})
        run = _Run(self._attempts, self._pool, self._clock, self.schemas, cascade, evidence)
        while True:
            action = cascade.next(deadline_s - run.elapsed_s)
            if isinstance(action, Skip):
                run.skip(action.tier, action.target, action.error_reason)
            elif isinstance(action, Call):
                leases = run.take(action)
                if leases is None:
                    continue
                if streaming and _may_flow(action, chat):
                    async with aclosing(run.flow(action, leases[0])) as deltas:
                        async for delta in deltas:
                            yield delta
                else:
                    await run.hold(action, leases)
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
        clock: Clock,
        schemas: schema.Schemas,
        cascade: Cascade,
        evidence: Evidence,
    ) -> None:
        self._attempts = attempts
        self._pool = pool
        self._clock = clock
        self._schemas = schemas
        self._cascade = cascade
        self._evidence = evidence
        self._started_at_s = clock.monotonic()
        self._made: list[AttemptInProgress] = []
        self._answers: dict[int, Answer] = {}  # by number of the attempt, as the gates left them
        self.has_flowed = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._started_at_s

    def skip(self, tier: PlannedTier, target: str, error_reason: str) -> None:
        """Records that `target` was not called."""
        self._made.append(self._attempts.skip(tier, self._pool[target], self._started_at_s, error_reason))

    def take(self, call: Call) -> tuple[Lease, Lease | None] | None:
        """Leases for the call and its second opinion; None, with the cascade told, when the target gives none."""
        now_s = self._clock.monotonic()
        lease = self._pool.take(call.target, now_s)
        if isinstance(lease, Refusal):
            self.skip(call.tier, call.target, lease.error_reason)
            self._cascade.skipped(lease.retry_after_s)
            return None
        if not call.second_target:
            return lease, None
        second = self._pool.take(call.second_target, now_s)
        if isinstance(second, Refusal):
            self.skip(call.tier, call.second_target, second.error_reason)
            return lease, None
        return lease, second

    async def hold(self, call: Call, leases: tuple[Lease, Lease | None]) -> None:
        """Makes the call, and asks for the second opinion at the same time; judges the answer."""
        chat = augment(self._evidence.chat, call.tier.gates, call.notes)
        first = self._begin(call, call.target)
        if leases[1] is None:
            await self._attempts.complete(first, leases[0], chat, call.timeout_s)
            self._feed(call, first, None)
            return
        second = self._begin(call, call.second_target)
        second_chat = another_sample(chat) if call.second_target == call.target else chat
        asked = asyncio.create_task(self._attempts.complete(first, leases[0], chat, call.timeout_s))
        asked_second = asyncio.create_task(self._attempts.complete(second, leases[1], second_chat, call.timeout_s))
        try:
            result = await asked
            if _needs_second(result):
                await asked_second
        finally:
            for task in (asked, asked_second):
                task.cancel()
            await asyncio.wait({asked, asked_second})
        self._feed(call, first, second)

    async def flow(self, call: Call, lease: Lease) -> AsyncGenerator[AnswerDelta, None]:
        """Makes the call and passes its text on as it comes. Raises Unavailable when it breaks after that began."""
        chat = augment(self._evidence.chat, call.tier.gates, call.notes)
        attempt = self._begin(call, call.target)
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
        self._feed(call, attempt, None)

    def conclude(self, end: Return) -> Execution:
        """The result."""
        attempt = self._made[end.attempt]
        attempt.outcome = AttemptOutcome.ACCEPTED
        answer = self._answers[end.attempt]
        return Execution(
            message=answer.message,
            finish_reason=answer.finish_reason,
            accepted=end.accepted,
            tier=attempt.tier.name,
            target=attempt.target.name,
            model=answer.model or attempt.target.model,
            attempts=tuple(made.record() for made in self._made),
            usage=attempt.billed,
            usage_total=sum((made.billed for made in self._made), start=Usage()),
            cost_nanousd=sum(made.cost_nanousd for made in self._made),
            escalations=self._cascade.escalations,
            fallbacks=self._cascade.fallbacks,
        )

    def _begin(self, call: Call, target: str) -> AttemptInProgress:
        attempt = self._attempts.begin(call.tier, self._pool[target], self._started_at_s)
        self._made.append(attempt)
        return attempt

    def _feed(self, call: Call, first: AttemptInProgress, second: AttemptInProgress | None) -> None:
        """Tells the cascade what became of the call; when the target failed, its second opinion stands in."""
        spent_nanousd = first.cost_nanousd + (second.cost_nanousd if second else 0)
        failure = first.failure
        if first.answer is not None:
            if second is not None and second.answer is not None:
                second.outcome = AttemptOutcome.EVIDENCE
                second.end_span()
            self._cascade.answered(self._judge(call, first, second), spent_nanousd)
        elif failure is not None and failure.kind is not FailureKind.REJECTED and second and second.answer:
            self._cascade.answered(self._judge(call, second, None), spent_nanousd, by_second=True)
        elif failure is not None:
            self._cascade.unavailable(failure, spent_nanousd)

    def _judge(self, call: Call, attempt: AttemptInProgress, second: AttemptInProgress | None) -> Judged:
        answer = attempt.answer or Answer(Message(Role.ASSISTANT))
        evidence = replace(self._evidence, is_last=call.is_last)
        if second is not None:
            evidence = replace(
                evidence,
                second=second.answer.message if second.answer else None,
                second_cost_nanousd=second.cost_nanousd,
                second_latency_s=second.latency_s,
            )
        judgement = judge(answer, call.tier.gates, evidence, self._schemas)
        number = next(index for index, made in enumerate(self._made) if made is attempt)
        self._answers[number] = judgement.answer
        attempt.verdicts = judgement.verdicts
        is_empty = judgement.answer.is_empty and not self.has_flowed
        is_returned = judgement.accepted or (call.is_last and not is_empty)
        attempt.outcome = AttemptOutcome.ACCEPTED if is_returned else AttemptOutcome.REJECTED
        attempt.end_span()
        return Judged(number, judgement.accepted, judgement.is_hard_failure, is_empty, judgement.notes)


def _second_targets(tier: PlannedTier) -> list[str]:
    return [gate.second_target for gate in tier.gates if isinstance(gate, AgreementSpec) and gate.second_target]


def _may_flow(call: Call, chat: ChatRequest) -> bool:
    """Whether nothing can replace the answer: it may be sent while it is written."""
    form = chat.response_format
    return call.is_last and not call.tier.gates and (form is None or form.kind is FormatKind.TEXT)


def _needs_second(result: Answer | ProviderFailure) -> bool:
    """Whether a second opinion is still of use: not for what is no answer, nor for a request that is refused."""
    if isinstance(result, ProviderFailure):
        return result.kind is not FailureKind.REJECTED
    return hard_failure.check(result).verdict is Verdict.PASS


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
