"""An orchestrator that knows one job, in the states that it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from spillway.routing import Job
from spillway.v1 import orchestrator_pb2 as pb
from spillway.v1 import orchestrator_pb2_grpc
from spillway.wire import job_to_proto

__all__ = ["FakeJobs"]


class FakeJobs(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Without states there is no such job."""

    def __init__(self) -> None:
        self.target = ""
        self.states: list[Job] = []
        self.asked: list[Any] = []

    def _job(self, request: Any, context: grpc.ServicerContext) -> pb.Job:
        self.asked.append(request)
        if not self.states:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such job")
        return job_to_proto(self.states[0])

    def SubmitJob(self, request: Any, context: grpc.ServicerContext) -> pb.SubmitJobResponse:  # noqa: N802
        return pb.SubmitJobResponse(job=self._job(request, context))

    def GetJob(self, request: Any, context: grpc.ServicerContext) -> pb.GetJobResponse:  # noqa: N802
        return pb.GetJobResponse(job=self._job(request, context))

    def CancelJob(self, request: Any, context: grpc.ServicerContext) -> pb.CancelJobResponse:  # noqa: N802
        return pb.CancelJobResponse(job=self._job(request, context))

    def WatchJob(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WatchJobResponse]:  # noqa: N802
        for state in self.states:
            yield pb.WatchJobResponse(job=job_to_proto(state))

    def _absent(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    Complete = StreamComplete = Explain = SendFeedback = _absent
