"""The plan of a route that has a start: the rungs from there up, the strategy and the budgets.

Promises: pure. No rung is below the ladder's floor or above its ceiling; a tier without room for the input is passed
over upwards, then downwards. A rule's gates replace those of every tier. The baseline of a rollout is asked as it was
before there was any routing: with no gates but those that always apply, and those of a rule.
"""

from __future__ import annotations

from services.orchestrator.policy.opening import NoEligibleTargetError, Opening
from services.orchestrator.policy.rungs import planned_tier
from services.orchestrator.policy.start import Start
from spillway.routing import CompletionRequest, Plan, PlannedTier, Strategy
from spillway.settings import Settings

__all__ = ["Plans"]


class Plans:
    """The plans of one configuration. Immutable; may be shared."""

    def __init__(self, settings: Settings) -> None:
        self._policy = settings.policy
        self._tiers = settings.tiers
        self._names = tuple(tier.name for tier in settings.tiers)

    def draw(self, request: CompletionRequest, opening: Opening, start: Start, tokens: int) -> tuple[Plan, str]:
        """The plan, and what to add to the reason when it does not begin at the start tier.

        `tokens`: what the request takes of a context window. Raises NoEligibleTargetError.
        """
        first = opening.ladder.held(start.tier)
        rungs = {
            index: planned
            for index in opening.ladder.tiers
            if (planned := self._rung(index, opening, start, tokens)) is not None
        }
        chosen = [index for index in rungs if index >= first] or list(rungs)[-1:]
        if not chosen:
            raise NoEligibleTargetError(
                "no target that may answer has a context window large enough", f"~{tokens} tokens"
            )
        options = request.options
        rule_strategy = opening.rule.then.strategy if opening.rule else None
        strategy = options.strategy or rule_strategy or start.strategy or self._policy.strategy
        if start.only_target or strategy is Strategy.DIRECT:
            chosen = chosen[:1]
        if start.only_target:
            strategy = Strategy.DIRECT
        asked = options.escalations_max
        plan = Plan(
            tiers=tuple(rungs[index] for index in chosen),
            strategy=strategy,
            escalations_max=self._policy.escalations_max if asked is None else asked,
            cost_nanousd_max=options.cost_nanousd_max,
            confidence_min=options.confidence_min,
        )
        moved = self._moved(opening, start.tier, first)
        if chosen[0] != first:
            moved += f"; only tier {self._names[chosen[0]]} has room for the input"
        return plan, moved

    def _rung(self, index: int, opening: Opening, start: Start, tokens: int) -> PlannedTier | None:
        tier, gates = self._tiers[index], opening.rule.then.gates if opening.rule else None
        if start.step == "rollout":
            tier = tier.model_copy(update={"gates": [], "escape_valve": False, "stream_prefix": None})
        answering = start.answering if index == start.tier else ()
        return planned_tier(tier, tokens, start.only_target, answering=answering, gates=gates)

    def _moved(self, opening: Opening, tier: int, first: int) -> str:
        """What a rule's choice of tiers, a floor and a ceiling made of the tier to start at."""
        ladder, said = opening.ladder, ""
        if opening.rule is not None and opening.rule.then.tiers is not None and not opening.only_target:
            names = ", ".join(self._names[index] for index in ladder.taking_part)
            said = f"; by rule {opening.rule.name} only {names} take part"
        nearest = ladder.nearest(tier)
        if nearest != tier:
            said += f", which moves it to {self._names[nearest]}"
        if first != nearest:
            said += f"; the tier {'floor' if first > nearest else 'ceiling'} moves it to {self._names[first]}"
        return said
