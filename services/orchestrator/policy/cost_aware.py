"""The cost-aware choice: from where a plan would start, up to the cheapest target that is measured to be good enough.

Promises: pure. A target is good enough for a kind of work when it has enough grades there and the lower confidence
bound of its quality is a large enough part of the flagship's; the flagship always is. Too little evidence counts as
none: the search goes on in the next tier up, never down, since what cheap tiers were graded for are the requests that
were judged to be easy. The first tier with such targets is where to start, with those targets alone, cheapest first.
When there is none below the ceiling, the plan starts at the last tier of its ladder. While nobody has said what was
measured there is no such choice: silence is not evidence of bad answers.

Source of the bound: `MeasuredQuality.ratio_lower`, 95 %, of the ledger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.orchestrator.policy.ladder import Ladder
from services.orchestrator.policy.quality import QualityTable
from services.orchestrator.policy.start import Start
from spillway.chat import Usage
from spillway.routing import TaskType
from spillway.settings import CostAware, Settings, Target

__all__ = ["CostAwareChoice"]

# Prices are compared on a call of so many tokens out for those that go in; only their order matters.
_OUTPUT_TOKENS: Final = 400


class CostAwareChoice:
    """The choice by one configuration. Immutable; may be shared."""

    def __init__(self, settings: Settings, options: CostAware) -> None:
        self._tiers = settings.tiers
        self._flagship = settings.flagship_target.name
        self._options = options

    def refine(
        self, start: Start, ladder: Ladder, task_type: TaskType, qualities: QualityTable | None, *, input_tokens: int
    ) -> Start:
        """The start with its reason, moved up and narrowed to good targets where needed: then of step cost_aware.

        `qualities`: None when nobody has said yet what was measured; then it stays where it is.
        """
        if qualities is None:
            return replace(start, reason=f"{start.reason}; not cost-aware: nobody has said yet what was measured")
        first = ladder.held(start.tier)
        for index in (tier for tier in ladder.tiers if tier >= first):
            good = self._good(index, task_type, qualities, input_tokens)
            if good:
                return self._started(start, index, good, self._why(good[0], task_type, qualities), first)
        said = f"no target is measured to be good enough for {task_type}, so it starts at the last tier"
        last = self._tiers[ladder.ceiling]
        return self._started(start, ladder.ceiling, tuple(each.name for each in last.targets), said, first)

    def _started(self, start: Start, index: int, names: tuple[str, ...], why: str, first: int) -> Start:
        tier = self._tiers[index]
        reason = f"{start.reason}; cost-aware: {why}"
        everyone = tuple(each.name for each in tier.targets)
        if index == first and names == everyone:
            return replace(start, reason=reason)
        # Where the executor chooses the order itself, the cheapest is only first when it is alone.
        answering = names if tier.balance == "order" or names == everyone else names[:1]
        said = f"{reason}, at tier {tier.name}" if index != first else reason
        return replace(start, step="cost_aware", reason=said, tier=index, answering=answering)

    def _good(self, index: int, task_type: TaskType, qualities: QualityTable, input_tokens: int) -> tuple[str, ...]:
        usage = Usage(input_tokens, _OUTPUT_TOKENS)
        good = [
            target
            for target in self._tiers[index].targets
            if target.context_window_tokens >= input_tokens and self._is_good(target, task_type, qualities)
        ]
        return tuple(target.name for target in sorted(good, key=lambda target: target.price.nanousd(usage)))

    def _is_good(self, target: Target, task_type: TaskType, qualities: QualityTable) -> bool:
        if target.name == self._flagship:
            return True
        found = qualities.find(target.name, task_type)
        return (
            found is not None
            and found.grades >= self._options.grades_min
            and found.ratio_lower >= self._options.ratio_min
        )

    def _why(self, target: str, task_type: TaskType, qualities: QualityTable) -> str:
        found = qualities.find(target, task_type)
        if target == self._flagship or found is None:
            return f"the flagship {target} is the first that is known to be good enough for {task_type}"
        return (
            f"{target} has at least {found.ratio_lower:.2f} of the flagship's quality for {task_type} "
            f"({found.grades} grades), {self._options.ratio_min:.2f} is enough"
        )
