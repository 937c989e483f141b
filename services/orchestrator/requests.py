"""A request from the door to its end: how fast its holder may ask, whether its id has an answer already, the pipeline.

Promises: a request whose caller gave it an id is answered once: a duplicate, now or within the window, in this process
or another one, gets the same answer and asks no model (`idempotency`). A duplicate is no new decision: nothing is
recorded, stored or learned of it. For one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import Context

from services.orchestrator.pipeline import Pipeline
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.record import DecisionRecord
from services.orchestrator.replays.idempotency import Owner, Replayed, Replays, request_digest
from services.orchestrator.run import Run
from services.runtime import telemetry
from services.runtime.clock import Clock
from spillway.routing import AnswerDelta, Completion, CompletionRequest, Explanation

__all__ = ["Requests"]


class Requests:
    """The use case of Complete, StreamComplete and Explain, and what jobs and feedback answer through."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        quotas: Quotas,
        replays: Replays,
        clock: Clock,
        on_answer: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`on_answer` is told of each run that ended in `answer`; of the others the servicer knows."""
        self._pipeline = pipeline
        self._quotas = quotas
        self._replays = replays
        self._clock = clock
        self._on_answer = on_answer

    @property
    def deadline_s(self) -> float:
        """For callers that set none."""
        return self._pipeline.deadline_s

    def begin(self, request: CompletionRequest, *, remaining_s: float, trace_id: str = "", key_id: str = "") -> Run:
        """A run for a request that came in now and whose caller waits for `remaining_s`."""
        return self._pipeline.begin(request, remaining_s=remaining_s, trace_id=trace_id, key_id=key_id)

    async def enter(self, tenant: str, key_id: str) -> None:
        """Counts a request, a job or feedback against the rates of its holder. Raises RateLimited, Unavailable."""
        await self._quotas.enter(Holder(tenant, key_id))

    async def complete(self, run: Run) -> Completion:
        """The answer. Raises SpillwayError."""
        begun = await self._claimed(run)
        if isinstance(begun, Replayed):
            return run.answered_again(begun.completion)
        if begun is None:
            return await self._pipeline.complete(run)
        try:
            completion = await self._pipeline.complete(run)
            return await begun.finish(completion)
        finally:
            begun.abandon()

    async def stream(self, run: Run) -> AsyncGenerator[AnswerDelta | Completion, None]:
        """The answer piece by piece, and the Completion last; a replay is one piece. Raises SpillwayError."""
        begun = await self._claimed(run)
        if isinstance(begun, Replayed):
            again = run.answered_again(begun.completion)
            yield AnswerDelta(again.message.text, again.message.tool_calls)
            yield again
            return
        try:
            async with aclosing(self._pipeline.stream(run)) as events:
                async for event in events:
                    yield await begun.finish(event) if begun and isinstance(event, Completion) else event
        finally:
            if begun is not None:
                begun.abandon()

    async def explain(self, run: Run) -> Explanation:
        """What would be done, with no model called and nothing stored; it counts as a request. Raises SpillwayError."""
        with run.ending():
            await self.enter(run.request.tenant, run.key_id)
        return await self._pipeline.explain(run)

    def finish(self, run: Run, *, context: Context | None = None) -> None:
        """To be called once the answer, or the error, has left. `context` is the request's: for what follows."""
        self._pipeline.finish(run, context=context)

    async def answer(
        self,
        request: CompletionRequest,
        *,
        job_id: str = "",
        key_id: str = "",
        deadline_s: float | None = None,
    ) -> Completion:
        """For work that does not come through the door, and whose id is taken care of. `deadline_s` is monotonic."""
        remaining_s = self.deadline_s if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic())
        run = self._pipeline.begin(
            request,
            remaining_s=remaining_s,
            trace_id=telemetry.current_trace_id(),
            job_id=job_id,
            key_id=key_id,
        )
        try:
            return await self._pipeline.complete(run)
        finally:
            telemetry.set_attributes(run.span_attributes())
            self._on_answer(run)
            self._pipeline.finish(run)

    def record_again(
        self, request: CompletionRequest, completion: Completion, *, job_id: str, key_id: str
    ) -> DecisionRecord:
        """The record of an answer that another process gave, as far as the answer tells of it."""
        run = self._pipeline.begin(request, remaining_s=0.0, trace_id=completion.trace_id, job_id=job_id, key_id=key_id)
        run.answered_again(completion)
        run.received_at_unix_s = completion.completed_at_unix_s or run.received_at_unix_s
        run.hops = list(completion.hops)
        return run.record()

    async def _claimed(self, run: Run) -> Replayed | Owner | None:
        """What its id is; None without one. Raises RateLimited, FailedPrecondition, DeadlineExceeded."""
        with run.ending():
            await self.enter(run.request.tenant, run.key_id)
            if not run.request.request_id:
                return None
            digest = request_digest(run.request)
            with run.hop("replays"):
                return await self._replays.begin(
                    run.request.tenant, run.request.request_id, digest, timeout_s=run.remaining_s
                )
