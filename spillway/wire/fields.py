"""Single values on the wire: enum numbers, durations and times, and the error that names a field.

Promises: an enum number that this version does not know is a WireError with the field's path, never a default.
UNSPECIFIED becomes None, and the caller of the map says whether the field may be absent. A list that is too long is
refused by its length, before any of it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from spillway.chat import FinishReason, FormatKind, Role, ToolChoiceMode
from spillway.routing import (
    AttemptOutcome,
    AttemptPurpose,
    CacheKind,
    CacheMode,
    Complexity,
    Layer,
    Normalizer,
    OutcomeSource,
    Strategy,
    TaskType,
    Verdict,
)
from spillway.v1 import chat_pb2, classifier_pb2, executor_pb2

__all__ = [
    "ATTEMPT_OUTCOMES",
    "ATTEMPT_PURPOSES",
    "CACHE_KINDS",
    "CACHE_MODES",
    "COMPLEXITIES",
    "FINISH_REASONS",
    "FORMAT_KINDS",
    "LAYERS",
    "NORMALIZERS",
    "OUTCOME_SOURCES",
    "ROLES",
    "STRATEGIES",
    "TASK_TYPES",
    "TOOL_CHOICE_MODES",
    "VERDICTS",
    "EnumMap",
    "ProtoEnum",
    "WireError",
    "at_most",
    "duration_from_proto",
    "duration_to_proto",
    "finish_reason_from_proto",
    "finish_reason_to_proto",
    "join",
    "task_type_from_proto",
    "task_type_to_proto",
    "timestamp_from_proto",
    "timestamp_to_proto",
]

_NANOS_PER_S = 1_000_000_000

Member = TypeVar("Member", bound=StrEnum)
Number = TypeVar("Number", bound=int)
Number_co = TypeVar("Number_co", bound=int, covariant=True)


class ProtoEnum(Protocol[Number_co]):
    """What a generated enum gives: a number for each name."""

    def Value(self, name: str, /) -> Number_co:  # noqa: N802 - protobuf's name
        ...


class WireError(ValueError):
    """A field cannot be translated. `path` names it, e.g. "chat.messages[2].role"; `message` may be shown to all."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def join(path: str, name: str) -> str:
    """The path of the field `name` inside `path`; an empty `path` is the message itself."""
    return f"{path}.{name}" if path else name


def at_most(items: Sized, count_max: int, path: str) -> None:
    """Raises WireError for a longer list. Called before the list is translated, which takes time for each item."""
    if len(items) > count_max:
        raise WireError(path, f"must be at most {count_max:,}")


@dataclass(frozen=True, slots=True)
class EnumMap(Generic[Member, Number]):
    """A dataclass enum and its proto twin. Members that a map leaves out stand for UNSPECIFIED."""

    numbers: dict[Member, Number]
    members: dict[int, Member]
    unspecified: Number

    @classmethod
    def build(
        cls, proto: ProtoEnum[Number], prefix: str, enum: type[Member], absent: Member | None = None
    ) -> EnumMap[Member, Number]:
        """Pairs each member but `absent` with the proto value of the same name behind `prefix`."""
        numbers = {member: proto.Value(prefix + member.name) for member in enum if member is not absent}
        reverse: dict[int, Member] = {int(number): member for member, number in numbers.items()}
        return cls(numbers, reverse, proto.Value(prefix + "UNSPECIFIED"))

    def to_proto(self, member: Member | None) -> Number:
        """None, and a member that means "unspecified", become UNSPECIFIED."""
        return self.unspecified if member is None else self.numbers.get(member, self.unspecified)

    def optional(self, number: int, path: str) -> Member | None:
        """UNSPECIFIED becomes None. Raises WireError for an unknown number."""
        if number == 0:
            return None
        member = self.members.get(number)
        if member is None:
            raise WireError(path, "is not a known value")
        return member

    def required(self, number: int, path: str) -> Member:
        """Raises WireError for UNSPECIFIED and for an unknown number."""
        member = self.optional(number, path)
        if member is None:
            raise WireError(path, "must be set")
        return member


