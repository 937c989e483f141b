"""One execution: carries out what the cascade asks for, and tells it what happened.

Promises: no decision of its own beyond what `flow` says of a stream. Every call that is begun is told to the cascade
once, with all that it and its gates cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.executor.attempts import AttemptInProgress
from services.executor.calls import Calls, Ended, Flight, Piece, Written
from services.executor.cascade import Cascade
from services.executor.flow import Decision, Flow
from services.executor.gates.composite import Evidence, Judgement, as_opinion, asks_for_confidence
from services.executor.lease import BREAKER_OPEN, Refusal
from services.executor.opinions import Opinions, seats
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.prompt import augment
from services.executor.steps import COST_CEILING, Call, Judged, Return
from services.executor.tab import Tab
from services.executor.targets import TargetPool
from services.runtime.errors import Internal
from spillway.chat import FormatKind, Message
from spillway.routing import (
    AnswerDelta,
    AttemptOutcome,
    AttemptPurpose,
    Execution,
    FailedExecution,
    Plan,
)

__all__ = ["Run"]


class Run:
    """One execution: carries out what the cascade asks for, and tells it what happened."""

    def __init__(
        self,
        calls: Calls,
        pool: TargetPool,
        opinions: Opinions,
        plan: Plan,
        tab: Tab,
        cascade: Cascade,
        evidence: Evidence,
        *,
        streaming: bool,
    ) -> None:
        self._calls = calls
        self._pool = pool
        self._opinions = opinions
        self._plan = plan
        self._tab = tab
        self._cascade = cascade
        self._evidence = evidence
        self._streaming = streaming
        self._answers: dict[int, Answer] = {}  # by number of the attempt, as the gates left them
        self._unproven: set[int] = set()  # attempts whose answer only soft gates rejected
        self._flowing: Flow | None = None

    @property
    def has_flowed(self) -> bool:
        """Whether the caller has seen some of the answer."""
        return self._flowing is not None

    def call(self, call: Call) -> None:
        """Begins the call, or tells the cascade that its target gives no lease."""
        purpose = AttemptPurpose.HEDGE if call.is_hedge else AttemptPurpose.ANSWER
        chat = augment(self._evidence.chat, call.tier, call.notes, is_last=call.is_last)
        companions = len(seats(call.tier, call.target, self._tab.is_down))
        granted = self._tab.offer(call.target, chat, companions)
        if granted is None:
            # What the gates of a call under way are asking just now, the cascade learns when that call ends.
            self._tab.skip(call.tier, call.target, COST_CEILING, purpose)
            self._cascade.skipped(call.number, None, too_costly=True)
            return
        is_newcomer = all(made.outcome is AttemptOutcome.SKIPPED for made in self._tab.made)
        lease = self._pool.take(call.target, self._tab.now_s, is_further=call.is_fallback, is_newcomer=is_newcomer)
        if isinstance(lease, Refusal):
            self._tab.skip(call.tier, call.target, lease.error_reason, purpose)
            self._cascade.skipped(call.number, lease.retry_after_s, opens=lease.error_reason == BREAKER_OPEN)
            return
        attempt = self._tab.begin(call.tier, call.target, granted, purpose)
        panel = self._opinions.panel(self._tab, call, chat, self._evidence_for(call))
        flight = Flight(call, granted.chat, attempt, lease, panel)
        if self._streaming:
            flight.flow = self._flow(call)
            attempt.patience_s = call.timeout_s if flight.flow else None
        self._calls.start(flight)

    async def wait(self, for_s: float | None) -> list[AnswerDelta]:
        """Lets the next thing happen; returns the pieces of the answer that may leave with it."""
        event = await self._calls.event(self._until(for_s))
        if isinstance(event, Piece | Written):
            return await self._read(event)
        if isinstance(event, Ended):
            await self._end(event.number)
            if self._cascade.is_decided:
                return []
        pieces = [await self._decide(flight) for flight in list(self._calls.flights.values())]
        return [AnswerDelta(text) for text in pieces if text]

    async def cancel(self, number: int) -> None:
        """Ends a call that is not needed any more."""
        flight = await self._calls.end(number)
        if flight.attempt.answer is not None:  # it came too late
            flight.attempt.error_reason = "CANCELLED"
        self._cascade.cancelled(number, flight.spent_nanousd)

    def conclude(self, end: Return) -> Execution:
        """The result."""
        attempt = self._tab.made[end.attempt]
        attempt.outcome = AttemptOutcome.ACCEPTED
        answer = self._answers[end.attempt]
        message = answer.message
        if self._flowing is not None:
            message = replace(Message.of(message.role, self._flowing.sent), tool_calls=message.tool_calls)
        return Execution(
            message=message,
            finish_reason=answer.finish_reason,
            accepted=end.accepted,
            tier=attempt.tier.name,
            target=attempt.target.name,
            model=answer.model or attempt.target.model,
            attempts=tuple(made.record() for made in self._tab.made),
            usage=attempt.likely,
            usage_total=self._tab.usage,
            cost_nanousd=self._tab.cost_nanousd,
            escalations=self._cascade.escalations,
            fallbacks=self._cascade.fallbacks,
        )

    def failed(self) -> FailedExecution:
        """What was done, for an end without an answer."""
        return FailedExecution(
            attempts=tuple(made.record() for made in self._tab.made),
            cost_nanousd=self._tab.cost_nanousd,
            escalations=self._cascade.escalations,
            fallbacks=self._cascade.fallbacks,
        )

    def _evidence_for(self, call: Call) -> Evidence:
        return replace(
            self._evidence,
            tier=call.tier.name,
            earlier=tuple(self._earlier(call)),
            next_nanousd=self._next_nanousd(call),
            is_last=call.is_last,
        )

    def _earlier(self, call: Call) -> Iterator[Message]:
        """What the rungs below said, the last of them first: answers that only soft gates rejected, and opinions."""
        chat, task_type = self._evidence.chat, self._evidence.task_type
        below = self._plan.tiers[: self._place(call)]
        for tier in reversed(below):
            for number, made in enumerate(self._tab.made):
                if made.tier is not tier or made.answer is None:
                    continue
                if number in self._unproven:
                    yield self._answers[number].message
                elif number not in self._answers and made.purpose is AttemptPurpose.SECOND_OPINION:
                    said = as_opinion(made.answer, tier.gates, chat, task_type)
                    if said is not None:
                        yield said

    def _place(self, call: Call) -> int:
        return next(index for index, tier in enumerate(self._plan.tiers) if tier is call.tier)

    def _next_nanousd(self, call: Call) -> int | None:
        """What asking the next rung is estimated to cost; None when none may follow."""
        place = self._place(call)
        if call.is_last or place + 1 == len(self._plan.tiers):
            return None
        return self._tab.estimate_nanousd(self._plan.tiers[place + 1].targets[0])

    def _flow(self, call: Call) -> Flow | None:
        """How the call streams; None when its answer is held back whatever happens."""
        chat = self._evidence.chat
        is_plain = chat.response_format is None or chat.response_format.kind is FormatKind.TEXT
        if call.tier.stream_prefix is None and not (call.is_last and is_plain and not call.tier.gates):
            return None
        return Flow(call, is_plain=is_plain, confidence=asks_for_confidence(call.tier.gates, chat))

    def _until(self, for_s: float | None) -> float | None:
        """How long to wait: also for prefixes that are due, and for calls whose time to commit is over."""
        now_s = self._tab.now_s
        times_s = [] if for_s is None else [for_s]
        for flight in self._calls.flights.values():
            flow = flight.flow
            if flow is not None and not flow.is_committed and not flow.is_written:
                times_s.append(max(0.0, self._commit_by_s(flight) - now_s))
                if flow.due_at_s is not None:
                    times_s.append(max(0.0, flow.due_at_s - now_s))
        return min(times_s, default=None)

    def _commit_by_s(self, flight: Flight) -> float:
        return self._tab.now_s - self._tab.elapsed_s + flight.attempt.started_after_s + flight.call.timeout_s

    async def _read(self, event: Piece | Written) -> list[AnswerDelta]:
        """Takes the next piece of a stream, or its end."""
        flight = self._calls.flights[event.number]
        flow = flight.flow
        if flow is None:
            raise Internal(detail="a piece of what is no stream")
        if isinstance(event, Piece):
            flow.feed(event.text, self._tab.now_s)
        else:
            flow.finish()
        text = await self._decide(flight)
        answer = flight.attempt.answer
        tool_calls = answer.message.tool_calls if answer and flow.is_written and flow.is_committed else ()
        return [AnswerDelta(text, tool_calls)] if text or tool_calls else []

    async def _decide(self, flight: Flight) -> str:
        """Commits a stream, or ends it, when it is time; returns what of it may leave."""
        flow = flight.flow
        if flow is None:
            return ""
        now_s = self._tab.now_s
        decision = flow.decide(now_s, is_alone=self._cascade.is_alone(flight.call.number))
        if decision is Decision.COMMIT:
            self._cascade.committed(flight.call.number)
            self._flowing = flow
        elif decision is Decision.REJECT:
            await self._reject(flight, flow)
        elif not flow.is_committed and not flow.is_written and now_s >= self._commit_by_s(flight):
            await self._give_up(flight, flow)
        return flow.take()

    async def _reject(self, flight: Flight, flow: Flow) -> None:
        """Ends a call for how its answer began."""
        attempt = flight.attempt
        attempt.outcome = AttemptOutcome.REJECTED
        verdict = flow.verdict
        attempt.verdicts = (verdict,) if verdict else ()
        await self._calls.end(flight.call.number)
        notes = (verdict.reason,) if verdict else ()
        judged = Judged(self._tab.number(attempt), accepted=False, is_hard_failure=True, notes=notes)
        self._cascade.answered(flight.call.number, judged, flight.spent_nanousd)

    async def _give_up(self, flight: Flight, flow: Flow) -> None:
        """Ends a call that has not come far enough to be committed in its time."""
        failure = ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", billable=True, output_chars=flow.chars)
        flight.attempt.failure = failure
        await self._calls.end(flight.call.number)
        self._cascade.unavailable(flight.call.number, failure, flight.spent_nanousd)

    async def _end(self, number: int) -> None:
        """Tells the cascade what became of a call; when its target failed, an opinion may stand in."""
        flight = await self._calls.end(number)
        if flight.judgement is not None:
            attempt = flight.stand_in or flight.attempt
            judged = self._judged(flight, attempt, flight.judgement)
            self._cascade.answered(number, judged, flight.spent_nanousd, by_second=flight.stand_in is not None)
        else:
            failure = flight.attempt.failure or ProviderFailure(FailureKind.UNREADABLE, "PROVIDER_UNREADABLE")
            self._cascade.unavailable(number, failure, flight.spent_nanousd)

    def _judged(self, flight: Flight, attempt: AttemptInProgress, judgement: Judgement) -> Judged:
        """Writes the verdicts on the attempt, and says the same in the cascade's words."""
        number = self._tab.number(attempt)
        self._answers[number] = judgement.answer
        if not judgement.accepted and not judgement.is_hard_failure:
            self._unproven.add(number)
        attempt.verdicts = judgement.verdicts
        attempt.outcome = AttemptOutcome.ACCEPTED if judgement.accepted else AttemptOutcome.REJECTED
        is_empty = judgement.answer.is_empty and not (flight.flow and flight.flow.is_committed)
        return Judged(number, judgement.accepted, judgement.is_hard_failure, is_empty, judgement.notes)
