"""One call of one target: its lease, its span, its cost, whatever becomes of it.

Promises: every lease is given back exactly once and every span ended, also when the caller leaves; every call has a
cost. Money is never counted too low in silence: when a provider reports no usage, or a call that may have been charged
fails or is cancelled, tokens are estimated as characters divided by four, and `Attempt.usage` stays empty to say so.
Under a ceiling such a call has cost the most that it can have cost instead, and
`Attempt.cost_excess_nanousd` says how much more than the estimate that is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from services.executor.breaker import CallResult
from services.executor.budget import estimate_input_tokens, estimate_output_tokens
from services.executor.complaints import Complaints
from services.executor.gates.composite import wants_logprobs
from services.executor.lease import Lease
from services.executor.metrics import ExecutorMetrics
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.provider import Provider, ProviderCall
from services.executor.targets import TargetPool
from services.runtime.clock import Clock
from spillway.chat import ChatRequest, FinishReason, Usage
from spillway.routing import AnswerDelta, Attempt, AttemptOutcome, AttemptPurpose, GateVerdict, PlannedTier
from spillway.settings import Target

__all__ = ["AttemptInProgress", "Attempts"]

_FAIR_TIMEOUT_S: Final = 10.0
_OUTCOMES: Final = {
    FailureKind.TIMEOUT: AttemptOutcome.TIMEOUT,
    FailureKind.THROTTLED: AttemptOutcome.THROTTLED,
    FailureKind.SPEND_CAP: AttemptOutcome.THROTTLED,
}


@dataclass(slots=True)
class AttemptInProgress:
    """What is known of an attempt so far."""

    tier: PlannedTier
    target: Target
    started_after_s: float
    purpose: AttemptPurpose = AttemptPurpose.ANSWER
    held_nanousd: int = 0
    """What it counts under the ceiling until its cost is known."""
    most: Usage | None = None
    """Under a ceiling: the most tokens that it can come to."""
    outcome: AttemptOutcome = AttemptOutcome.CANCELLED
    answer: Answer | None = None
    failure: ProviderFailure | None = None
    verdicts: tuple[GateVerdict, ...] = ()
    billed: Usage = field(default_factory=Usage)
    """The tokens that it is booked at: counted, or at most `most`, or estimated."""
    likely: Usage = field(default_factory=Usage)
    """The tokens that were counted, or are estimated."""
    cost_nanousd: int = 0
    latency_s: float = 0.0
    time_to_first_token_s: float | None = None
    error_reason: str = ""
    span: Span = trace.INVALID_SPAN
    metrics: ExecutorMetrics | None = None
    ended_at_ns: int | None = None
    held_s: float = 0.0
    """How long pieces of its stream waited for their reader, which is not the target's time."""
    patience_s: float | None = None
    """How long its reader waits until the answer may flow, when that is less than the time of the call."""

    def record(self) -> Attempt:
        """The attempt as it is reported."""
        return Attempt(
            tier=self.tier.name,
            target=self.target.name,
            model=self.target.model,
            provider=self.target.provider,
            outcome=self.outcome,
            verdicts=self.verdicts,
            usage=self.answer.usage if self.answer else None,
            cost_nanousd=self.cost_nanousd,
            started_after_s=self.started_after_s,
            latency_s=self.latency_s,
            time_to_first_token_s=self.time_to_first_token_s,
            error_reason=self.error_reason,
            finish_reason=self.answer.finish_reason if self.answer else FinishReason.UNKNOWN,
            purpose=self.purpose,
            cost_excess_nanousd=max(0, self.cost_nanousd - self.target.price.nanousd(self.likely)),
        )

    def end_span(self) -> None:
        """Writes everything on the span and ends it at the time when the call ended. May be called again: no effect."""
        metrics, self.metrics = self.metrics, None
        if metrics is not None and self.outcome is AttemptOutcome.SKIPPED:
            metrics.attempt(self.tier.name, self.target.name, self.outcome.value)
        elif metrics is not None:
            metrics.attempt(
                self.tier.name,
                self.target.name,
                self.outcome.value,
                billed=self.billed,
                latency_s=self.latency_s,
                time_to_first_token_s=self.time_to_first_token_s,
                verdicts=self.verdicts,
            )
        span = self.span
        if not span.is_recording():
            return
        span.set_attribute("spillway.attempt.outcome", self.outcome.value)
        span.set_attribute("spillway.attempt.purpose", self.purpose.value)
        span.set_attribute("spillway.cost_nanousd", self.cost_nanousd)
        if self.answer is not None:
            span.set_attribute("gen_ai.response.model", self.answer.model or self.target.model)
            span.set_attribute("gen_ai.response.finish_reasons", [self.answer.finish_reason.value])
            if self.answer.usage is not None:
                span.set_attribute("gen_ai.usage.input_tokens", self.answer.usage.input_tokens)
                span.set_attribute("gen_ai.usage.output_tokens", self.answer.usage.output_tokens)
        for verdict in self.verdicts:
            prefix = f"spillway.gate.{verdict.gate}"
            span.set_attribute(f"{prefix}.verdict", verdict.verdict.value)
            span.set_attribute(f"{prefix}.reason", verdict.reason)
            if verdict.score is not None:
                span.set_attribute(f"{prefix}.score", verdict.score)
        if self.error_reason:
            span.set_attribute("error.type", self.error_reason)
        if self.failure is not None:
            span.set_status(StatusCode.ERROR, self.error_reason)
            span.set_attribute("spillway.attempt.detail", self.failure.detail)
        span.end(self.ended_at_ns)