ROLES = EnumMap.build(chat_pb2.Role, "ROLE_", Role)
FINISH_REASONS = EnumMap.build(chat_pb2.FinishReason, "FINISH_REASON_", FinishReason, FinishReason.UNKNOWN)
TASK_TYPES = EnumMap.build(chat_pb2.TaskType, "TASK_TYPE_", TaskType)
COMPLEXITIES = EnumMap.build(chat_pb2.Complexity, "COMPLEXITY_", Complexity)
STRATEGIES = EnumMap.build(chat_pb2.Strategy, "STRATEGY_", Strategy)
CACHE_MODES = EnumMap.build(chat_pb2.CacheMode, "CACHE_MODE_", CacheMode)
FORMAT_KINDS = EnumMap.build(chat_pb2.ResponseFormat.Kind, "KIND_", FormatKind)
TOOL_CHOICE_MODES = EnumMap.build(chat_pb2.ToolChoice.Mode, "MODE_", ToolChoiceMode)
LAYERS = EnumMap.build(chat_pb2.Classification.Layer, "LAYER_", Layer)
OUTCOME_SOURCES = EnumMap.build(classifier_pb2.TierOutcome.Source, "SOURCE_", OutcomeSource)
VERDICTS = EnumMap.build(chat_pb2.GateVerdict.Verdict, "VERDICT_", Verdict)
ATTEMPT_OUTCOMES = EnumMap.build(chat_pb2.Attempt.Outcome, "OUTCOME_", AttemptOutcome)
ATTEMPT_PURPOSES = EnumMap.build(chat_pb2.Attempt.Purpose, "PURPOSE_", AttemptPurpose)
CACHE_KINDS = EnumMap.build(chat_pb2.CacheOutcome.Kind, "KIND_", CacheKind)
NORMALIZERS = EnumMap.build(executor_pb2.AgreementGate.Normalizer, "NORMALIZER_", Normalizer, Normalizer.AUTO)


def finish_reason_to_proto(value: FinishReason) -> chat_pb2.FinishReason.ValueType:
    return FINISH_REASONS.to_proto(value)


def finish_reason_from_proto(number: int, path: str = "finish_reason") -> FinishReason:
    """UNSPECIFIED is UNKNOWN. Raises WireError for an unknown number."""
    return FINISH_REASONS.optional(number, path) or FinishReason.UNKNOWN


def task_type_to_proto(value: TaskType | None) -> chat_pb2.TaskType.ValueType:
    return TASK_TYPES.to_proto(value)


def task_type_from_proto(number: int, path: str = "task_type") -> TaskType | None:
    """UNSPECIFIED is None. Raises WireError for an unknown number."""
    return TASK_TYPES.optional(number, path)


def _split(seconds: float) -> tuple[int, int]:
    """Whole seconds, rounded down, and nanoseconds; exact to the nanosecond also for times since 1970."""
    whole = math.floor(seconds)
    carry, nanos = divmod(round((seconds - whole) * _NANOS_PER_S), _NANOS_PER_S)
    return whole + carry, nanos


def duration_to_proto(seconds: float) -> Duration:
    """`seconds`, finite, at nanosecond resolution."""
    whole, nanos = _split(seconds)
    if whole < 0 and nanos:  # A Duration's two fields have the same sign.
        whole, nanos = whole + 1, nanos - _NANOS_PER_S
    return Duration(seconds=whole, nanos=nanos)


def duration_from_proto(duration: Duration, path: str = "duration") -> float:
    """Seconds; the range is the caller's to check. Raises WireError for two fields that are no Duration together."""
    if abs(duration.nanos) >= _NANOS_PER_S:
        raise WireError(path, "must have nanos between -999,999,999 and 999,999,999")
    if duration.seconds * duration.nanos < 0:
        raise WireError(path, "must have seconds and nanos of the same sign")
    return (duration.seconds * _NANOS_PER_S + duration.nanos) / _NANOS_PER_S


def timestamp_to_proto(unix_s: float) -> Timestamp:
    """`unix_s`, seconds since 1970, at nanosecond resolution."""
    whole, nanos = _split(unix_s)
    return Timestamp(seconds=whole, nanos=nanos)


def timestamp_from_proto(timestamp: Timestamp) -> float:
    """Seconds since 1970."""
    return (timestamp.seconds * _NANOS_PER_S + timestamp.nanos) / _NANOS_PER_S
