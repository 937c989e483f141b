"""Errors on their way from a servicer to a caller."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from services.runtime import errors
from services.runtime.errors import SpillwayError, from_rpc_error
from services.runtime.interceptors import to_spillway_error
from spillway.failure import read_detail
from spillway.v1 import error_pb2, executor_pb2
from spillway.validation import InvalidValue, Violation
from spillway.wire import WireError

EVERY_KIND: tuple[SpillwayError, ...] = (
    errors.InvalidRequest([("chat.messages", "must have at least one message")]),
    errors.InvalidRequest(reason="MALFORMED_MESSAGE", public="the message cannot be read"),
    errors.FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan leaves no target"),
    errors.NotFound(),
    errors.NotImplementedYet("jobs"),
    errors.Overloaded(0.25),
    errors.Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5, detail="secret"),
    errors.Unavailable(),
    errors.DeadlineExceeded(detail="secret"),
    errors.Internal(detail="secret"),
    SpillwayError(
        grpc.StatusCode.UNAVAILABLE, "NO_MODEL_AVAILABLE", "none", metadata=[("attempts", "a1:PROVIDER_AUTH")]
    ),
)


def received(code: grpc.StatusCode, text: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> SpillwayError:
    return from_rpc_error(AioRpcError(code, Metadata(), Metadata(*metadata), text))


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_the_public_half_survives_the_wire_and_the_internal_half_does_not(error: SpillwayError) -> None:
    again = received(error.code, error.public, error.trailing_metadata())
    assert (again.code, again.reason, again.public) == (error.code, error.reason, error.public)
    assert (again.violations, again.retry_after_s) == (error.violations, error.retry_after_s)
    assert again.metadata == error.metadata
    assert again.detail == ""
    assert b"secret" not in repr(error.trailing_metadata()).encode()


def test_details_reach_the_service_that_called_and_go_no_further() -> None:
    error = errors.Unavailable("NO_MODEL_AVAILABLE", "no model could answer")
    error.details = (executor_pb2.FailedExecution(cost_nanousd=7),)
    rpc_error = AioRpcError(error.code, Metadata(), Metadata(*error.trailing_metadata()), error.public)
    found = executor_pb2.FailedExecution()
    assert read_detail(rpc_error, found)
    assert found.cost_nanousd == 7
    assert not read_detail(rpc_error, executor_pb2.Execution())
    assert from_rpc_error(rpc_error).details == ()


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_every_reason_is_one_of_the_contract(error: SpillwayError) -> None:
    assert error_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}") > 0


def test_every_reason_written_in_the_services_is_one_of_the_contract() -> None:
    """Second positional or `reason=` arguments of the error classes, wherever they are raised."""
    known = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}  # noqa: SIM118
    first = {"Unavailable", "FailedPrecondition"}
    for path in Path("services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            given: list[ast.expr] = []
            if name in first:
                given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "reason")]
            elif name == "SpillwayError":
                given = node.args[1:2]
            for argument in given:
                if isinstance(argument, ast.Constant):
                    assert argument.value in known, f"{path}:{node.lineno}"


def test_unavailable_tells_grpc_not_to_repeat_what_a_handler_has_seen() -> None:
    assert ("grpc-retry-pushback-ms", "-1") in errors.Unavailable().trailing_metadata()
    assert len(errors.Overloaded().trailing_metadata()) == 1


def test_an_error_stays_small_whatever_is_wrong() -> None:
    error = errors.InvalidRequest([(f"chat.messages[{i}]" + "x" * 10_000, "y" * 10_000) for i in range(1_000)])
    assert sum(len(key) + len(value) for key, value in error.trailing_metadata()) < 5 * 1024


@pytest.mark.parametrize("retry_after_s", [float("inf"), float("nan"), -1.0, 1e300])
def test_an_absurd_retry_time_makes_no_error_of_its_own(retry_after_s: float) -> None:
    again = received(
        grpc.StatusCode.UNAVAILABLE, "", errors.Unavailable(retry_after_s=retry_after_s).trailing_metadata()
    )
    assert again.retry_after_s is None or 0 <= again.retry_after_s <= 86_400


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to ipv4:10.0.0.7:1", "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 5)", "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit", "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", "OVERLOADED"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "NOT_IMPLEMENTED"),
        (grpc.StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>: 10.0.0.7", "INTERNAL"),
        (grpc.StatusCode.CANCELLED, "Locally cancelled", "INTERNAL"),
    ],
)
def test_what_grpc_itself_says_becomes_a_reason_with_constant_text(
    code: grpc.StatusCode, text: str, reason: str
) -> None:
    error = received(code, text)
    assert error.reason == reason
    assert error_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}") > 0
    assert text not in error.public
    assert "10.0.0.7" not in error.public
    assert text in error.detail or error.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "details", [b"", b"\xff\xff\xff", b"\x08\x00", errors.Internal().trailing_metadata()[0][1][:-3]]
)
def test_broken_status_details_are_as_good_as_none(details: bytes) -> None:
    error = received(grpc.StatusCode.UNAVAILABLE, "gone", [("grpc-status-details-bin", details)])
    assert error.reason == "SERVICE_UNAVAILABLE"


def test_details_of_another_domain_are_not_ours() -> None:
    foreign = errors.Internal().trailing_metadata()[0][1]
    assert isinstance(foreign, bytes)
    error = received(
        grpc.StatusCode.UNAVAILABLE,
        "x",
        [("grpc-status-details-bin", foreign.replace(b"spillway.dev", b"example.corp"))],
    )
    assert error.reason == "SERVICE_UNAVAILABLE"


def test_exceptions_become_errors_by_whose_fault_they_are() -> None:
    wire = to_spillway_error(WireError("a.b", "must be set"))
    assert (wire.reason, wire.violations) == ("INVALID_FIELD", (("a.b", "must be set"),))
    schema = to_spillway_error(InvalidValue([Violation("s", "is bad", "INVALID_SCHEMA")]))
    assert schema.reason == "INVALID_SCHEMA"
    both = to_spillway_error(InvalidValue([Violation("s", "is bad", "INVALID_SCHEMA"), Violation("t", "is bad")]))
    assert both.reason == "INVALID_FIELD"
    assert to_spillway_error(TimeoutError()).code is grpc.StatusCode.DEADLINE_EXCEEDED
    defect = to_spillway_error(ValueError("the prompt"))
    assert (defect.code, defect.public, defect.detail) == (grpc.StatusCode.INTERNAL, "internal error", "ValueError")
