"""Answers from the wire of the cache service, and from the bytes in a store.

Promises: an enum number or a part that this version does not know is a WireError that names the field, and so is a
score that is none.
"""

from __future__ import annotations

from services.cache.entry import Answer
from spillway import wire
from spillway.v1 import cache_pb2

__all__ = ["answer_from_proto"]


def answer_from_proto(pb: cache_pb2.CachedAnswer, path: str = "answer") -> Answer:
    """The answer; `path` is where it stands in the request."""
    answer = wire.cached_answer_from_proto(pb, path)
    if answer.score is not None and not 0.0 <= answer.score <= 1.0:  # not so for NaN either
        raise wire.WireError(f"{path}.score", "must be 0 to 1")
    return answer
