"""What one execution has on its tab: its attempts in the order in which they began, and what they cost.

Promises: every call is on the tab from its first moment, whoever asked for it. A call under way counts with its
estimate, one that ended with its cost; so what still fits under the ceiling is known at any time.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.steps import COST_CEILING
from services.executor.targets import TargetPool, unknown_target
from services.runtime.clock import Clock
from spillway.chat import Usage
from spillway.routing import AttemptOutcome, AttemptPurpose, PlannedTier

__all__ = ["Tab"]


class Tab:
    """One execution's. The estimates are the most that one call of each target may cost.

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

    def begin(
        self,
        tier: PlannedTier,
        target: str,
        purpose: AttemptPurpose = AttemptPurpose.ANSWER,
        estimate_nanousd: int | None = None,
    ) -> AttemptInProgress:
        """An attempt that begins now; without an estimate, that of its target."""
        attempt = self._attempts.begin(tier, self._pool[target], self._started_at_s)
        attempt.purpose = purpose
        attempt.estimate_nanousd = self._estimates_nanousd[target] if estimate_nanousd is None else estimate_nanousd
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

    def affords(self, estimate_nanousd: int) -> bool:
        """Whether a further call of this estimate fits under the ceiling beside those under way."""
        if self._cost_nanousd_max is None:
            return True
        under_way = sum(made.estimate_nanousd for made in self.made if _is_under_way(made))
        return self.cost_nanousd + under_way + estimate_nanousd <= self._cost_nanousd_max


def _is_under_way(attempt: AttemptInProgress) -> bool:
    return attempt.ended_at_ns is None and attempt.outcome is not AttemptOutcome.SKIPPED


def _was_unavailable(attempt: AttemptInProgress) -> bool:
    if attempt.outcome is AttemptOutcome.SKIPPED:
        return attempt.error_reason != COST_CEILING
    return attempt.failure is not None
