"""The errors that every service has, by whose fault they are, and the form of all errors on the wire.

    SpillwayError
    ├── InvalidRequest        the caller's: do not retry
    ├── FailedPrecondition    the caller's and the configuration's together: do not retry
    ├── Unauthenticated       the caller's: do not retry with the same key
    ├── PermissionDenied      the caller's: the key does not allow it
    ├── NotFound              the caller's
    ├── NotImplementedYet     ours, known: do not retry
    ├── Overloaded            nobody's: retry later
    ├── Unavailable           another process's: retry later
    ├── DeadlineExceeded      nobody's: the time ran out
    └── Internal              ours, a defect

Promises: an error has a public half (`code`, `reason`, `public`, `violations`, `retry_after_s`, `metadata`), made of
constant text, field paths and names of the configuration, and an internal half (`detail`) that only logs see.
`details` are further messages for the service that called, and go no further than to it. `reason` is a name of
spillway.v1.ErrorReason without its prefix. On the wire it is a google.rpc.Status in `grpc-status-details-bin`, as
protos/spillway/v1/error.proto says.
"""
# ruff: noqa: N818 - the names say whose fault it was; every one of them is an error

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from spillway.failure import DETAILS_KEY, ERROR_DOMAIN, Failure, read_failure
from spillway.v1 import error_pb2
from spillway.wire import duration_to_proto

__all__ = [
    "ERROR_DOMAIN",
    "REASONS",
    "VIOLATIONS_MAX",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidRequest",
    "NotFound",
    "NotImplementedYet",
    "Overloaded",
    "PermissionDenied",
    "SpillwayError",
    "Unauthenticated",
    "Unavailable",
    "from_rpc_error",
]

# A client refuses trailing metadata above 8 KiB by default; these bounds, and those of
# `metadata` and `details`, of which no error has both together with violations, keep an error below 6 KiB.
VIOLATIONS_MAX: Final = 12
_VIOLATION_CHARS_MAX: Final = 128
REASONS: Final = frozenset(name.removeprefix("ERROR_REASON_") for name, _ in error_pb2.ErrorReason.items())
"""All that `reason` can be: a bounded set, as labels need it."""
# A longer wait than this is no advice.
_RETRY_AFTER_S_MAX: Final = 86_400.0
_NOT_LET_IN: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

Violations = tuple[tuple[str, str], ...]


class SpillwayError(Exception):
    """An error with a public and an internal half. `violations` are (field path, what is wrong with it).

    `metadata` are (key, value), at most 1 KiB of them; `details` may take 4 KiB.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        public: str,
        *,
        detail: str = "",
        violations: Iterable[tuple[str, str]] = (),
        retry_after_s: float | None = None,
        metadata: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"{code.name} {reason}: {public}")
        self.code = code
        self.reason = reason
        self.public = public
        self.detail = detail
        self.violations: Violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.metadata = tuple(metadata)
        self.details: tuple[Message, ...] = ()

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The status details; and, for UNAVAILABLE, the word to gRPC's own retry to keep still.

        A handler that says UNAVAILABLE has already tried what can be tried; only calls that no handler has seen are
        for the channel to repeat.
        """
        status = Status(code=self.code.value[0], message=self.public)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=ERROR_DOMAIN, metadata=dict(self.metadata))
        _pack(status, info)
        if self.violations:
            fields = [
                error_details_pb2.BadRequest.FieldViolation(
                    field=path[:_VIOLATION_CHARS_MAX], description=message[:_VIOLATION_CHARS_MAX]
                )
                for path, message in self.violations[:VIOLATIONS_MAX]
            ]
            _pack(status, error_details_pb2.BadRequest(field_violations=fields))
        if self.retry_after_s is not None and math.isfinite(self.retry_after_s):
            retry_after_s = min(max(self.retry_after_s, 0.0), _RETRY_AFTER_S_MAX)
            _pack(status, error_details_pb2.RetryInfo(retry_delay=duration_to_proto(retry_after_s)))
        for message in self.details:
            _pack(status, message)
        details: tuple[str, str | bytes] = (DETAILS_KEY, status.SerializeToString())
        if self.code is grpc.StatusCode.UNAVAILABLE:
            return (details, ("grpc-retry-pushback-ms", "-1"))
        return (details,)


