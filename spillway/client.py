"""Calls Spillway: `Client` for threads, `AsyncClient` for asyncio. Both do the same and share everything but the I/O.

Promises: every call has a deadline; only UNAVAILABLE is retried, by gRPC itself, within the deadline, throttled so that
an outage is not multiplied; a retry carries the same request id, which is made once, here; a stream that has begun is
never retried. Errors are `spillway.errors.RequestError`; a raw gRPC error never leaves this module. Nothing beyond
grpcio, protobuf and googleapis-common-protos is imported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from spillway.calling import (
    API_KEY_VARIABLE,
    DEFAULT_TARGET,
    MESSAGE_BYTES_MAX,
    TARGET_VARIABLE,
    TIMEOUT_S,
    WATCH_S,
    Caller,
    Metadata,
    Progress,
    Prompt,
    channel_options,
    credentials_of_environment,
    public_errors,
    server_name_options,
)
from spillway.chat import GenerationParams
from spillway.errors import RequestError
from spillway.routing import AnswerDelta, Completion, Explanation, FeedbackKind, Job, RoutingOptions
from spillway.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from spillway.wire import completion_from_proto, explanation_from_proto, job_from_proto

__all__ = [
    "API_KEY_VARIABLE",
    "DEFAULT_TARGET",
    "TARGET_VARIABLE",
    "AsyncClient",
    "Client",
    "Prompt",
    "RequestError",
]


class Client(Caller):
    """A client for threads; thread-safe. Close it, or use it as a context manager.

    `target` is a gRPC target such as "dns:///spillway:50051"; None means $SPILLWAY_TARGET, else 127.0.0.1:50051.
    `timeout_s` is the total time of a call, retries and escalations included. `tenant` is that of requests that name
    none. `api_key` goes with every call as "authorization: Bearer KEY"; None means $SPILLWAY_API_KEY, "" means none.
    `metadata` goes with every call too, e.g. a traceparent. `credentials` make the connection a TLS one; None means
    those of $SPILLWAY_TLS_CA, $SPILLWAY_TLS_CERT and $SPILLWAY_TLS_KEY, and without these everything, the key included,
    travels in the clear. Connecting happens at the first call. Raises ValueError for arguments or variables that cannot
    be used.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tenant: str = "",
        api_key: str | None = None,
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        super().__init__(target, timeout_s, tenant, metadata, api_key)
        options = channel_options(message_bytes_max)
        credentials = credentials or credentials_of_environment()
        if credentials is None:
            self._channel = grpc.insecure_channel(self.target, options)
        else:
            self._channel = grpc.secure_channel(self.target, credentials, (*options, *server_name_options()))
        self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self._channel)

    def complete(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> Completion:
        """Answer one request. `options` and `generation` replace those of a CompletionRequest. Raises RequestError."""
        message = self._message(prompt, options, generation)
        with public_errors():
            response = self._stub.Complete(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return completion_from_proto(response.completion)

    def stream(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[AnswerDelta | Completion]:
        """Answer one request piece by piece; the Completion comes last and repeats the whole answer.

        `timeout_s` bounds the whole stream. Leaving the iterator cancels the call. Raises RequestError while iterating,
        InterruptedStreamError once a piece has been received.
        """
        message = orchestrator_pb2.StreamCompleteRequest(request=self._message(prompt, options, generation))
        call = self._stub.StreamComplete(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
        progress = Progress()
        try:
            with public_errors(progress):
                for response in call:
                    yield progress.event(response)
                progress.check_ended()
        finally:
            call.cancel()

    def explain(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> Explanation:
        """What would be done with a request, and why; no model is called. Raises RequestError."""
        message = orchestrator_pb2.ExplainRequest(request=self._message(prompt, options, generation))
        with public_errors():
            return explanation_from_proto(
                self._stub.Explain(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            )

    def submit_job(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        webhook_url: str = "",
        job_timeout_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Queue long work; returns as soon as it is kept.

        `webhook_url` (https) is told of the job's end, signed as Standard Webhooks says. The job may take
        `job_timeout_s` from now on, waiting included, at most a day. A CompletionRequest with a request id of its own
        may be submitted again: the same job comes back. Raises RequestError.
        """
        message = self._submission(prompt, options, generation, webhook_url, job_timeout_s)
        with public_errors():
            response = self._stub.SubmitJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    def get_job(self, job_id: str, *, tenant: str | None = None, timeout_s: float | None = None) -> Job:
        """A job as it is now, with its completion once it has SUCCEEDED.

        `tenant` None is the client's. Raises RequestError; RefusedError (NOT_FOUND) for a job of somebody else, and for
        one that is forgotten.
        """
        message = orchestrator_pb2.GetJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        with public_errors():
            response = self._stub.GetJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    def cancel_job(self, job_id: str, *, tenant: str | None = None, timeout_s: float | None = None) -> Job:
        """Stop a job; the job afterwards. One that has ended stays as it ended. Raises RequestError as `get_job`."""
        message = orchestrator_pb2.CancelJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        with public_errors():
            response = self._stub.CancelJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    def watch_job(self, job_id: str, *, tenant: str | None = None, timeout_s: float = WATCH_S) -> Iterator[Job]:
        """The job now, and after every change until it has ended.

        `timeout_s` bounds the whole of it. Leaving the iterator ends the watching, not the job. Raises RequestError
        while iterating; InterruptedStreamError when the connection was lost: then watch again.
        """
        message = orchestrator_pb2.WatchJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        call = self._stub.WatchJob(message, timeout=timeout_s, metadata=self._metadata)
        progress = Progress()
        try:
            with public_errors(progress):
                for response in call:
                    progress.begun = True
                    yield job_from_proto(response.job)
        finally:
            call.cancel()

    def send_feedback(
        self,
        request_id: str,
        kind: FeedbackKind,
        *,
        comment: str = "",
        retry: Prompt | None = None,
        tenant: str | None = None,
        timeout_s: float | None = None,
    ) -> Completion | None:
        """Say what a person made of the answer to a request: `request_id` is the completion's.

        With `retry`, the same request again, the flagship answers it now, and its answer is returned; else None. Of a
        job's answer, the request id is the job's id. Raises RequestError.
        """
        message = self._feedback(request_id, kind, comment, retry, tenant)
        with public_errors():
            response = self._stub.SendFeedback(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return completion_from_proto(response.retried) if response.HasField("retried") else None

    def close(self) -> None:
        """Close the connection; calls under way end with CancelledCallError."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Caller):
    """A client for asyncio: as `Client`, for the event loop in which it was made."""

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tenant: str = "",
        api_key: str | None = None,
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        super().__init__(target, timeout_s, tenant, metadata, api_key)
        options = channel_options(message_bytes_max)
        credentials = credentials or credentials_of_environment()
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self.target, options)
        else:
            self._channel = grpc.aio.secure_channel(self.target, credentials, (*options, *server_name_options()))
        self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self._channel)

    async def complete(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> Completion:
        """As `Client.complete`. Cancelling the task cancels the call."""
        message = self._message(prompt, options, generation)
        with public_errors():
            response = await self._stub.Complete(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return completion_from_proto(response.completion)

    async def stream(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[AnswerDelta | Completion]:
        """As `Client.stream`."""
        message = orchestrator_pb2.StreamCompleteRequest(request=self._message(prompt, options, generation))
        call = self._stub.StreamComplete(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
        progress = Progress()
        try:
            with public_errors(progress):
                async for response in call:
                    yield progress.event(response)
                progress.check_ended()
        finally:
            call.cancel()

    async def explain(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        timeout_s: float | None = None,
    ) -> Explanation:
        """As `Client.explain`."""
        message = orchestrator_pb2.ExplainRequest(request=self._message(prompt, options, generation))
        with public_errors():
            return explanation_from_proto(
                await self._stub.Explain(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            )

    async def submit_job(
        self,
        prompt: Prompt,
        *,
        options: RoutingOptions | None = None,
        generation: GenerationParams | None = None,
        webhook_url: str = "",
        job_timeout_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """As `Client.submit_job`."""
        message = self._submission(prompt, options, generation, webhook_url, job_timeout_s)
        with public_errors():
            response = await self._stub.SubmitJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    async def get_job(self, job_id: str, *, tenant: str | None = None, timeout_s: float | None = None) -> Job:
        """As `Client.get_job`."""
        message = orchestrator_pb2.GetJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        with public_errors():
            response = await self._stub.GetJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    async def cancel_job(self, job_id: str, *, tenant: str | None = None, timeout_s: float | None = None) -> Job:
        """As `Client.cancel_job`."""
        message = orchestrator_pb2.CancelJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        with public_errors():
            response = await self._stub.CancelJob(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            return job_from_proto(response.job)

    async def watch_job(
        self, job_id: str, *, tenant: str | None = None, timeout_s: float = WATCH_S
    ) -> AsyncIterator[Job]:
        """As `Client.watch_job`."""
        message = orchestrator_pb2.WatchJobRequest(job_id=job_id, tenant=self._tenant_of(tenant))
        call = self._stub.WatchJob(message, timeout=timeout_s, metadata=self._metadata)
        progress = Progress()
        try:
            with public_errors(progress):
                async for response in call:
                    progress.begun = True
                    yield job_from_proto(response.job)
        finally:
            call.cancel()

    async def send_feedback(
        self,
        request_id: str,
        kind: FeedbackKind,
        *,
        comment: str = "",
        retry: Prompt | None = None,
        tenant: str | None = None,
        timeout_s: float | None = None,
    ) -> Completion | None:
        """As `Client.send_feedback`."""
        message = self._feedback(request_id, kind, comment, retry, tenant)
        with public_errors():
            response = await self._stub.SendFeedback(
                message, timeout=self._deadline_s(timeout_s), metadata=self._metadata
            )
            return completion_from_proto(response.retried) if response.HasField("retried") else None

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
