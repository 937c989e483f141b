"""What a failed call says, read from its gRPC status and status details.

Promises: pure; never raises on details that are missing, foreign or damaged, but falls back to the status alone.
protos/spillway/v1/error.proto states the form of the details.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

__all__ = ["DETAILS_KEY", "ERROR_DOMAIN", "Failure", "read_detail", "read_failure"]

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "spillway.dev"
# grpc-core's own wording; it refuses such messages and metadata before any interceptor sees them.
_TOO_LARGE_TEXTS = ("larger than max", "metadata size exceeds")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed: gRPC status, machine-readable reason, public sentence.

    `reason` is a name of ErrorReason without its prefix; empty when Spillway did not answer, e.g. no connection.
    `violations` are (field path, what is wrong). `retry_after_s` is None when no time is known. `metadata` is what else
    Spillway says of the reason, sorted by key, e.g. ("attempts", "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN").
    """

    code: grpc.StatusCode
    reason: str = ""
    message: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def quota(self) -> str:
        """The budget or rate, by its name in the configuration, that refused the request; empty when none did."""
        return dict(self.metadata).get("quota", "")

    @property
    def is_too_large(self) -> bool:
        """Whether a message was larger than one side takes. gRPC refuses it by itself, without our details."""
        return self.reason == "MESSAGE_TOO_LARGE" or (
            self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and any(text in self.message for text in _TOO_LARGE_TEXTS)
        )


def read_failure(rpc_error: grpc.RpcError) -> Failure:
    """Read the error of a call made with `grpc` or `grpc.aio`."""
    reason = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s = None
    metadata: tuple[tuple[str, str], ...] = ()
    for detail in _details(rpc_error):
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        try:
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                reason = info.reason
                metadata = tuple(sorted(info.metadata.items()))
            elif detail.Unpack(bad_request):
                violations = tuple((found.field, found.description) for found in bad_request.field_violations)
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        except DecodeError:
            continue
    return Failure(
        code=rpc_error.code(),
        reason=reason,
        message=rpc_error.details() or "",
        violations=violations,
        retry_after_s=retry_after_s,
        metadata=metadata,
    )


def read_detail(rpc_error: grpc.RpcError, message: Message) -> bool:
    """Read the detail of `message`'s type into it; False when the error has none."""
    for detail in _details(rpc_error):
        try:
            if detail.Unpack(message):
                return True
        except DecodeError:
            return False
    return False


def _details(rpc_error: grpc.RpcError) -> Sequence[Any]:
    # grpc gives a tuple of pairs, grpc.aio its Metadata, which iterates as pairs; either may be None.
    metadata = cast("Iterable[tuple[str, str | bytes]] | None", rpc_error.trailing_metadata())
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                details: Sequence[Any] = status_pb2.Status.FromString(value).details
            except DecodeError:
                return ()
            return details
    return ()
