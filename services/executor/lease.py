"""Leave to call a target once, and why there is none.

Promises: values alone. What gives leases and takes them back is the pool (`targets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.executor.breaker import Permit

__all__ = ["BREAKER_OPEN", "CONCURRENCY_LIMIT", "LEASE_MARGIN_S", "RETRY_S", "Lease", "Refusal"]

LEASE_MARGIN_S: Final = 10.0  # beyond the longest call, for what happens around it
BREAKER_OPEN: Final = "BREAKER_OPEN"  # the reason of a refusal that ends by itself
CONCURRENCY_LIMIT: Final = "CONCURRENCY_LIMIT"  # of the target, or of its provider's connections; it ends by itself too
RETRY_S: Final = 1.0  # when to ask again where nothing better is known: a probe or a place may be free by then


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to call one target once. `has_token`: it took one from the retry budget."""

    target: str
    permit: Permit
    has_token: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no lease, and after how many seconds to ask again."""

    error_reason: str
    retry_after_s: float
