"""Where a plan begins: the only target that may answer, or the tier (and the targets) to start at, and why.

Promises: pure. A floor and a ceiling do not count yet: they move the start afterwards, and the policy says so. Of two
judgements that differ in nothing but P(tier suffices), the one that trusts cheap tiers more never starts higher, and a
higher `policy.sufficiency_min` never starts lower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.orchestrator.policy.ladder import Ladder
from services.orchestrator.policy.opening import NoEligibleTargetError, Opening
from services.orchestrator.policy.rungs import in_front
from spillway.routing import Classification, Complexity, Strategy
from spillway.settings import Settings

__all__ = ["Start", "Starts"]


@dataclass(frozen=True, slots=True)
class Start:
    """The only target, or a tier; the strategy to use when nobody names one; and why.

    `answering`: of the tier these answer, in this order; empty means all.
    """

    step: str
    reason: str
    tier: int
    only_target: str = ""
    strategy: Strategy | None = None
    answering: tuple[str, ...] = ()

    @property
    def is_judged(self) -> bool:
        """Whether how hard the prompt is decided."""
        return self.step in {"sufficiency", "complexity", "confidence_bump"}


class Starts:
    """The starts of one configuration. Immutable; may be shared. Raises ValueError for one that names unknown tiers."""

    def __init__(self, settings: Settings) -> None:
        self._names = tuple(tier.name for tier in settings.tiers)
        self._tier_of_target = {t.name: index for index, tier in enumerate(settings.tiers) for t in tier.targets}
        self._tier_of_complexity = {each: settings.tier_of_complexity(each) for each in Complexity}
        self._confidence_bump = settings.policy.confidence_bump
        self._sufficiency_min = settings.policy.sufficiency_min
        self._tiers = settings.tiers
        self._specialists = settings.policy.specialists
        for task_type, target in self._specialists.items():
            if target not in self._tier_of_target:
                raise ValueError(f"policy.specialists.{task_type}: there is no target {target!r}")

    def choose(self, opening: Opening, judgement: Classification | None, tokens: int = 0) -> Start:
        """The start of a route that takes so many tokens of a context window.

        Raises NoEligibleTargetError, and ValueError without a judgement that is needed.
        """
        if opening.only_target:
            return self._at_only_target(opening)
        if opening.step == "bypass":
            tier = opening.ladder.floor
            reason = f"the endpoint goes straight to tier {self._names[tier]}"
            return Start("bypass", reason, tier, strategy=Strategy.DIRECT)
        if opening.rule is not None and opening.rule.then.start_tier:
            tier = self._index(opening.rule.then.start_tier)
            return Start("rule", f"rule {opening.rule_name} starts at tier {self._names[tier]}", tier)
        if opening.step == "new_user":
            tier = opening.ladder.ceiling
            return Start("new_user", f"a new user starts at the strongest tier, {self._names[tier]}", tier)
        if judgement is None:
            raise ValueError("this route needs a judgement")
        return self._by_kind_of_work(opening, judgement, tokens)

    def _by_kind_of_work(self, opening: Opening, judgement: Classification, tokens: int) -> Start:
        specialist = self._specialists.get(judgement.task_type, "")
        passed_over = ""
        if specialist:
            tier = self._tier_of_target[specialist]
            why_not = self._why_not(specialist, opening.ladder, tokens)
            if not why_not:
                reason = f"{specialist} is the specialist for {judgement.task_type}"
                return Start("specialist", reason, tier, answering=in_front(self._tiers[tier], specialist))
            passed_over = f"not by the specialist {specialist}, {why_not}: "
        start = self._by_judgement(opening, judgement)
        return replace(start, reason=passed_over + start.reason)

    def _at_only_target(self, opening: Opening) -> Start:
        target = opening.only_target
        who = {
            "pinned": f"the request pins target {target}",
            "rollout": f"outside the share that is routed: the baseline {target} answers, as before",
        }.get(opening.step, f"rule {opening.rule_name} names target {target}")
        return Start(opening.step, who, self._tier_of_target[target], target, Strategy.DIRECT)

    def _why_not(self, target: str, ladder: Ladder, tokens: int) -> str:
        tier = self._tier_of_target[target]
        if tier not in ladder.tiers:
            return f"whose tier {self._names[tier]} may not answer"
        window = next(each.context_window_tokens for each in self._tiers[tier].targets if each.name == target)
        return "whose context window is too small" if window < tokens else ""

    def _by_judgement(self, opening: Opening, judgement: Classification) -> Start:
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
