"""Calls Spillway: `Client` for threads, `AsyncClient` for asyncio. Both do the same and share everything but the I/O.

Promises: every call has a deadline; only UNAVAILABLE is retried, by gRPC itself, within the deadline, throttled so that
an outage is not multiplied; a retry carries the same request id, which is made once, here; a stream that has begun is
never retried. Errors are `spillway.errors.RequestError`; a raw gRPC error never leaves this module. Nothing beyond
grpcio, protobuf and googleapis-common-protos is imported.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from spillway.chat import ChatRequest, GenerationParams, Message, Role
from spillway.errors import InvalidRequestError, RequestError, ServerError, error_for
from spillway.failure import Failure, read_failure
from spillway.routing import AnswerDelta, Completion, CompletionRequest, Explanation, RoutingOptions
from spillway.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from spillway.wire import (
    WireError,
    answer_delta_from_proto,
    completion_from_proto,
    completion_request_to_proto,
    explanation_from_proto,
)

__all__ = ["DEFAULT_TARGET", "TARGET_VARIABLE", "AsyncClient", "Client", "Prompt", "RequestError"]

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "SPILLWAY_TARGET"
TIMEOUT_S = 60.0
# As the servers' default limit: long conversations and pictures fit, a runaway answer does not.
MESSAGE_BYTES_MAX = 8_388_608

Prompt = str | Sequence[Message] | CompletionRequest
"""A user's text, a conversation, or a whole request with everything that can be said in one."""

Metadata = tuple[tuple[str, str | bytes], ...]

_SERVICE = "spillway.v1.OrchestratorService"
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # A replica that drains says NOT_SERVING first, and gets no new calls.
    "healthCheckConfig": {"serviceName": _SERVICE},
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # 200 calls under way may be lost with a server at once, each to be retried. A failure takes a token, a success
    # gives one back, and with half of them gone nothing is retried: an outage of 2,000 calls is 1.08 times the traffic.
    "retryThrottling": {"maxTokens": 400, "tokenRatio": 1.0},
}


class _Caller:
    """What both clients share: where to call, as whom, for how long."""

    def __init__(self, target: str | None, timeout_s: float, tenant: str, metadata: Metadata) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s}")
        self.target = target or os.environ.get(TARGET_VARIABLE, "") or DEFAULT_TARGET
        self._timeout_s = timeout_s
        self._tenant = tenant
        self._metadata = metadata

    def _message(
        self, prompt: Prompt, options: RoutingOptions | None, generation: GenerationParams | None
    ) -> orchestrator_pb2.CompleteRequest:
        if isinstance(prompt, CompletionRequest):
            request = prompt
        else:
            messages = (Message.of(Role.USER, prompt),) if isinstance(prompt, str) else tuple(prompt)
            request = CompletionRequest(ChatRequest(messages))
        if options is not None:
            request = replace(request, options=options)
        if generation is not None:
            request = replace(request, chat=replace(request.chat, generation=generation))
        request = replace(
            request, request_id=request.request_id or uuid.uuid4().hex, tenant=request.tenant or self._tenant
        )
        try:
            return completion_request_to_proto(request)
        except UnicodeEncodeError as error:
            message = "a text of the request is not valid Unicode (it has half of a surrogate pair)"
            raise InvalidRequestError(Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", message)) from error

    def _deadline_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


class Client(_Caller):
    """A client for threads; thread-safe. Close it, or use it as a context manager.

    `target` is a gRPC target such as "dns:///spillway:50051"; None means $SPILLWAY_TARGET, else 127.0.0.1:50051.
    `timeout_s` is the total time of a call, retries and escalations included. `tenant` is that of requests that name
    none. `metadata` goes with every call, e.g. a traceparent. `credentials` make the connection a TLS one. Connecting
    happens at the first call.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tenant: str = "",
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        super().__init__(target, timeout_s, tenant, metadata)
        options = _channel_options(message_bytes_max)
        if credentials is None:
            self._channel = grpc.insecure_channel(self.target, options)
        else:
            self._channel = grpc.secure_channel(self.target, credentials, options)
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
        with _public_errors():
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
        progress = _Progress()
        try:
            with _public_errors(progress):
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
        with _public_errors():
            return explanation_from_proto(
                self._stub.Explain(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            )

    def close(self) -> None:
        """Close the connection; calls under way end with CancelledCallError."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Caller):
    """A client for asyncio: as `Client`, for the event loop in which it was made."""

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tenant: str = "",
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        super().__init__(target, timeout_s, tenant, metadata)
        options = _channel_options(message_bytes_max)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self.target, options)
        else:
            self._channel = grpc.aio.secure_channel(self.target, credentials, options)
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
        with _public_errors():
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
        progress = _Progress()
        try:
            with _public_errors(progress):
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
        with _public_errors():
            return explanation_from_proto(
                await self._stub.Explain(message, timeout=self._deadline_s(timeout_s), metadata=self._metadata)
            )

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class _Progress:
    """How far a stream has come."""

    def __init__(self) -> None:
        self.begun = False
        self._ended = False

    def event(self, response: orchestrator_pb2.StreamCompleteResponse) -> AnswerDelta | Completion:
        self.begun = True
        if response.WhichOneof("event") == "completion":
            self._ended = True
            return completion_from_proto(response.completion)
        return answer_delta_from_proto(response.delta)

    def check_ended(self) -> None:
        """A stream without its Completion is no answer, even when the server closed it as if all were well."""
        if not self._ended:
            message = "the stream ended without a completion"
            raise ServerError(Failure(grpc.StatusCode.INTERNAL, message=message))


@contextmanager
def _public_errors(progress: _Progress | None = None) -> Iterator[None]:
    """Turn what gRPC and the translation raise into RequestError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_for(read_failure(error), stream_begun=progress is not None and progress.begun) from error
    except WireError as error:
        message = "the answer is of a newer version than this client understands"
        raise ServerError(Failure(grpc.StatusCode.INTERNAL, message=message)) from error


def _channel_options(message_bytes_max: int) -> tuple[tuple[str, str | int], ...]:
    return (
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # What may be retried has to be kept; with the default of 256 KiB long conversations would get no retry.
        ("grpc.per_rpc_retry_buffer_size", message_bytes_max),
        # By default a server that was away for minutes is looked for only every two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A connection that died without a word is noticed within a minute while calls are under way.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    )
