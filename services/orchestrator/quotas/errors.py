"""A request is beyond a quota of its holder.

    SpillwayError
    └── QuotaExceeded         the caller's: retry after the time that is said
        ├── RateLimited       more than a rate allows
        └── BudgetExhausted   more than a budget has left

Promises: what callers are told of it is the quota's name in the configuration, in the metadata under `quota`.
"""
# ruff: noqa: N818 - the names say whose fault it was; every one of them is an error

from __future__ import annotations

import grpc

from services.runtime.errors import SpillwayError

__all__ = ["BudgetExhausted", "QuotaExceeded", "RateLimited"]


class QuotaExceeded(SpillwayError):
    """More than `quota`, a name of the configuration, allows."""

    def __init__(self, reason: str, public: str, quota: str, retry_after_s: float | None) -> None:
        super().__init__(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason,
            public,
            retry_after_s=retry_after_s,
            metadata=[("quota", quota)],
        )


class RateLimited(QuotaExceeded):
    """More than the rate `quota`, a name of the configuration, allows."""

    def __init__(self, quota: str, retry_after_s: float | None) -> None:
        super().__init__("RATE_LIMITED", "more requests or tokens than the rate allows", quota, retry_after_s)


class BudgetExhausted(QuotaExceeded):
    """What the budget `quota`, a name of the configuration, has left does not pay for the request.

    Without a time to retry no window of this budget ever will.
    """

    def __init__(self, quota: str, retry_after_s: float | None) -> None:
        public = "what the budget has left does not pay for the request"
        super().__init__("BUDGET_EXHAUSTED", public, quota, retry_after_s)
