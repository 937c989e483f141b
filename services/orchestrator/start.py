"""Where a plan begins: the only target that may answer, or the tier to start at, and why.

Promises: pure. A floor and a ceiling do not count yet: they move the start afterwards, and the policy says so. Of two
judgements that differ in nothing but P(tier suffices), the one that trusts cheap tiers more never starts higher, and a
higher `policy.sufficiency_min` never starts lower.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.ladder import Ladder
from services.orchestrator.opening import NoEligibleTargetError, Opening
from spillway.routing import Classification, Complexity, Strategy
from spillway.settings import Settings

__all__ = ["Start", "Starts"]


@dataclass(frozen=True, slots=True)
class Start:
    """The only target, or a tier; the strategy to use when nobody names one; and why."""

    step: str
    reason: str
    tier: int
    only_target: str = ""
    strategy: Strategy | None = None


class Starts:
    """The starts of one configuration. Immutable; may be shared. Raises ValueError for one that names unknown tiers."""

    def __init__(self, settings: Settings) -> None:
        self._names = tuple(tier.name for tier in settings.tiers)
        self._tier_of_target = {t.name: index for index, tier in enumerate(settings.tiers) for t in tier.targets}
        self._tier_of_complexity = {each: settings.tier_of_complexity(each) for each in Complexity}
        self._confidence_bump = settings.policy.confidence_bump
        self._sufficiency_min = settings.policy.sufficiency_min

    def choose(self, opening: Opening, judgement: Classification | None) -> Start:
        """The start of a route. Raises NoEligibleTargetError, and ValueError without a judgement that is needed."""
        if opening.only_target:
            who = "the request pins" if opening.step == "pinned" else f"rule {opening.rule_name} names"
            tier = self._tier_of_target[opening.only_target]
            reason = f"{who} target {opening.only_target}"
            return Start(opening.step, reason, tier, opening.only_target, Strategy.DIRECT)
        if opening.step == "bypass":
            tier = opening.ladder.floor
            reason = f"the endpoint goes straight to tier {self._names[tier]}"
            return Start("bypass", reason, tier, strategy=Strategy.DIRECT)
        if opening.rule is not None and opening.rule.then.start_tier:
            tier = self._index(opening.rule.then.start_tier)
            return Start("rule", f"rule {opening.rule_name} starts at tier {self._names[tier]}", tier)
        if judgement is None:
            raise ValueError("this route needs a judgement")
        if self._sufficiency_min is None:
            return self._by_complexity(opening.ladder, judgement, "")
        return self._by_sufficiency(opening.ladder, judgement, self._sufficiency_min)

    def _by_sufficiency(self, ladder: Ladder, judgement: Classification, least: float) -> Start:
        """The cheapest tier that takes part and is likely enough to suffice."""
        known = {each.tier: each.probability for each in judgement.sufficiency}
        # A classifier of another configuration may not know a tier: what nobody vouches for does not suffice.
        likely = {index: known.get(self._names[index], 0.0) for index in ladder.taking_part}
        if not any(self._names[index] in known for index in ladder.taking_part):
            return self._by_complexity(ladder, judgement, "without a P(tier suffices): ")
        tier = next((index for index, probability in likely.items() if probability >= least), None)
        if tier is None:
            tier = ladder.taking_part[-1]
            said = f"no tier has P(suffices) of at least {least:.2f}"
            return Start("sufficiency", f"{said}: starts at the last, {self._names[tier]} ({likely[tier]:.2f})", tier)
        said = f"P({self._names[tier]} suffices) is {likely[tier]:.2f}, at least {least:.2f}"
        return Start("sufficiency", f"{said}: starts at tier {self._names[tier]}", tier)

    def _by_complexity(self, ladder: Ladder, judgement: Classification, said_before: str) -> Start:
        tier = self._tier_of_complexity[judgement.complexity]
        said = f"{said_before}complexity {judgement.complexity} with confidence {judgement.confidence:.2f}"
        least = self._confidence_bump.get(judgement.complexity, 0.0)
        if judgement.confidence < least:
            bumped = ladder.above(ladder.nearest(tier))
            if ladder.held(bumped) != ladder.held(tier):
                reason = f"{said}, below {least:.2f}: one tier up, at {self._names[ladder.held(bumped)]}"
                return Start("confidence_bump", reason, bumped)
        return Start("complexity", f"{said} starts at tier {self._names[tier]}", tier)

    def _index(self, name: str) -> int:
        if name not in self._names:
            raise NoEligibleTargetError("there is no tier of the name that was given", f"rule.start_tier: {name!r}")
        return self._names.index(name)
