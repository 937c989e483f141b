"""OrchestratorService: protobuf in, protobuf out, and what is observed of each request.

Promises: a request is checked as a whole before anything else happens; the server span says how it went; and the
pipeline's `finish` runs when gRPC is done with the call, so that records and stores never delay an answer. Jobs and
feedback are not part of this version and say so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import replace

import grpc

from services.orchestrator.disclosure import disclosed
from services.orchestrator.metrics import RequestMetrics
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.run import Run
from services.runtime import telemetry
from services.runtime.channel import remaining_s
from services.runtime.errors import NotImplementedYet
from spillway import wire
from spillway.routing import AnswerDelta, Completion
from spillway.v1 import orchestrator_pb2 as pb
from spillway.v1 import orchestrator_pb2_grpc
from spillway.validation import check_completion_request

__all__ = ["OrchestratorServicer"]

Context = grpc.aio.ServicerContext[object, object]


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """The public API."""

    def __init__(self, pipeline: Pipeline, metrics: RequestMetrics) -> None:
        self._pipeline = pipeline
        self._metrics = metrics

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        run = self._begin(request, "", context)
        self._finish_after(run, context)
        try:
            completion = await self._pipeline.complete(run)
        finally:
            telemetry.set_attributes(run.span_attributes())
        return pb.CompleteResponse(completion=_completion(completion))

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        run = self._begin(request.request, "request", context)
        self._finish_after(run, context)
        try:
            async with aclosing(self._pipeline.stream(run)) as events:
                async for event in events:
                    if isinstance(event, AnswerDelta):
                        yield pb.StreamCompleteResponse(delta=wire.answer_delta_to_proto(event))
                    else:
                        yield pb.StreamCompleteResponse(completion=_completion(event))
        finally:
            telemetry.set_attributes(run.span_attributes())

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        run = self._begin(request.request, "request", context)
        try:
            explanation = await self._pipeline.explain(run)
        finally:
            telemetry.set_attributes(run.span_attributes())
        return wire.explanation_to_proto(replace(explanation, cache=disclosed(explanation.cache)))

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Context) -> pb.SubmitJobResponse:
        raise NotImplementedYet("SubmitJob")

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        raise NotImplementedYet("GetJob")

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        raise NotImplementedYet("CancelJob")

    def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        raise NotImplementedYet("WatchJob")

    async def SendFeedback(self, request: pb.SendFeedbackRequest, context: Context) -> pb.SendFeedbackResponse:
        raise NotImplementedYet("SendFeedback")

    def _begin(self, request: pb.CompleteRequest, path: str, context: Context) -> Run:
        """Raises WireError, InvalidValue."""
        value = wire.completion_request_from_proto(request, path)
        check_completion_request(value, path)
        return self._pipeline.begin(
            value, remaining_s=remaining_s(context, self._pipeline.deadline_s), trace_id=telemetry.current_trace_id()
        )

    def _finish_after(self, run: Run, context: Context) -> None:
        """Has the run finished once the last byte, or the error, has been handed to the network."""
        # Made now, while the server span is the current one: the store belongs to the request's trace.
        values = copy_context()

        def finish(_context: Context) -> None:
            self._metrics.ended(run)
            self._pipeline.finish(run, context=values)

        # The stubs name a class where any callable will do.
        context.add_done_callback(finish)  # type: ignore[arg-type]


def _completion(value: Completion) -> pb.Completion:
    return wire.completion_to_proto(replace(value, cache=disclosed(value.cache)))
