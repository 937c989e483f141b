"""OrchestratorService: protobuf in, protobuf out, and what is observed of each request.

Promises: who calls is known before anything else happens, where keys are required, and the key's tenant is the
request's; a request is checked as a whole; the server span says how it went; and `finish` runs when gRPC is done with
the call, so that records and stores never delay an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import replace

import grpc

from services.orchestrator.disclosure import disclosed
from services.orchestrator.doorkeeper import Doorkeeper
from services.orchestrator.feedback import FeedbackDesk
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.metrics import RequestMetrics
from services.orchestrator.requests import Requests
from services.orchestrator.run import Run
from services.runtime import telemetry
from services.runtime.channel import remaining_s
from services.runtime.errors import Unavailable
from spillway import wire
from spillway.routing import AnswerDelta, Completion, Job
from spillway.v1 import orchestrator_pb2 as pb
from spillway.v1 import orchestrator_pb2_grpc
from spillway.validation import check_completion_request, check_feedback, check_job_key, check_job_submission

__all__ = ["OrchestratorServicer"]

Context = grpc.aio.ServicerContext[object, object]


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """The public API. Without a ledger (`feedback` None) feedback is UNAVAILABLE."""

    def __init__(
        self,
        requests: Requests,
        metrics: RequestMetrics,
        *,
        doorkeeper: Doorkeeper,
        jobs: Jobs,
        feedback: FeedbackDesk | None,
    ) -> None:
        self._requests = requests
        self._metrics = metrics
        self._doorkeeper = doorkeeper
        self._jobs = jobs
        self._feedback = feedback

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        run = self._begin(request, "", context, "complete")
        self._finish_after(run, context)
        try:
            completion = await self._requests.complete(run)
        finally:
            telemetry.set_attributes(run.span_attributes())
        return pb.CompleteResponse(completion=_completion(completion))

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompleteResponse]:
        run = self._begin(request.request, "request", context, "complete")
        self._finish_after(run, context)
        try:
            async with aclosing(self._requests.stream(run)) as events:
                async for event in events:
                    if isinstance(event, AnswerDelta):
                        yield pb.StreamCompleteResponse(delta=wire.answer_delta_to_proto(event))
                    else:
                        yield pb.StreamCompleteResponse(completion=_completion(event))
        finally:
            telemetry.set_attributes(run.span_attributes())

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        run = self._begin(request.request, "request", context, "explain")
        try:
            explanation = await self._requests.explain(run)
        finally:
            telemetry.set_attributes(run.span_attributes())
        return wire.explanation_to_proto(replace(explanation, cache=disclosed(explanation.cache)))

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Context) -> pb.SubmitJobResponse:
        caller = self._doorkeeper.admit(context, "jobs", request.request.tenant)
        value = wire.job_submission_from_proto(request)
        check_job_submission(value)
        await self._requests.enter(caller.tenant, caller.key_id)
        return pb.SubmitJobResponse(job=_job(await self._jobs.submit(value, caller.tenant, caller.key_id)))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        tenant = self._job_tenant(request, context)
        return pb.GetJobResponse(job=_job(await self._jobs.get(request.job_id, tenant)))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        tenant = self._job_tenant(request, context)
        return pb.CancelJobResponse(job=_job(await self._jobs.cancel(request.job_id, tenant)))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        tenant = self._job_tenant(request, context)
        async with aclosing(self._jobs.watch(request.job_id, tenant)) as changes:
            async for job in changes:
                yield pb.WatchJobResponse(job=_job(job))

    async def SendFeedback(self, request: pb.SendFeedbackRequest, context: Context) -> pb.SendFeedbackResponse:
        caller = self._doorkeeper.admit(context, "feedback", request.tenant)
        if request.HasField("retry"):  # who may say what an answer was worth may not have another one made for it
            self._doorkeeper.admit(context, "complete", request.tenant)
        value = wire.feedback_from_proto(request)
        if value.retry is not None:
            value = replace(value, retry=replace(value.retry, tenant=caller.tenant))
        value = replace(value, tenant=caller.tenant)
        check_feedback(value)
        if self._feedback is None:
            raise Unavailable(public="feedback needs a ledger, and this configuration has none")
        await self._requests.enter(caller.tenant, caller.key_id)
        retried = await self._feedback.send(value, caller.key_id)
        return pb.SendFeedbackResponse(retried=None if retried is None else _completion(retried))

    def _job_tenant(
        self, request: pb.GetJobRequest | pb.CancelJobRequest | pb.WatchJobRequest, context: Context
    ) -> str:
        """Raises Unauthenticated, PermissionDenied, InvalidValue."""
        caller = self._doorkeeper.admit(context, "jobs", request.tenant)
        check_job_key(request.job_id, caller.tenant)
        return caller.tenant

    def _begin(self, request: pb.CompleteRequest, path: str, context: Context, scope: str) -> Run:
        """Raises Unauthenticated, PermissionDenied, WireError, InvalidValue."""
        caller = self._doorkeeper.admit(context, scope, request.tenant)
        value = replace(wire.completion_request_from_proto(request, path), tenant=caller.tenant)
        check_completion_request(value, path)
        return self._requests.begin(
            value,
            remaining_s=remaining_s(context, self._requests.deadline_s),
            trace_id=telemetry.current_trace_id(),
            key_id=caller.key_id,
        )

    def _finish_after(self, run: Run, context: Context) -> None:
        """Has the run finished once the last byte, or the error, has been handed to the network."""
        # Made now, while the server span is the current one: the store belongs to the request's trace.
        values = copy_context()

        def finish(_context: Context) -> None:
            self._metrics.ended(run)
            self._requests.finish(run, context=values)

        # The stubs name a class where any callable will do.
        context.add_done_callback(finish)  # type: ignore[arg-type]


def _completion(value: Completion) -> pb.Completion:
    return wire.completion_to_proto(replace(value, cache=disclosed(value.cache)))


def _job(value: Job) -> pb.Job:
    completion = value.completion
    if completion is not None:
        value = replace(value, completion=replace(completion, cache=disclosed(completion.cache)))
    return wire.job_to_proto(value)
