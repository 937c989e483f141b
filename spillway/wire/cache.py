"""What the cache said, and the answers that it keeps, on the wire; these in its stores too."""

from __future__ import annotations

from spillway.routing import (
    CachedAnswer,
    CacheOutcome,
)
from spillway.v1 import cache_pb2, chat_pb2
from spillway.wire.chat import (
    message_from_proto,
    message_to_proto,
    usage_from_proto,
    usage_to_proto,
)
from spillway.wire.fields import (
    CACHE_KINDS,
    duration_from_proto,
    duration_to_proto,
    finish_reason_from_proto,
    finish_reason_to_proto,
    join,
)

__all__ = [
    "cache_finding_from_proto",
    "cache_finding_to_proto",
    "cache_outcome_from_proto",
    "cache_outcome_to_proto",
    "cached_answer_from_proto",
    "cached_answer_to_proto",
]


def cached_answer_to_proto(value: CachedAnswer) -> cache_pb2.CachedAnswer:
    return cache_pb2.CachedAnswer(
        message=message_to_proto(value.message),
        finish_reason=finish_reason_to_proto(value.finish_reason),
        tier=value.tier,
        target=value.target,
        model=value.model,
        usage=usage_to_proto(value.usage),
        cost_nanousd=value.cost_nanousd,
        accepted=value.accepted,
        score=value.score,
    )


def cached_answer_from_proto(pb: cache_pb2.CachedAnswer, path: str = "answer") -> CachedAnswer:
    return CachedAnswer(
        message=message_from_proto(pb.message, join(path, "message")),
        finish_reason=finish_reason_from_proto(pb.finish_reason, join(path, "finish_reason")),
        tier=pb.tier,
        target=pb.target,
        model=pb.model,
        usage=usage_from_proto(pb.usage),
        cost_nanousd=pb.cost_nanousd,
        accepted=pb.accepted,
        score=pb.score if pb.HasField("score") else None,
    )


def cache_outcome_to_proto(value: CacheOutcome) -> chat_pb2.CacheOutcome:
    """For callers: how near, and which entry, stays behind."""
    return chat_pb2.CacheOutcome(
        kind=CACHE_KINDS.to_proto(value.kind),
        age=None if value.age_s is None else duration_to_proto(value.age_s),
        reason=value.reason,
    )


def cache_outcome_from_proto(pb: chat_pb2.CacheOutcome, path: str = "outcome") -> CacheOutcome:
    """Raises WireError for a kind that is unset or unknown."""
    return CacheOutcome(
        kind=CACHE_KINDS.required(pb.kind, join(path, "kind")),
        age_s=duration_from_proto(pb.age, join(path, "age")) if pb.HasField("age") else None,
        reason=pb.reason,
    )


def cache_finding_to_proto(value: CacheOutcome) -> cache_pb2.CacheFinding:
    """All of it, for services and records."""
    return cache_pb2.CacheFinding(
        kind=CACHE_KINDS.to_proto(value.kind),
        similarity=value.similarity,
        entry_key=value.entry_key,
        age=None if value.age_s is None else duration_to_proto(value.age_s),
        reason=value.reason,
        answer_version=value.answer_version,
    )


def cache_finding_from_proto(pb: cache_pb2.CacheFinding, path: str = "outcome") -> CacheOutcome:
    """Raises WireError for a kind that is unset or unknown."""
    return CacheOutcome(
        kind=CACHE_KINDS.required(pb.kind, join(path, "kind")),
        similarity=pb.similarity if pb.HasField("similarity") else None,
        entry_key=pb.entry_key,
        age_s=duration_from_proto(pb.age, join(path, "age")) if pb.HasField("age") else None,
        reason=pb.reason,
        answer_version=pb.answer_version,
    )
