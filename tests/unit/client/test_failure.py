"""Reading what a failed call says, from whatever status details it carries."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from spillway.errors import (
    CancelledCallError,
    DeadlineError,
    InterruptedStreamError,
    InvalidRequestError,
    RefusedError,
    RequestError,
    ServerError,
    UnavailableError,
    error_for,
)
from spillway.failure import DETAILS_KEY, Failure, read_failure


def rpc_error(code: grpc.StatusCode, message: str, raw: bytes | None) -> grpc.aio.AioRpcError:
    pairs: list[tuple[str, str | bytes]] = [] if raw is None else [("other", "x"), (DETAILS_KEY, raw)]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*pairs), message)


def details(*messages: Message) -> bytes:
    status = status_pb2.Status()
    for message in messages:
        status.details.add().Pack(message)
    return bytes(status.SerializeToString())


def test_reason_violations_and_retry_time_are_read() -> None:
    raw = details(
        error_details_pb2.ErrorInfo(domain="spillway.dev", reason="INVALID_FIELD"),
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="chat.messages", description="empty")]
        ),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
    )
    assert read_failure(rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "invalid", raw)) == Failure(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "invalid", (("chat.messages", "empty"),), 2.5
    )


def test_a_reason_of_another_domain_is_not_ours() -> None:
    raw = details(error_details_pb2.ErrorInfo(domain="example.org", reason="OTHER"))
    assert read_failure(rpc_error(grpc.StatusCode.UNAVAILABLE, "x", raw)).reason == ""


def test_what_else_is_said_of_the_reason_is_read_when_it_is_ours() -> None:
    said = {"b": "2", "attempts": "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN"}
    for domain, metadata in (
        ("spillway.dev", (("attempts", "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN"), ("b", "2"))),
        ("example.org", ()),
    ):
        raw = details(error_details_pb2.ErrorInfo(domain=domain, reason="NO_MODEL_AVAILABLE", metadata=said))
        assert read_failure(rpc_error(grpc.StatusCode.UNAVAILABLE, "x", raw)).metadata == metadata


def test_an_error_names_the_quota_that_refused() -> None:
    quota = (("quota", "acme-daily"), ("zone", "x"))
    failure = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED", "too little is left", metadata=quota)
    assert failure.quota == "acme-daily"
    assert str(error_for(failure)) == "BUDGET_EXHAUSTED: too little is left (quota acme-daily)"
    assert Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED").quota == ""


def test_no_details_leave_the_status() -> None:
    failure = read_failure(rpc_error(grpc.StatusCode.UNAVAILABLE, "no connection", None))
    assert failure == Failure(grpc.StatusCode.UNAVAILABLE, message="no connection")


@given(st.binary(max_size=200))
def test_no_bytes_in_the_details_can_break_the_reading(raw: bytes) -> None:
    failure = read_failure(rpc_error(grpc.StatusCode.INTERNAL, "internal error", raw))
    assert failure.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", InvalidRequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", InvalidRequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", UnavailableError),
        (grpc.StatusCode.FAILED_PRECONDITION, "COST_CEILING", RefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", RefusedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", DeadlineError),
        (grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", UnavailableError),
        (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED", InterruptedStreamError),
        (grpc.StatusCode.CANCELLED, "", CancelledCallError),
        (grpc.StatusCode.INTERNAL, "INTERNAL", ServerError),
        (grpc.StatusCode.UNKNOWN, "", ServerError),
    ],
)
def test_errors_are_split_by_whose_fault_it_was(code: grpc.StatusCode, reason: str, kind: type[RequestError]) -> None:
    assert type(error_for(Failure(code, reason))) is kind


def test_only_unavailable_ones_are_worth_a_retry() -> None:
    assert error_for(Failure(grpc.StatusCode.UNAVAILABLE)).retryable
    assert not error_for(Failure(grpc.StatusCode.INVALID_ARGUMENT)).retryable


def test_a_connection_lost_in_a_stream_is_an_interrupted_stream() -> None:
    assert type(error_for(Failure(grpc.StatusCode.UNAVAILABLE), stream_begun=True)) is InterruptedStreamError


def test_an_error_reads_as_a_sentence() -> None:
    failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "a field is invalid", (("chat", "missing"),))
    assert str(error_for(failure)) == "INVALID_FIELD: a field is invalid (chat: missing)"
