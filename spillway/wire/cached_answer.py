"""Answers as the cache keeps them, on the wire and in its stores."""

from __future__ import annotations

from spillway.routing import CachedAnswer
from spillway.v1 import cache_pb2
from spillway.wire.chat import message_from_proto, message_to_proto, usage_from_proto, usage_to_proto
from spillway.wire.fields import finish_reason_from_proto, finish_reason_to_proto, join

__all__ = ["cached_answer_from_proto", "cached_answer_to_proto"]


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