class Attempts:
    """Makes attempts for one process."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        pool: TargetPool,
        clock: Clock,
        metrics: ExecutorMetrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._providers = providers
        self._pool = pool
        self._clock = clock
        self._complaints = Complaints()
        self._tracer = trace.get_tracer("spillway.executor")

    def begin(self, tier: PlannedTier, target: Target, started_at_s: float) -> AttemptInProgress:
        """An attempt that starts now; `started_at_s` is when the execution did. Its span is a child of the current."""
        span = self._tracer.start_span(
            f"chat {target.model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": target.provider,
                "gen_ai.request.model": target.model,
                "spillway.tier": tier.name,
                "spillway.target": target.name,
            },
        )
        return AttemptInProgress(tier, target, self._clock.monotonic() - started_at_s, span=span, metrics=self._metrics)

    def skip(self, tier: PlannedTier, target: Target, started_at_s: float, error_reason: str) -> AttemptInProgress:
        """An attempt that was not made. It has no span: nothing took time. `end_span` counts it."""
        return AttemptInProgress(
            tier,
            target,
            self._clock.monotonic() - started_at_s,
            outcome=AttemptOutcome.SKIPPED,
            error_reason=error_reason,
            metrics=self._metrics,
        )

    async def complete(
        self, attempt: AttemptInProgress, lease: Lease, chat: ChatRequest, timeout_s: float
    ) -> Answer | ProviderFailure:
        """The target's answer. On cancellation the attempt is settled, its span ended, and the error passes through."""
        began_s = self._clock.monotonic()
        result: Answer | ProviderFailure | None = None
        try:
            provider = self._providers[attempt.target.provider]
            result = await provider.complete(_call(attempt, chat, timeout_s))
            return result
        finally:
            self._settle(attempt, lease, chat, result, began_s, timeout_s)

    async def stream(
        self, attempt: AttemptInProgress, lease: Lease, chat: ChatRequest, timeout_s: float
    ) -> AsyncGenerator[AnswerDelta, None]:
        """The target's text as it is written; when it ends, the attempt has its answer or its failure."""
        began_s = self._clock.monotonic()
        result: Answer | ProviderFailure | None = None
        written_chars = 0
        try:
            provider = self._providers[attempt.target.provider]
            async with aclosing(provider.stream(_call(attempt, chat, timeout_s))) as events:
                async for event in events:
                    if isinstance(event, AnswerDelta):
                        given_at_s = self._clock.monotonic()
                        if attempt.time_to_first_token_s is None:
                            attempt.time_to_first_token_s = given_at_s - began_s
                        written_chars += len(event.text)
                        yield event
                        attempt.held_s += self._clock.monotonic() - given_at_s
                    else:
                        result = event
        finally:
            self._settle(attempt, lease, chat, result, began_s, timeout_s, written_chars)

    def abandon(self, attempt: AttemptInProgress, lease: Lease) -> None:
        """Settles an attempt that was cancelled before its call began. No effect on any other."""
        if attempt.ended_at_ns is None:
            now_s = self._clock.monotonic()
            attempt.ended_at_ns = time.time_ns()
            attempt.error_reason = "CANCELLED"
            self._pool.give_back(lease, CallResult.NEITHER, now_s)
            attempt.end_span()

    def _settle(
        self,
        attempt: AttemptInProgress,
        lease: Lease,
        chat: ChatRequest,
        result: Answer | ProviderFailure | None,
        began_s: float,
        timeout_s: float,
        written_chars: int = 0,
    ) -> None:
        now_s = self._clock.monotonic()
        result = result or attempt.failure  # for which its reader gave it up
        timeout_s = min(timeout_s, attempt.patience_s or timeout_s) - attempt.held_s
        attempt.latency_s = now_s - began_s
        took_s = attempt.latency_s - attempt.held_s
        attempt.ended_at_ns = time.time_ns()
        if isinstance(result, Answer):
            attempt.answer = result
            attempt.likely = result.usage or _estimate(chat, _chars(result))
            attempt.billed = result.usage or attempt.most or attempt.likely
            self._pool.latencies[lease.target].record(took_s)
            self._pool.give_back(lease, CallResult.SUCCESS, now_s, took_s=took_s)
        elif isinstance(result, ProviderFailure):
            attempt.failure = result
            self._complaints.note(attempt.target.provider, lease.target, result, now_s)
            attempt.outcome = _OUTCOMES.get(result.kind, AttemptOutcome.ERROR)
            attempt.error_reason = result.error_reason
            if result.billable:
                attempt.likely = _estimate(chat, result.output_chars)
                attempt.billed = attempt.most or attempt.likely
            if result.kind is FailureKind.TIMEOUT:
                self._pool.latencies[lease.target].record_at_least(took_s)
            verdict = CallResult.FAILURE if _blames(result, attempt.tier, timeout_s) else CallResult.NEITHER
            self._pool.give_back(
                lease,
                verdict,
                now_s,
                result.retry_after_s,
                took_s=took_s,
                unanswered=result.kind is FailureKind.TIMEOUT,
            )
            if result.kind is FailureKind.SPEND_CAP:
                self._pool.spend_cap(lease.target, now_s)
        else:
            self._pool.latencies[lease.target].record_at_least(took_s)
            if attempt.outcome is AttemptOutcome.CANCELLED:  # and not rejected for how it began
                attempt.error_reason = "CANCELLED"
            attempt.likely = _estimate(chat, written_chars)
            attempt.billed = attempt.most or attempt.likely
            self._pool.give_back(lease, CallResult.NEITHER, now_s)
        attempt.cost_nanousd = attempt.target.price.nanousd(attempt.billed)
        if attempt.answer is None:
            attempt.end_span()


