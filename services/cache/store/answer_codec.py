"""Answers as protobuf: on the wire of the cache service, and as bytes in a shared store.

Promises: `answer_from_proto(answer_to_proto(answer)) == answer`. An enum number or a part that this version does not
know is a WireError that names the field, and so is a score that is none.
"""

from __future__ import annotations

from services.cache.entry import Answer
from spillway import wire
from spillway.v1 import cache_pb2

__all__ = ["answer_from_proto", "answer_to_proto"]


def answer_to_proto(answer: Answer) -> cache_pb2.CachedAnswer:
    """The answer on the wire."""
    return cache_pb2.CachedAnswer(
        message=wire.message_to_proto(answer.message),
        finish_reason=wire.finish_reason_to_proto(answer.finish_reason),
        tier=answer.tier,
        target=answer.target,
        model=answer.model,
        usage=wire.usage_to_proto(answer.usage),
        cost_nanousd=answer.cost_nanousd,
        accepted=answer.accepted,
        score=answer.score,
    )


def answer_from_proto(pb: cache_pb2.CachedAnswer, path: str = "answer") -> Answer:
    """The answer from the wire; `path` is where it stands in the request."""
    return Answer(
        message=wire.message_from_proto(pb.message, f"{path}.message"),
        finish_reason=wire.finish_reason_from_proto(pb.finish_reason, f"{path}.finish_reason"),
        accepted=pb.accepted,
        tier=pb.tier,
        target=pb.target,
        model=pb.model,
        usage=wire.usage_from_proto(pb.usage),
        cost_nanousd=pb.cost_nanousd,
        score=_score(pb, f"{path}.score"),
    )


def _score(pb: cache_pb2.CachedAnswer, path: str) -> float | None:
    if not pb.HasField("score"):
        return None
    if not 0.0 <= pb.score <= 1.0:  # not so for NaN either
        raise wire.WireError(path, "must be 0 to 1")
    return pb.score
