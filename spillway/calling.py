"""What both clients share: where to call and as whom, the messages, the errors, and how gRPC is to behave.

Nothing beyond grpcio, protobuf and googleapis-common-protos is imported.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc

from spillway.chat import ChatRequest, GenerationParams, Message, Role
from spillway.errors import InvalidRequestError, ServerError, error_for
from spillway.failure import Failure, read_failure
from spillway.routing import (
    AnswerDelta,
    Completion,
    CompletionRequest,
    Feedback,
    FeedbackKind,
    JobSubmission,
    RoutingOptions,
)
from spillway.v1 import orchestrator_pb2
from spillway.wire import (
    WireError,
    answer_delta_from_proto,
    completion_from_proto,
    completion_request_from_proto,
    completion_request_to_proto,
    feedback_to_proto,
    job_submission_to_proto,
)

__all__ = [
    "API_KEY_VARIABLE",
    "DEFAULT_TARGET",
    "MESSAGE_BYTES_MAX",
    "TARGET_VARIABLE",
    "TIMEOUT_S",
    "TLS_CA_VARIABLE",
    "TLS_CERT_VARIABLE",
    "TLS_KEY_VARIABLE",
    "TLS_NAME_VARIABLE",
    "WATCH_S",
    "Caller",
    "CallerError",
    "CredentialsError",
    "Metadata",
    "Progress",
    "Prompt",
    "channel_options",
    "credentials_of_environment",
    "grpc_target",
    "public_errors",
    "server_name_options",
]

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "SPILLWAY_TARGET"
API_KEY_VARIABLE = "SPILLWAY_API_KEY"
TLS_CA_VARIABLE = "SPILLWAY_TLS_CA"
TLS_CERT_VARIABLE = "SPILLWAY_TLS_CERT"
TLS_KEY_VARIABLE = "SPILLWAY_TLS_KEY"
TLS_NAME_VARIABLE = "SPILLWAY_TLS_SERVER_NAME"
TIMEOUT_S = 60.0
WATCH_S = 86_400.0
"""The longest that a job may take."""

# As the servers' default limit: long conversations and pictures fit, a runaway answer does not.
MESSAGE_BYTES_MAX = 8_388_608

Prompt = str | Sequence[Message] | CompletionRequest
"""A user's text, a conversation, or a whole request with everything that can be said in one."""

_WEB_SCHEMES = frozenset({"http", "https", "grpc", "grpcs"})

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
                # Together some 1.5 s: longer than a replica that ends says NOT_SERVING to the only caller it has.
                "maxAttempts": 5,
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


class CallerError(ValueError):
    """What a caller was given, or found in its environment, allows no call: an address, a key, a certificate."""


class CredentialsError(CallerError):
    """The environment names certificates that cannot be used."""


def grpc_target(target: str) -> str:
    """`target` as it is. Raises CallerError for the address of a web page, which gRPC would look up as a name."""
    scheme, found, rest = target.partition("://")
    if found and scheme.lower() in _WEB_SCHEMES:
        raise CallerError(f"the target {target} begins with {scheme}://; write {rest.rstrip('/')}, a gRPC address")
    return target


def credentials_of_environment() -> grpc.ChannelCredentials | None:
    """Of the PEM files that $SPILLWAY_TLS_CA (whom to believe), $SPILLWAY_TLS_CERT and $SPILLWAY_TLS_KEY name.

    None without the first: then there is no TLS. The other two may be missing together. Raises CredentialsError.
    """
    variables = (TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE)
    authority, certificate, key = (_file_of(name) for name in variables)
    if (certificate is None) is not (key is None) or (authority is None and key is not None):
        raise CredentialsError(
            f"TLS needs {TLS_CA_VARIABLE}; and {TLS_CERT_VARIABLE} and {TLS_KEY_VARIABLE}, or neither"
        )
    return None if authority is None else grpc.ssl_channel_credentials(authority, key, certificate)


def server_name_options() -> tuple[tuple[str, str], ...]:
    """For a TLS channel: the name in $SPILLWAY_TLS_SERVER_NAME is that which the certificate has to have."""
    name = os.environ.get(TLS_NAME_VARIABLE, "")
    return (("grpc.ssl_target_name_override", name),) if name else ()


def _file_of(variable: str) -> bytes | None:
    path = os.environ.get(variable, "")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialsError(f"the file of {variable} cannot be read: {error.strerror}") from None


class Caller:
    """What both clients share: where to call, as whom, for how long."""

    def __init__(
        self, target: str | None, timeout_s: float, tenant: str, metadata: Metadata, api_key: str | None
    ) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s}")
        self.target = grpc_target(target or os.environ.get(TARGET_VARIABLE, "") or DEFAULT_TARGET)
        self._timeout_s = timeout_s
        self._tenant = tenant
        key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise CallerError("the API key has characters that no key has")
        self._metadata: Metadata = (*metadata, ("authorization", f"Bearer {key}")) if key else metadata

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
        with _valid_text():
            return completion_request_to_proto(request)

    def _submission(
        self,
        prompt: Prompt,
        options: RoutingOptions | None,
        generation: GenerationParams | None,
        webhook_url: str,
        job_timeout_s: float | None,
    ) -> orchestrator_pb2.SubmitJobRequest:
        message = self._message(prompt, options, generation)
        with _valid_text():
            submission = JobSubmission(completion_request_from_proto(message), webhook_url, job_timeout_s)
            return job_submission_to_proto(submission)

    def _feedback(
        self, request_id: str, kind: FeedbackKind, comment: str, retry: Prompt | None, tenant: str | None
    ) -> orchestrator_pb2.SendFeedbackRequest:
        again = None if retry is None else completion_request_from_proto(self._message(retry, None, None))
        whose = self._tenant_of(tenant)
        with _valid_text():
            return feedback_to_proto(Feedback(request_id, whose, FeedbackKind(kind), comment, again))

    def _tenant_of(self, tenant: str | None) -> str:
        return self._tenant if tenant is None else tenant

    def _deadline_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s


class Progress:
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
def _valid_text() -> Iterator[None]:
    """Text that UTF-8 cannot carry is the caller's mistake."""
    try:
        yield
    except UnicodeEncodeError as error:
        message = "a text of the request is not valid Unicode (it has half of a surrogate pair)"
        raise InvalidRequestError(Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", message)) from error


@contextmanager
def public_errors(progress: Progress | None = None) -> Iterator[None]:
    """Turn what gRPC and the translation raise into RequestError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_for(read_failure(error), stream_begun=progress is not None and progress.begun) from error
    except WireError as error:
        message = "the answer is of a newer version than this client understands"
        raise ServerError(Failure(grpc.StatusCode.INTERNAL, message=message)) from error


def channel_options(message_bytes_max: int) -> tuple[tuple[str, str | int], ...]:
    """Of the clients' channels."""
    return (
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # What may be retried has to be kept; with the default of 256 KiB long conversations would get no retry.
        ("grpc.per_rpc_retry_buffer_size", message_bytes_max),
        # By default a server that was away for minutes is looked for only every two minutes. Here a replica that has
        # restarted is connected again before a call is sent for the last time: the next may restart at once.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # what one attempt may take, its name notwithstanding
        # A connection that died without a word is noticed within a minute while calls are under way.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    )
