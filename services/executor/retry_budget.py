"""What availability may cost: a token bucket over all requests of a process, for calls that follow a failed one.

Promises: pure, no clock. A further call of a target that is itself in doubt takes a token; a call that answers pays:
the first of its request puts `share` of a token aside, a further one gives its token back. Without a token no such call
is made. So an outage costs at most what is in the bucket (`calls_min` at a start, and never more than
`SAVED_CALLS_MAX` beyond it) however long it lasts, and a fallback that works costs nothing, however often it is needed.

Why fallbacks count, although they ask another target: when all are down, a request that walks through four targets is
four calls, and its caller's patience times four; the same storm of calls that retries are known for, only spread.
Why the target must be in doubt (its last call went unanswered, or it is being probed): a stand-in that is well, or
was not needed so far, is what a fallback is for. A burst of failures of the first target may all go there at once;
refusing it would lose requests that could be answered, and if the stand-in is down too, its first result says so.

Sources: the token bucket whose deposits are a share of requests, with a reserve for quiet times, is Finagle's
RetryBudget (and "Addressing Cascading Failures" in Google's SRE book: a budget of 10 % per client); that only success
refills, which holds an outage at a constant and not at a share, is gRPC's retry throttling (proposal A6).
"""

from __future__ import annotations

from typing import Final

from spillway.settings import RetryBudget as RetryBudgetSettings

__all__ = ["SAVED_CALLS_MAX", "RetryBudget"]

SAVED_CALLS_MAX: Final = 20.0  # what good times may add; more would be a storm of its own when they end
_CALL: Final = 1.0
_ROUNDING: Final = 1e-9  # ten shares of 0.1 are a call


class RetryBudget:
    """One process's. Belongs to one event loop; `calls_left` is safe to read from another thread."""

    def __init__(self, settings: RetryBudgetSettings) -> None:
        self._share = settings.share
        self._calls_max = settings.calls_min + SAVED_CALLS_MAX
        self._calls = float(settings.calls_min)

    def reconfigure(self, settings: RetryBudgetSettings) -> None:
        """Goes by these from now on; what has been saved remains, as far as there is room for it."""
        self._share = settings.share
        self._calls_max = settings.calls_min + SAVED_CALLS_MAX
        self._calls = min(self._calls, self._calls_max)

    @property
    def calls_left(self) -> float:
        """How many further calls may be made now."""
        return self._calls

    def take(self) -> bool:
        """Takes a token, if there is one."""
        if self._calls < _CALL - _ROUNDING:
            return False
        self._calls = max(0.0, self._calls - _CALL)
        return True

    def give_back(self) -> None:
        """A call that took a token answered."""
        self._add(_CALL)

    def earn(self) -> None:
        """A call that took none answered."""
        self._add(self._share)

    def _add(self, calls: float) -> None:
        self._calls = min(self._calls + calls, self._calls_max)
