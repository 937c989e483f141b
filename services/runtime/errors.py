"""The errors of every service, by whose fault they are, and their form on the wire.

    SpillwayError
    ├── InvalidRequest        the caller's: do not retry
    ├── FailedPrecondition    the caller's and the configuration's together: do not retry
    ├── NotFound              the caller's
    ├── NotImplementedYet     ours, known: do not retry
    ├── Overloaded            nobody's: retry later
    ├── Unavailable           another process's: retry later
    ├── DeadlineExceeded      nobody's: the time ran out
    └── Internal              ours, a defect

Promises: an error has a public half (`code`, `reason`, `public`, `violations`, `retry_after_s`), made of constant text
and field paths, and an internal half (`detail`) that only logs see. `reason` is a name of spillway.v1.ErrorReason
without its prefix. On the wire it is a google.rpc.Status in `grpc-status-details-bin`, as
protos/spillway/v1/error.proto says.
"""
# ruff: noqa: N818 - the names say whose fault it was; every one of them is an error

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from spillway.wire import duration_from_proto, duration_to_proto

__all__ = [
    "ERROR_DOMAIN",
    "VIOLATIONS_MAX",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidRequest",
    "NotFound",
    "NotImplementedYet",
    "Overloaded",
    "SpillwayError",
    "Unavailable",
    "from_rpc_error",
]

ERROR_DOMAIN: Final = "spillway.dev"
# A client refuses trailing metadata above 8 KiB by default; these bounds keep an error below 5 KiB.
VIOLATIONS_MAX: Final = 12
_VIOLATION_CHARS_MAX: Final = 128
_DETAILS_KEY: Final = "grpc-status-details-bin"
# A longer wait than this is no advice.
_RETRY_AFTER_S_MAX: Final = 86_400.0
# grpc-core's own wording; it refuses such messages and metadata before any interceptor sees them.
_TOO_LARGE_TEXTS: Final = ("larger than max", "metadata size exceeds")
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

Violations = tuple[tuple[str, str], ...]


class SpillwayError(Exception):
    """An error with a public and an internal half. `violations` are (field path, what is wrong with it)."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        public: str,
        *,
        detail: str = "",
        violations: Iterable[tuple[str, str]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code.name} {reason}: {public}")
        self.code = code
        self.reason = reason
        self.public = public
        self.detail = detail
        self.violations: Violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The status details; and, for UNAVAILABLE, the word to gRPC's own retry to keep still.

        A handler that says UNAVAILABLE has already tried what can be tried; only calls that no handler has seen are
        for the channel to repeat.
        """
        status = Status(code=self.code.value[0], message=self.public)
        _pack(status, error_details_pb2.ErrorInfo(reason=self.reason, domain=ERROR_DOMAIN))
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
        details: tuple[str, str | bytes] = (_DETAILS_KEY, status.SerializeToString())
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

    An error that a Spillway service made keeps its code, reason, public text, violations and retry time. What gRPC
    itself says (addresses, sizes) becomes `detail`, behind constant public text.
    """
    call = error if isinstance(error, grpc.aio.AioRpcError) else None
    code = call.code() if call is not None else grpc.StatusCode.UNKNOWN
    text = (call.details() or "") if call is not None else type(error).__name__
    metadata = call.trailing_metadata() if call is not None else None
    known = _from_details(tuple(metadata) if metadata is not None else ())
    return known if known is not None else _from_code(code, text)


def _from_code(code: grpc.StatusCode, text: str) -> SpillwayError:
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(detail=text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(detail=text)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if any(known in text for known in _TOO_LARGE_TEXTS):
            return SpillwayError(code, "MESSAGE_TOO_LARGE", "the message is too large", detail=text)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(detail=text)
        case grpc.StatusCode.UNIMPLEMENTED:
            return NotImplementedYet("the method")
        case _:
            return Internal(detail=f"{code.name}: {text}")


def _from_details(metadata: Sequence[tuple[str, str | bytes]]) -> SpillwayError | None:
    """The error in the status details; None when there is none of ours."""
    raw = next((value for key, value in metadata if key == _DETAILS_KEY), None)
    if not isinstance(raw, bytes):
        return None
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    try:
        status = Status.FromString(raw)
        found = {message.DESCRIPTOR.name for message in (info, bad, retry) if _unpack(status.details, message)}
    except DecodeError:
        return None
    code = _CODES.get(status.code)
    if info.domain != ERROR_DOMAIN or code is None or code is grpc.StatusCode.OK:
        return None
    return SpillwayError(
        code,
        info.reason,
        status.message,
        violations=[(violation.field, violation.description) for violation in bad.field_violations],
        retry_after_s=duration_from_proto(retry.retry_delay) if "RetryInfo" in found else None,
    )


def _pack(status: Status, message: Message) -> None:
    packed = AnyMessage()
    packed.Pack(message)
    status.details.append(packed)


def _unpack(details: Iterable[AnyMessage], message: Message) -> bool:
    """Fills `message` from the first detail of its type."""
    return any(detail.Unpack(message) for detail in details)