def _call(attempt: AttemptInProgress, chat: ChatRequest, timeout_s: float) -> ProviderCall:
    """Log-probabilities are asked for where a gate of the tier reads them: of the answer, not of opinions on it."""
    is_read = attempt.purpose in {AttemptPurpose.ANSWER, AttemptPurpose.HEDGE} and wants_logprobs(attempt.tier.gates)
    return ProviderCall(attempt.target.model, chat, timeout_s, want_logprobs=is_read)


def _blames(failure: ProviderFailure, tier: PlannedTier, timeout_s: float) -> bool:
    """Whether the target is to blame. A timeout counts only when the call had a fair time, not a hurried caller's.

    What came with a Retry-After was said by the target itself.
    """
    if failure.kind is FailureKind.TIMEOUT and failure.retry_after_s is None:
        return timeout_s >= min(tier.attempt_timeout_s, _FAIR_TIMEOUT_S)
    return failure.kind.counts_against_target


def _estimate(chat: ChatRequest, output_chars: int) -> Usage:
    return Usage(estimate_input_tokens(chat), estimate_output_tokens(output_chars))


def _chars(answer: Answer) -> int:
    calls = answer.message.tool_calls
    return len(answer.message.text) + sum(len(call.name) + len(call.arguments_json) for call in calls)
