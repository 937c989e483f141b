"""The routing policy: which tiers may answer a request, where to start, and why.

Promises: pure and deterministic (values in, values out; no I/O, no clock). The same request and judgement always give
the same decision, no plan has a tier below the floor or above the ceiling, and every decision says which step made it:

1. *pinned*: the request names the one target that may answer;
2. *bypass*: the endpoint goes straight to one tier; no rule is tried;
3. *rule*: the first static rule that holds names the target or the tier to start at;
4. *sufficiency*: the cheapest tier of the ladder of which the judgement says that an answer suffices, with at least the
   configured probability; the last when there is none;
5. *complexity*, when no such probability is configured or the judgement has none: the judged complexity names the tier
   to start at (`Settings.tier_of_complexity`);
6. *confidence_bump*: as 5, and one tier higher because the judgement was unsure.

Who wins when several speak: a rule's limits (floor, ceiling, cache mode) hold for pinned requests too; floors and
ceilings of request and rule both hold; of two cache modes the stricter; of two strategies the request's. A request's
own `escalations_max` replaces the configured one. The tiers that a rule chooses are a ladder, no limit: a target that
is named, and an answer from the cache, may be of another tier. On the ladder a floor at a tier that takes no part lies
at the next above that does, a ceiling at the next below.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.ladder import Ladder
from services.orchestrator.opening import NoEligibleTargetError, Opening
from services.orchestrator.rules import Facts, find_rule, matches_endpoint
from services.orchestrator.rungs import estimated_tokens, planned_tier
from services.orchestrator.start import Start, Starts
from spillway.routing import (
    CacheMode,
    Classification,
    CompletionRequest,
    Plan,
    RoutingDecision,
    RuleTrial,
    Strategy,
)
from spillway.settings import Rule, Settings

__all__ = ["Policy", "Routed"]

_STRICTNESS = (CacheMode.USE, CacheMode.REFRESH, CacheMode.BYPASS)


@dataclass(frozen=True, slots=True)
class Routed:
    """A decision, and the rules that were tried on the way."""

    decision: RoutingDecision
    trials: tuple[RuleTrial, ...]


class Policy:
    """The policy of one configuration. Immutable; may be shared."""

    def __init__(self, settings: Settings) -> None:
        self._policy = settings.policy
        self._tiers = settings.tiers
        self._names = tuple(tier.name for tier in settings.tiers)
        self._tier_of_target = {t.name: index for index, tier in enumerate(settings.tiers) for t in tier.targets}
        self._starts = Starts(settings)
        self._default_cache_mode = CacheMode.USE if settings.cache.enabled else CacheMode.BYPASS

    def open(self, request: CompletionRequest, judgement: Classification | None = None) -> Opening:
        """What can be said before the plan. With a judgement, nothing is left open.

        Raises NoEligibleTargetError.
        """
        options = request.options
        bypassed = not options.pinned_target and self._is_bypassed(request.endpoint)
        search = find_rule(() if bypassed else self._policy.rules, Facts(request), judgement)
        rule = search.matched
        floor, ceiling = self._limits(request, rule)
        only_target = ""
        if options.pinned_target:
            step, only_target = "pinned", options.pinned_target
            self._check_only_target(only_target, floor, ceiling)
        elif bypassed:
            step, floor = "bypass", min(max(floor, self._bypass_tier()), ceiling)
        elif rule is not None and rule.then.target:
            step, only_target = "rule", rule.then.target
            self._check_only_target(only_target, floor, ceiling)
        else:
            step = "rule" if rule is not None and rule.then.start_tier else ""
        limited = any(_limits_the_cache(each, pinned=step == "pinned") for each in search.open_rules)
        undecided = bool(search.open_rules) or (not step and judgement is None)
        return Opening(
            step=step,
            rule=rule,
            trials=search.trials,
            cache_mode=self._cache_mode(request, rule),
            # Of a pinned request an open rule can only change the limits.
            needs_judgement=limited if step == "pinned" else undecided,
            judge_first=limited,
            floor=floor,
            ceiling=ceiling,
            ladder=self._ladder(floor, ceiling, None if only_target else rule),
            only_target=only_target,
            tier_names=self._names,
            score_min=options.confidence_min or 0.0,
        )

    def decide(self, request: CompletionRequest, judgement: Classification | None = None) -> Routed:
        """The one decision for `request`; a judgement is required where `open` says that one is needed.

        Raises NoEligibleTargetError.
        """
        opening = self.open(request, judgement)
        if opening.needs_judgement:
            raise ValueError("this route needs a judgement")
        start = self._starts.choose(opening, judgement)
        plan, moved = self._plan(request, opening, start)
        decision = RoutingDecision(
            policy_step=start.step,
            reason=start.reason + moved,
            rule=opening.rule_name,
            classification=judgement,
            plan=plan,
        )
        return Routed(decision=decision, trials=opening.trials)

    def _is_bypassed(self, endpoint: str) -> bool:
        return bool(endpoint) and any(matches_endpoint(each, endpoint) for each in self._policy.bypass_endpoints)

    def _bypass_tier(self) -> int:
        name = self._policy.bypass_tier
        return self._tier_index(name, "policy.bypass_tier") if name else len(self._tiers) - 1

    def _cache_mode(self, request: CompletionRequest, rule: Rule | None) -> CacheMode:
        modes = [self._default_cache_mode, request.options.cache_mode, rule.then.cache_mode if rule else None]
        return max((mode for mode in modes if mode is not None), key=_STRICTNESS.index)

    def _limits(self, request: CompletionRequest, rule: Rule | None) -> tuple[int, int]:
        floors, ceilings = [0], [len(self._tiers) - 1]
        for where, options in (("options", request.options), ("rule", rule.then if rule else None)):
            if options is not None and options.tier_floor:
                floors.append(self._tier_index(options.tier_floor, f"{where}.tier_floor"))
            if options is not None and options.tier_ceiling:
                ceilings.append(self._tier_index(options.tier_ceiling, f"{where}.tier_ceiling"))
        floor, ceiling = max(floors), min(ceilings)
        if floor > ceiling:
            raise NoEligibleTargetError(
                "the tier floor is above the tier ceiling", f"{self._names[floor]} is above {self._names[ceiling]}"
            )
        return floor, ceiling

    def _ladder(self, floor: int, ceiling: int, rule: Rule | None) -> Ladder:
        ladder = Ladder.between(floor, ceiling, self._taking_part(rule))
        if ladder is None:
            raise NoEligibleTargetError(
                "no tier that may take part lies between the tier floor and the tier ceiling",
                f"rule {rule.name if rule else ''!r}, {self._names[floor]} to {self._names[ceiling]}",
            )
        return ladder

    def _taking_part(self, rule: Rule | None) -> tuple[int, ...]:
        if rule is None or rule.then.tiers is None:
            return tuple(range(len(self._tiers)))
        return tuple(sorted({self._tier_index(name, "rule.tiers") for name in rule.then.tiers}))

    def _tier_index(self, name: str, where: str) -> int:
        if name not in self._names:
            raise NoEligibleTargetError("there is no tier of the name that was given", f"{where}: {name!r}")
        return self._names.index(name)

    def _check_only_target(self, target: str, floor: int, ceiling: int) -> None:
        tier = self._tier_of_target.get(target)
        if tier is None:
            raise NoEligibleTargetError("there is no target of the name that was given", repr(target))
        if not floor <= tier <= ceiling:
            raise NoEligibleTargetError(
                "the target that was named is outside the tier floor and ceiling", f"{target!r}, {self._names[tier]}"
            )

    def _plan(self, request: CompletionRequest, opening: Opening, start: Start) -> tuple[Plan, str]:
        """The plan, and what to add to the reason when it does not begin at the start tier."""
        first = opening.ladder.held(start.tier)
        tokens = estimated_tokens(request.chat)
        rungs = {
            index: planned
            for index in opening.ladder.tiers
            if (planned := planned_tier(self._tiers[index], tokens, start.only_target)) is not None
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


def _limits_the_cache(rule: Rule, *, pinned: bool) -> bool:
    then = rule.then
    return bool(then.cache_mode or then.tier_floor or then.tier_ceiling or (then.target and not pinned))
