"""Every value comes back from the wire as it went, also through the bytes."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillway import routing, wire
from spillway.chat import (
    ChatRequest,
    Embedding,
    FinishReason,
    GenerationParams,
    ImagePart,
    Message,
    TextPart,
    Usage,
)

SECONDS = st.integers(0, 86_400 * 10**9).map(lambda nanos: nanos / 10**9)
UNIX_S = st.floats(0, 4e9).map(lambda s: round(s, 6))
INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOATS = st.floats(allow_nan=False)
# What UTF-8 can carry: no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

SMALL_INTS = {
    "agreeing_min",
    "tokens",
    "escalations",
    "fallbacks",
    "escalations_max",
    "threshold",
    "tries",
    "status",
    "chars_min",
    "chars_max",
    "max_output_tokens",
}
IMAGES = st.builds(ImagePart, url=TEXT, media_type=TEXT, detail=TEXT) | st.builds(
    ImagePart, data=st.binary(min_size=1, max_size=9), media_type=TEXT, detail=TEXT
)


def values(kind: type) -> st.SearchStrategy[Any]:
    """Any value of a dataclass, within what its twin can carry."""
    hints: dict[str, Any] = _hints(kind)
    return st.builds(kind, **{field.name: _field(field.name, hints[field.name]) for field in dataclasses.fields(kind)})


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _field(name: str, hint: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_field(name, arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(_field(name, argument) for argument in arguments))
    if origin in (types.UnionType, typing.Union):
        return st.one_of([_field(name, argument) for argument in arguments])
    return _plain(name, hint)


def _plain(name: str, hint: Any) -> st.SearchStrategy[Any]:
    seconds = UNIX_S if name.endswith("unix_s") else SECONDS
    known: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        ImagePart: IMAGES,
        float: seconds if name.endswith("_s") else FLOATS,
        int: INT32 if name in SMALL_INTS else INT64,
        str: TEXT,
        bytes: st.binary(max_size=9),
        bool: st.booleans(),
    }
    if hint in known:
        return known[hint]
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return values(hint)
    return st.sampled_from(hint)


KINDS: dict[str, type] = {
    "chat_request": ChatRequest,
    "message": Message,
    "usage": Usage,
    "embedding": Embedding,
    "classification": routing.Classification,
    "cache_finding": routing.CacheOutcome,
    "cache_outcome": routing.CacheOutcome,
    "cached_answer": routing.CachedAnswer,
    "gate_verdict": routing.GateVerdict,
    "attempt": routing.Attempt,
    "plan": routing.Plan,
    "execution": routing.Execution,
    "failed_execution": routing.FailedExecution,
    "answer_delta": routing.AnswerDelta,
    "routing_options": routing.RoutingOptions,
    "completion_request": routing.CompletionRequest,
    "routing_decision": routing.RoutingDecision,
    "cost_summary": routing.CostSummary,
    "hop_latency": routing.HopLatency,
    "completion": routing.Completion,
    "explanation": routing.Explanation,
    "tier_outcome": routing.TierOutcome,
    "feedback": routing.Feedback,
    "grade": routing.Grade,
    "measured_quality": routing.MeasuredQuality,
    "job_submission": routing.JobSubmission,
    "job": routing.Job,
}


def as_callers_get_it(value: Any) -> Any:
    """Similarities and keys of the cache stay behind."""
    if isinstance(value, routing.CacheOutcome):
        return dataclasses.replace(value, similarity=None, entry_key="", answer_version="")
    if isinstance(value, routing.Completion | routing.Explanation):
        return dataclasses.replace(value, cache=as_callers_get_it(value.cache))
    if isinstance(value, routing.Job) and value.completion is not None:
        return dataclasses.replace(value, completion=as_callers_get_it(value.completion))
    return value


@pytest.mark.parametrize("name", KINDS)
def test_a_value_comes_back_as_it_went(name: str) -> None:
    to_proto, from_proto = getattr(wire, f"{name}_to_proto"), getattr(wire, f"{name}_from_proto")

    @settings(max_examples=40)
    @given(values(KINDS[name]))
    def check(value: Any) -> None:
        pb = to_proto(value)
        again = type(pb).FromString(pb.SerializeToString())
        assert from_proto(again) == (value if name == "cache_finding" else as_callers_get_it(value))

    check()


def test_the_generated_values_reach_every_kind_of_part_and_gate() -> None:
    """Guards the test above: the strategies are derived from the types."""
    assert _hints(Message)["parts"] is not None
    found: set[type] = set()

    @settings(max_examples=200, database=None, derandomize=True)
    @given(values(routing.Plan), values(Message))
    def collect(plan: routing.Plan, message: Message) -> None:
        found.update(type(gate) for tier in plan.tiers for gate in tier.gates)
        found.update(type(part) for part in message.parts)

    collect()
    assert found == {*typing.get_args(routing.GateSpec), TextPart, ImagePart}


def test_every_function_of_the_package_is_tried() -> None:
    pairs = {name.removesuffix("_to_proto") for name in wire.__all__ if name.endswith("_to_proto")}
    enums_and_times = {"duration", "finish_reason", "task_type", "timestamp"}
    within = {"gate_spec", "tool_call"}  # inside plans and messages
    assert pairs == set(KINDS) | enums_and_times | within
    assert FinishReason.UNKNOWN is wire.finish_reason_from_proto(0)
    assert GenerationParams() == wire.chat_request_from_proto(wire.chat_request_to_proto(ChatRequest(()))).generation
