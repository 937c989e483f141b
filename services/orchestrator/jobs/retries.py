"""When a failed try, or a delivery that failed, is made again. Pure."""

from __future__ import annotations

import random
from typing import Final

import grpc

from services.runtime.errors import SpillwayError

__all__ = ["DELIVERY_DELAYS_S", "delivery_delay_s", "is_retryable", "retry_delay_s"]

BASE_S: Final = 1.0
CEILING_S: Final = 60.0
RETRY_AFTER_S_MAX: Final = 3_600.0

_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)

DELIVERY_DELAYS_S: Final = (5.0, 60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""After the first try, the second, and so on; eight tries over some 17 hours."""


def is_retryable(error: SpillwayError) -> bool:
    """Whether the same request may fare better later. What the caller has to change never does."""
    return error.code in _RETRYABLE and error.reason != "MESSAGE_TOO_LARGE"


def retry_delay_s(tries: int, retry_after_s: float | None, rng: random.Random) -> float:
    """How long to wait after the `tries`-th try, from 1: exponential, half of it by chance.

    Never less than the error asks for, up to an hour.
    """
    backoff_s = min(CEILING_S, BASE_S * 2.0 ** min(tries - 1, 30))
    delay_s = backoff_s * (0.5 + rng.random() / 2)
    return max(delay_s, min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))


def delivery_delay_s(tries: int, retry_after_s: float | None, rng: random.Random) -> float | None:
    """How long to wait after the `tries`-th delivery, from 1; None when that was the last one. A tenth by chance."""
    if tries > len(DELIVERY_DELAYS_S):
        return None
    delay_s = DELIVERY_DELAYS_S[tries - 1] * (0.9 + rng.random() / 5)
    return max(delay_s, min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))
