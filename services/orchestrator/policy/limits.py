"""Within which tiers a request may be answered, and how it may use the cache: what request and rule say together.

Promises: pure. Floors and ceilings of both hold; of two cache modes the stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.orchestrator.policy.opening import NoEligibleTargetError
from spillway.routing import CacheMode, CompletionRequest
from spillway.settings import Rule, Settings

__all__ = ["Limits", "LimitsOf"]

NAMES_SHOWN_MAX: Final = 16
_STRICTNESS = (CacheMode.USE, CacheMode.REFRESH, CacheMode.BYPASS)


@dataclass(frozen=True, slots=True)
class Limits:
    """The lowest and the highest tier, by their numbers in the configuration."""

    floor: int
    ceiling: int


class LimitsOf:
    """The limits of one configuration. Immutable; may be shared."""

    def __init__(self, settings: Settings) -> None:
        self._names = tuple(tier.name for tier in settings.tiers)
        self._tier_of_target = {t.name: index for index, tier in enumerate(settings.tiers) for t in tier.targets}
        self._windows = {t.name: t.context_window_tokens for tier in settings.tiers for t in tier.targets}
        self._default_cache_mode = CacheMode.USE if settings.cache.enabled else CacheMode.BYPASS

    def of(self, request: CompletionRequest, rule: Rule | None) -> Limits:
        """Those of a request and the rule that it meets. Raises NoEligibleTargetError."""
        floors, ceilings = [0], [len(self._names) - 1]
        for where, options in (("options", request.options), ("rule", rule.then if rule else None)):
            if options is not None and options.tier_floor:
                floors.append(self.tier_index(options.tier_floor, f"{where}.tier_floor"))
            if options is not None and options.tier_ceiling:
                ceilings.append(self.tier_index(options.tier_ceiling, f"{where}.tier_ceiling"))
        floor, ceiling = max(floors), min(ceilings)
        if floor > ceiling:
            raise NoEligibleTargetError(
                "the tier floor is above the tier ceiling", f"{self._names[floor]} is above {self._names[ceiling]}"
            )
        return Limits(floor, ceiling)

    def cache_mode(self, request: CompletionRequest, rule: Rule | None) -> CacheMode:
        """How the cache may be used."""
        modes = [self._default_cache_mode, request.options.cache_mode, rule.then.cache_mode if rule else None]
        return max((mode for mode in modes if mode is not None), key=_STRICTNESS.index)

    def tier_index(self, name: str, where: str) -> int:
        """The tier's number. Raises NoEligibleTargetError."""
        if name not in self._names:
            public = f"there is no tier of the name that was given; there are {_listed(self._names)}"
            raise NoEligibleTargetError(public, f"{where}: {name!r}")
        return self._names.index(name)

    def tier_of_target(self, target: str) -> int | None:
        """The number of the tier that the target is in."""
        return self._tier_of_target.get(target)

    def check_target(self, target: str, limits: Limits) -> None:
        """Raises NoEligibleTargetError for one that is unknown, or outside the limits."""
        tier = self._tier_of_target.get(target)
        if tier is None:
            public = f"there is no target of the name that was given; there are {_listed(tuple(self._tier_of_target))}"
            raise NoEligibleTargetError(public, repr(target))
        if not limits.floor <= tier <= limits.ceiling:
            raise NoEligibleTargetError(
                "the target that was named is outside the tier floor and ceiling", f"{target!r}, {self._names[tier]}"
            )

    def why_not(self, target: str, limits: Limits, tokens: int) -> str:
        """Why a known target may not, or cannot, answer so many tokens; empty when it may."""
        if not limits.floor <= self._tier_of_target[target] <= limits.ceiling:
            return "is outside the tier floor and ceiling"
        return "has no room for the input" if self._windows[target] < tokens else ""


def _listed(names: Sequence[str]) -> str:
    """What answers and attempts name as well; a few of many."""
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more:,} more" if more > 0 else "")
