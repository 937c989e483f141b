"""The errors that `spillway.Client` raises, split by whose fault it was and whether to try again.

    RequestError
    ├── InvalidRequestError       the request is wrong: mend it, do not retry
    ├── RefusedError              the request is well formed and cannot be served as asked: floor above ceiling, cost
    │                             ceiling, a pin that does not exist, a feature or entry that is not there; do not retry
    ├── DeadlineError             the time given ran out
    ├── UnavailableError          nothing could answer now: retry, after `failure.retry_after_s` when it is known
    │   └── InterruptedStreamError    a stream that had begun broke off; what was received is incomplete
    ├── CancelledCallError        given up on this side, e.g. the client was closed
    └── ServerError               a defect in Spillway; its logs have it

Promises: pure. A raw gRPC error never leaves the client; `error.failure` has all that the server said.
"""

from __future__ import annotations

import grpc

from spillway.failure import Failure

__all__ = [
    "CancelledCallError",
    "DeadlineError",
    "InterruptedStreamError",
    "InvalidRequestError",
    "RefusedError",
    "RequestError",
    "ServerError",
    "UnavailableError",
    "error_for",
]


class RequestError(Exception):
    """A request that got no answer; `failure` says why."""

    retryable = False

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        name = self.failure.reason or self.failure.code.name
        fields = "; ".join(f"{path}: {what}" for path, what in self.failure.violations)
        text = f"{name}: {self.failure.message}" if self.failure.message else name
        if self.failure.quota:
            text += f" (quota {self.failure.quota})"
        return f"{text} ({fields})" if fields else text


class InvalidRequestError(RequestError):
    """The request is wrong; `failure.violations` names the fields."""


class RefusedError(RequestError):
    """The request is well formed and cannot be served as asked."""


class DeadlineError(RequestError):
    """The time given ran out before an answer was accepted."""


class UnavailableError(RequestError):
    """Nothing could answer now; trying later may help."""

    retryable = True


class InterruptedStreamError(UnavailableError):
    """A stream that had begun broke off; what was received is incomplete and is never continued."""


class CancelledCallError(RequestError):
    """The call was given up on this side."""


class ServerError(RequestError):
    """A defect in Spillway."""


_BY_CODE: dict[grpc.StatusCode, type[RequestError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.NOT_FOUND: RefusedError,
    grpc.StatusCode.UNIMPLEMENTED: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
    grpc.StatusCode.UNAUTHENTICATED: RefusedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.ABORTED: UnavailableError,
    grpc.StatusCode.CANCELLED: CancelledCallError,
}
_BY_REASON: dict[str, type[RequestError]] = {
    "STREAM_INTERRUPTED": InterruptedStreamError,
}


def error_for(failure: Failure, *, stream_begun: bool = False) -> RequestError:
    """The error to raise for a failure. With `stream_begun`, a lost connection is an interrupted stream."""
    kind = _BY_REASON.get(failure.reason) or _BY_CODE.get(failure.code, ServerError)
    if failure.is_too_large:
        kind = InvalidRequestError
    if kind is UnavailableError and stream_begun:
        kind = InterruptedStreamError
    return kind(failure)
