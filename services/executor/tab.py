"""What one execution has on its tab: its attempts in the order in which they began, and what they cost.

Promises: every call is on the tab from its first moment, whoever asked for it. A call under way counts with what it was
granted, one that ended with its cost; so what is left under the ceiling is known at any time.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.ceiling import Grant, grant
from services.executor.steps import COST_CEILING
from services.executor.targets import TargetPool
from services.executor.unknown_targets import unknown_target
from services.runtime.clock import Clock
from spillway.chat import ChatRequest, Usage
from spillway.routing import AttemptOutcome, AttemptPurpose, PlannedTier

__all__ = ["Tab"]


class Tab:
    """One execution's. The estimates are what one call of each target is expected to cost at most.

    `cost_nanousd_max` is the plan's ceiling; None means none.
    """

    def __init__(
        self,
        attempts: Attempts,
        pool: TargetPool,
        clock: Clock,
        estimates_nanousd: Mapping[str, int],
        cost_nanousd_max: int | None,
    ) -> None:
        self._attempts = attempts
        self._pool = pool
        self._clock = clock
        self._estimates_nanousd = estimates_nanousd
        self._cost_nanousd_max = cost_nanousd_max
        self._started_at_s = clock.monotonic()
        self.made: list[AttemptInProgress] = []

    @property
    def now_s(self) -> float:
        """The time, in seconds of the clock."""
        return self._clock.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._started_at_s

    @property
    def cost_nanousd(self) -> int:
        """What the calls that have ended cost."""
        return sum(made.cost_nanousd for made in self.made)

    @property
    def usage(self) -> Usage:
        """The tokens of the calls that have ended."""
        return sum((made.billed for made in self.made), start=Usage())

    def estimate_nanousd(self, target: str) -> int:
        """The most that one call of `target` for this request is expected to cost."""
        return self._estimates_nanousd[target]

    def offer(self, target: str, chat: ChatRequest, companions: int = 0) -> Grant | None:
        """The call of `target` with `chat` that fits beside those under way; None when none does. Begin it at once.

        It leaves as much for each of so many `companions` that are to be called beside it, if it can.
        """
        price, left_nanousd = self._pool[target].price, self.left_nanousd
        share = None if left_nanousd is None or not companions else left_nanousd // (1 + companions)
        return (share and grant(chat, price, share)) or grant(chat, price, left_nanousd)

    def begin(
        self,
        tier: PlannedTier,
        target: str,
        granted: Grant,
        purpose: AttemptPurpose = AttemptPurpose.ANSWER,
    ) -> AttemptInProgress:
        """An attempt that begins now."""
        attempt = self._attempts.begin(tier, self._pool[target], self._started_at_s)
        attempt.purpose = purpose
        attempt.held_nanousd = granted.nanousd
        attempt.most = granted.most
        self.made.append(attempt)
        return attempt

    def skip(
        self,
        tier: PlannedTier,
        target: str,
        error_reason: str,
        purpose: AttemptPurpose = AttemptPurpose.ANSWER,
    ) -> None:
        """Records that `target` was not called."""
        what = self._pool[target] if target in self._pool else unknown_target(target)
        attempt = self._attempts.skip(tier, what, self._started_at_s, error_reason)
        attempt.purpose = purpose
        self.made.append(attempt)

    def is_down(self, target: str) -> bool:
        """Whether `target` was found to be not available in this execution, or is not known here at all."""
        return target not in self._pool or any(
            made.target.name == target and _was_unavailable(made) for made in self.made
        )

    def number(self, attempt: AttemptInProgress) -> int:
        """Its place on the tab."""
        return next(index for index, made in enumerate(self.made) if made is attempt)

    @property
    def left_nanousd(self) -> int | None:
        """What a further call may cost, below 0 when too much was spent; None without a ceiling."""
        if self._cost_nanousd_max is None:
            return None
        under_way = sum(made.held_nanousd for made in self.made if _is_under_way(made))
        return self._cost_nanousd_max - self.cost_nanousd - under_way


def _is_under_way(attempt: AttemptInProgress) -> bool:
    return attempt.ended_at_ns is None and attempt.outcome is not AttemptOutcome.SKIPPED


def _was_unavailable(attempt: AttemptInProgress) -> bool:
    if attempt.outcome is AttemptOutcome.SKIPPED:
        return attempt.error_reason != COST_CEILING
    return attempt.failure is not None