class InvalidRequest(SpillwayError):
    """The request itself is wrong; `violations` say where."""

    def __init__(
        self,
        violations: Iterable[tuple[str, str]] = (),
        *,
        reason: str = "INVALID_FIELD",
        public: str = "the request has invalid fields",
        detail: str = "",
    ) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, reason, public, detail=detail, violations=violations)


class FailedPrecondition(SpillwayError):
    """The request is well formed, but the configuration or a provider does not allow it."""

    def __init__(self, reason: str, public: str, *, detail: str = "") -> None:
        super().__init__(grpc.StatusCode.FAILED_PRECONDITION, reason, public, detail=detail)


class Unauthenticated(SpillwayError):
    """A key is needed, and there is none that is good. Why it is not good is for the log alone."""

    def __init__(self, *, detail: str = "") -> None:
        public = "a valid API key is needed"
        super().__init__(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", public, detail=detail)


class PermissionDenied(SpillwayError):
    """The key is good, but not for this."""

    def __init__(self, public: str = "the API key does not allow this", *, detail: str = "") -> None:
        super().__init__(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", public, detail=detail)


class NotFound(SpillwayError):
    """There is no such thing."""

    def __init__(self, public: str = "not found", *, detail: str = "") -> None:
        super().__init__(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", public, detail=detail)


class NotImplementedYet(SpillwayError):
    """`what`, a constant, is not part of this version."""

    def __init__(self, what: str) -> None:
        super().__init__(grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", f"{what} is not part of this version")


class Overloaded(SpillwayError):
    """A limit of this process is reached."""

    def __init__(self, retry_after_s: float | None = None, *, detail: str = "") -> None:
        super().__init__(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
            "the server is at its concurrency limit",
            detail=detail,
            retry_after_s=retry_after_s,
        )


class Unavailable(SpillwayError):
    """Something that cannot be done without does not answer."""

    def __init__(
        self,
        reason: str = "SERVICE_UNAVAILABLE",
        public: str = "a service that is needed does not answer",
        retry_after_s: float | None = None,
        *,
        detail: str = "",
    ) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, reason, public, detail=detail, retry_after_s=retry_after_s)


class DeadlineExceeded(SpillwayError):
    """The time ran out."""

    def __init__(self, public: str = "the time ran out before an answer was there", *, detail: str = "") -> None:
        super().__init__(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", public, detail=detail)


class Internal(SpillwayError):
    """A defect. The public text is constant; `detail` goes to the log."""

    def __init__(self, *, detail: str = "") -> None:
        super().__init__(grpc.StatusCode.INTERNAL, "INTERNAL", "internal error", detail=detail)


def from_rpc_error(error: grpc.RpcError) -> SpillwayError:
    """What a failed call means, for the caller of the caller.

    An error that a Spillway service made keeps its code, reason, public text, violations, retry time and metadata. What
    gRPC itself says (addresses, sizes) becomes `detail`, behind constant public text. A service that does not let
    another in (`tls.callers`) is INTERNAL: the installation is wrong, not who called.
    """
    if not isinstance(error, grpc.aio.AioRpcError):
        return Internal(detail=f"UNKNOWN: {type(error).__name__}")
    failure = read_failure(error)
    if not failure.reason or failure.code in _NOT_LET_IN:
        return _from_code(failure)
    return SpillwayError(
        failure.code,
        failure.reason,
        failure.message,
        violations=failure.violations,
        retry_after_s=failure.retry_after_s,
        metadata=failure.metadata,
    )


def _from_code(failure: Failure) -> SpillwayError:
    """What gRPC itself says, behind constant public text."""
    match failure.code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(detail=failure.message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(detail=failure.message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if failure.is_too_large:
            return SpillwayError(failure.code, "MESSAGE_TOO_LARGE", "the message is too large", detail=failure.message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(detail=failure.message)
        case grpc.StatusCode.UNIMPLEMENTED:
            return NotImplementedYet("the method")
        case _:
            return Internal(detail=f"{failure.code.name}: {failure.message}")


def _pack(status: Status, message: Message) -> None:
    packed = AnyMessage()
    packed.Pack(message)
    status.details.append(packed)
