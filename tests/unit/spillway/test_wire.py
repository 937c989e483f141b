"""What cannot be translated says where it stands; what need not be set is a default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from spillway import wire
from spillway.chat import ChatRequest, FinishReason, FormatKind, ToolChoiceMode
from spillway.routing import CompletionRequest, Normalizer, RoutingOptions, Strategy
from spillway.v1 import chat_pb2, executor_pb2, orchestrator_pb2
from spillway.wire import fields

UNKNOWN = 99


def _user(**fields: object) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, **fields)  # type: ignore[arg-type]


def _request(**fields: object) -> orchestrator_pb2.CompleteRequest:
    return orchestrator_pb2.CompleteRequest(**fields)  # type: ignore[arg-type]


CASES: dict[str, Callable[[], object]] = {
    "chat.messages[1].role": lambda: wire.completion_request_from_proto(
        _request(chat=chat_pb2.ChatRequest(messages=[_user(), chat_pb2.ChatMessage()]))
    ),
    "chat.messages[0].role": lambda: wire.chat_request_from_proto(
        chat_pb2.ChatRequest(messages=[chat_pb2.ChatMessage(role=UNKNOWN)])  # type: ignore[arg-type]
    ),
    "request.chat.messages[0].parts[0]": lambda: wire.completion_request_from_proto(
        _request(chat=chat_pb2.ChatRequest(messages=[_user(parts=[chat_pb2.ContentPart()])])), "request"
    ),
    "chat.messages[0].parts[0].image": lambda: wire.chat_request_from_proto(
        chat_pb2.ChatRequest(messages=[_user(parts=[chat_pb2.ContentPart(image=chat_pb2.ImagePart(detail="low"))])])
    ),
    "chat.tool_choice.mode": lambda: wire.chat_request_from_proto(
        chat_pb2.ChatRequest(tool_choice=chat_pb2.ToolChoice(mode=UNKNOWN))  # type: ignore[arg-type]
    ),
    "chat.response_format.kind": lambda: wire.chat_request_from_proto(
        chat_pb2.ChatRequest(response_format=chat_pb2.ResponseFormat(kind=UNKNOWN))  # type: ignore[arg-type]
    ),
    "options.strategy": lambda: wire.completion_request_from_proto(
        _request(options=orchestrator_pb2.RoutingOptions(strategy=UNKNOWN))  # type: ignore[arg-type]
    ),
    "options.cache_mode": lambda: wire.completion_request_from_proto(
        _request(options=orchestrator_pb2.RoutingOptions(cache_mode=UNKNOWN))  # type: ignore[arg-type]
    ),
    "plan.tiers[0].attempt_timeout": lambda: wire.plan_from_proto(
        executor_pb2.Plan(tiers=[executor_pb2.PlannedTier()])
    ),
    "plan.tiers[0].gates[0]": lambda: wire.plan_from_proto(
        executor_pb2.Plan(
            tiers=[executor_pb2.PlannedTier(attempt_timeout=Duration(seconds=1), gates=[executor_pb2.GateSpec()])]
        )
    ),
    "task_type": lambda: wire.task_type_from_proto(UNKNOWN),
    "classification.layer": lambda: wire.classification_from_proto(
        chat_pb2.Classification(task_type=chat_pb2.TASK_TYPE_MATH, complexity=chat_pb2.COMPLEXITY_SIMPLE)
    ),
    "outcome.kind": lambda: wire.cache_outcome_from_proto(chat_pb2.CacheOutcome()),
    "execution.message.role": lambda: wire.execution_from_proto(executor_pb2.Execution()),
    "attempt.outcome": lambda: wire.attempt_from_proto(chat_pb2.Attempt()),
    "verdict.verdict": lambda: wire.gate_verdict_from_proto(chat_pb2.GateVerdict()),
}


@pytest.mark.parametrize("path", CASES)
def test_what_cannot_be_translated_is_named(path: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        CASES[path]()
    assert caught.value.path == path
    assert caught.value.message


def test_an_empty_request_translates_to_defaults() -> None:
    assert wire.completion_request_from_proto(_request()) == CompletionRequest(ChatRequest(()))


def test_unspecified_is_the_default_where_a_field_may_be_absent() -> None:
    assert wire.task_type_from_proto(0) is None
    assert wire.finish_reason_from_proto(0) is FinishReason.UNKNOWN
    chat = wire.chat_request_from_proto(
        chat_pb2.ChatRequest(tool_choice=chat_pb2.ToolChoice(), response_format=chat_pb2.ResponseFormat())
    )
    assert chat.tool_choice is not None
    assert chat.tool_choice.mode is ToolChoiceMode.AUTO
    assert chat.response_format is not None
    assert chat.response_format.kind is FormatKind.TEXT
    assert wire.plan_from_proto(executor_pb2.Plan()).strategy is Strategy.CHEAP_FIRST
    gate = wire.gate_spec_from_proto(executor_pb2.GateSpec(agreement=executor_pb2.AgreementGate()))
    assert gate == wire.gate_spec_from_proto(wire.gate_spec_to_proto(gate))
    assert getattr(gate, "normalizer", None) is Normalizer.AUTO


def test_zero_that_was_set_is_not_absent() -> None:
    options = RoutingOptions(confidence_min=0.0, cost_nanousd_max=0, escalations_max=0, cache_ttl_s=0.0)
    assert wire.routing_options_from_proto(wire.routing_options_to_proto(options)) == options
    assert wire.routing_options_from_proto(wire.routing_options_to_proto(RoutingOptions())) == RoutingOptions()


@pytest.mark.parametrize(("seconds", "nanos"), [(-(2**63), -999_999_999), (2**63 - 1, 999_999_999), (0, -1), (-1, 0)])
def test_an_absurd_duration_is_a_number_for_the_range_check(seconds: int, nanos: int) -> None:
    options = orchestrator_pb2.RoutingOptions(cache_ttl=Duration(seconds=seconds, nanos=nanos))
    assert isinstance(wire.routing_options_from_proto(options).cache_ttl_s, float)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(1, -5), (-1, 5), (1, 2**31 - 1), (0, 2**31 - 1), (0, 1_000_000_000), (0, -1_000_000_000), (-1, -(2**31))],
)
def test_two_fields_that_are_no_duration_together_are_refused(seconds: int, nanos: int) -> None:
    broken = Duration(seconds=seconds, nanos=nanos)
    tier = executor_pb2.PlannedTier(
        attempt_timeout=Duration(seconds=1), stream_prefix=executor_pb2.StreamPrefix(wait=broken)
    )
    translations: dict[str, Callable[[], object]] = {
        "options.cache_ttl": lambda: wire.routing_options_from_proto(orchestrator_pb2.RoutingOptions(cache_ttl=broken)),
        "plan.tiers[0].attempt_timeout": lambda: wire.plan_from_proto(
            executor_pb2.Plan(tiers=[executor_pb2.PlannedTier(attempt_timeout=broken)])
        ),
        "plan.tiers[0].stream_prefix.wait": lambda: wire.plan_from_proto(executor_pb2.Plan(tiers=[tier])),
        "ttl": lambda: wire.duration_from_proto(broken, "ttl"),
    }
    for path, translate in translations.items():
        with pytest.raises(wire.WireError) as caught:
            translate()
        assert caught.value.path == path


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.999_999_999_9, 1.3, 59.999_999_999, 86_400.0, -1.25, -0.5, -3.0])
def test_a_duration_survives_to_the_nanosecond(seconds: float) -> None:
    pb = wire.duration_to_proto(seconds)
    assert abs(pb.nanos) < 1_000_000_000
    assert pb.seconds == 0 or pb.nanos == 0 or (pb.seconds > 0) == (pb.nanos > 0)
    assert wire.duration_from_proto(pb) == pytest.approx(seconds, abs=5e-10)


ENUMS = (
    (fields.ROLES, chat_pb2.Role),
    (fields.FINISH_REASONS, chat_pb2.FinishReason),
    (fields.TASK_TYPES, chat_pb2.TaskType),
    (fields.COMPLEXITIES, chat_pb2.Complexity),
    (fields.STRATEGIES, chat_pb2.Strategy),
    (fields.CACHE_MODES, chat_pb2.CacheMode),
    (fields.FORMAT_KINDS, chat_pb2.ResponseFormat.Kind),
    (fields.TOOL_CHOICE_MODES, chat_pb2.ToolChoice.Mode),
    (fields.LAYERS, chat_pb2.Classification.Layer),
    (fields.VERDICTS, chat_pb2.GateVerdict.Verdict),
    (fields.ATTEMPT_OUTCOMES, chat_pb2.Attempt.Outcome),
    (fields.CACHE_KINDS, chat_pb2.CacheOutcome.Kind),
    (fields.NORMALIZERS, executor_pb2.AgreementGate.Normalizer),
)


@pytest.mark.parametrize(("names", "proto"), ENUMS)
def test_every_value_of_the_contract_has_a_member(names: Any, proto: Any) -> None:
    assert set(proto.values()) == {0, *names.numbers.values()}
