"""The routing policy: which tiers may answer a request, where to start, and why.

Promises: pure and deterministic (values in, values out; no I/O, no clock). The same request, judgement and state always
give the same decision, no plan has a tier below the floor or above the ceiling, and every decision says which step made
it. The first that applies:

1. *pinned*: the request names the one target that may answer;
2. *bypass*: the endpoint goes straight to one tier; no rule is tried;
3. *rule*: the first static rule that holds names the target or the tier to start at;
4. *rollout*: the request is outside the share that is routed: the baseline target answers, no cascade and no cache;
5. *new_user*: the end user's first messages start at the strongest tier;
6. *specialist*: a target is named for the kind of work;
7. *sufficiency*: the cheapest tier of the ladder of which the judgement says that an answer suffices, with at least the
   configured probability; the last when there is none;
   *complexity*, when no such probability is configured or the judgement has none: the judged complexity names the tier
   to start at (`Settings.tier_of_complexity`); *confidence_bump*: and one tier higher because the judgement was unsure;
8. *cost_aware*: where configured and the ledger has said what it measured, 7 moved up to the cheapest targets that are
   good enough.

Who wins when several speak: a rule's limits (floor, ceiling, cache mode, gates) hold for pinned requests and on all
later steps too; floors and ceilings of request and rule both hold; of two cache modes the stricter; of two strategies
the request's. A request's own `escalations_max` replaces the configured one. The tiers that a rule chooses are a
ladder, no limit: a target that is named, and an answer from the cache, may be of another tier. On the ladder a floor at
a tier that takes no part lies at the next above that does, a ceiling at the next below.

Both arms of a rollout are of the same requests: those that 1 to 3 do not decide and that the baseline could answer
within their limits and its context window. The others are routed and are in no arm, whatever their user's place is.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.policy.cost_aware import CostAwareChoice
from services.orchestrator.policy.facts import Facts, matches_endpoint
from services.orchestrator.policy.ladder import Ladder
from services.orchestrator.policy.limits import Limits, LimitsOf
from services.orchestrator.policy.opening import NoEligibleTargetError, Opening
from services.orchestrator.policy.planning import Plans
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.policy.rollout import Arm, Arms
from services.orchestrator.policy.rules import RuleSearch, find_rule
from services.orchestrator.policy.rungs import estimated_tokens
from services.orchestrator.policy.start import Starts
from spillway.routing import (
    CacheMode,
    Classification,
    CompletionRequest,
    RoutingDecision,
    RuleTrial,
)
from spillway.settings import Rule, RuleCondition, Settings
from spillway.settings.week import zone

__all__ = ["Policy", "Routed"]

_NOTHING_KNOWN = PolicyState()


@dataclass(frozen=True, slots=True)
class Routed:
    """A decision, and the rules that were tried on the way."""

    decision: RoutingDecision
    trials: tuple[RuleTrial, ...]


class Policy:
    """The policy of one configuration. Immutable; may be shared.

    Raises ValueError for a configuration that names unknown tiers, targets or time zones.
    """

    def __init__(self, settings: Settings) -> None:
        self._policy = settings.policy
        self._tiers = settings.tiers
        self._names = tuple(tier.name for tier in settings.tiers)
        self._limits = LimitsOf(settings)
        self._starts = Starts(settings)
        self._plans = Plans(settings)
        self._arms = Arms(settings.policy.rollout)
        self._baseline = settings.policy.rollout.baseline or settings.flagship_target.name
        if self._limits.tier_of_target(self._baseline) is None:
            raise ValueError(f"policy.rollout.baseline: there is no target {self._baseline!r}")
        cost_aware = settings.policy.cost_aware
        self._cost_aware = None if cost_aware is None else CostAwareChoice(settings, cost_aware)
        _check_zones([rule.when for rule in settings.policy.rules])

    def open(
        self,
        request: CompletionRequest,
        judgement: Classification | None = None,
        state: PolicyState = _NOTHING_KNOWN,
    ) -> Opening:
        """What can be said before the plan. With a judgement and the count of messages, nothing is left open.

        Raises NoEligibleTargetError.
        """
        bypassed = not request.options.pinned_target and self._is_bypassed(request.endpoint)
        facts = Facts(request, state.received_at_unix_s)
        search = find_rule(() if bypassed else self._policy.rules, facts, judgement)
        limits = self._limits.of(request, search.matched)
        if bypassed:
            return self._bypassing(request, limits)
        rule = search.matched
        only_target = request.options.pinned_target or (rule.then.target if rule else None) or ""
        if only_target:
            self._limits.check_target(only_target, limits)
        if request.options.pinned_target:
            # Of a pinned request an open rule can only change the limits, and the gates, which the cache does not know.
            first = any(_limits_the_cache(each, pinned=True) for each in search.open_rules)
            waits = first or any(each.then.gates is not None for each in search.open_rules)
            return self._opened(
                request, search, limits, "pinned", only_target, needs_judgement=waits, judge_first=first
            )
        if rule is not None and (rule.then.target or rule.then.start_tier):
            return self._opened(request, search, limits, "rule", only_target)
        return self._undecided(request, judgement, state, search, limits)

    def decide(
        self,
        request: CompletionRequest,
        judgement: Classification | None = None,
        state: PolicyState = _NOTHING_KNOWN,
    ) -> Routed:
        """The one decision for `request`; a judgement is required where `open` says that one is needed.

        Raises NoEligibleTargetError.
        """
        opening = self.open(request, judgement, state)
        if opening.needs_judgement:
            raise ValueError("this route needs a judgement")
        tokens = estimated_tokens(request.chat)
        start = self._starts.choose(opening, judgement, tokens)
        if self._cost_aware is not None and judgement is not None and start.is_judged:
            start = self._cost_aware.refine(
                start, opening.ladder, judgement.task_type, state.qualities, input_tokens=tokens
            )
        plan, moved = self._plans.draw(request, opening, start, tokens)
        decision = RoutingDecision(
            policy_step=start.step,
            reason=start.reason + moved + opening.apart,
            rule=opening.rule_name,
            classification=judgement,
            plan=plan,
            arm=opening.arm,
        )
        return Routed(decision=decision, trials=opening.trials)

    def _is_bypassed(self, endpoint: str) -> bool:
        return bool(endpoint) and any(matches_endpoint(each, endpoint) for each in self._policy.bypass_endpoints)

    def _bypassing(self, request: CompletionRequest, limits: Limits) -> Opening:
        name = self._policy.bypass_tier
        tier = self._limits.tier_index(name, "policy.bypass_tier") if name else len(self._tiers) - 1
        floor = min(max(limits.floor, tier), limits.ceiling)
        return self._opened(request, RuleSearch(()), Limits(floor, limits.ceiling), "bypass")

    def _undecided(
        self,
        request: CompletionRequest,
        judgement: Classification | None,
        state: PolicyState,
        search: RuleSearch,
        limits: Limits,
    ) -> Opening:
        """The opening of a request that no pin, bypass or rule decides, or none yet."""
        needs_judgement = judgement is None
        arm, apart = self._arm(request, judgement, state, limits)
        of_user = self._policy.new_users.messages if request.end_user else 0
        is_new = state.user_messages is not None and state.user_messages < of_user
        needs_user = state.user_messages is None and of_user > 0
        if search.open_rules:
            limited = any(_limits_the_cache(each, pinned=False) for each in search.open_rules)
            decides = any(each.then.target or each.then.start_tier for each in search.open_rules)
            return self._opened(
                request,
                search,
                limits,
                needs_judgement=True,
                judge_first=limited or is_new or arm in {None, Arm.BASELINE},
                needs_user=needs_user,
                arm="" if decides else arm or "",
                apart=apart,
            )
        if arm is Arm.BASELINE:
            return self._opened(
                request, search, limits, "rollout", self._baseline, needs_judgement=needs_judgement, arm=arm
            )
        return self._opened(
            request,
            search,
            limits,
            "new_user" if is_new and arm is not None else "",
            needs_judgement=needs_judgement,
            judge_first=arm is None,
            needs_user=needs_user and arm is not None,
            arm=arm or "",
            apart=apart,
        )

    def _arm(
        self, request: CompletionRequest, judgement: Classification | None, state: PolicyState, limits: Limits
    ) -> tuple[Arm | str | None, str]:
        """The arm, None while the kind of work decides, and "" when the request takes no part, with the reason why."""
        if not self._arms.is_configured:
            return "", ""
        why_not = self._limits.why_not(self._baseline, limits, estimated_tokens(request.chat))
        if why_not:
            return "", f"; in no arm of the rollout: its baseline {self._baseline} {why_not}"
        return self._arms.find(request, state.request_id, judgement.task_type if judgement else None), ""

    def _opened(
        self,
        request: CompletionRequest,
        search: RuleSearch,
        limits: Limits,
        step: str = "",
        only_target: str = "",
        *,
        needs_judgement: bool = False,
        judge_first: bool = False,
        needs_user: bool = False,
        arm: str = "",
        apart: str = "",
    ) -> Opening:
        rule = search.matched
        ladder = self._ladder(limits, None if only_target else rule)
        mode = CacheMode.BYPASS if step == "rollout" else self._limits.cache_mode(request, rule)
        return Opening(
            step=step,
            rule=rule,
            trials=search.trials,
            cache_mode=mode,
            needs_judgement=needs_judgement,
            judge_first=judge_first and needs_judgement,
            # What a new user is served from the cache is of the strongest tier, too.
            floor=ladder.ceiling if step == "new_user" else limits.floor,
            ceiling=limits.ceiling,
            ladder=ladder,
            only_target=only_target,
            tier_names=self._names,
            score_min=request.options.confidence_min or 0.0,
            needs_user=needs_user,
            arm=str(arm),
            apart=apart,
        )

    def _ladder(self, limits: Limits, rule: Rule | None) -> Ladder:
        ladder = Ladder.between(limits.floor, limits.ceiling, self._taking_part(rule))
        if ladder is None:
            raise NoEligibleTargetError(
                "no tier that may take part lies between the tier floor and the tier ceiling",
                f"rule {rule.name if rule else ''!r}, {self._names[limits.floor]} to {self._names[limits.ceiling]}",
            )
        return ladder

    def _taking_part(self, rule: Rule | None) -> tuple[int, ...]:
        if rule is None or rule.then.tiers is None:
            return tuple(range(len(self._tiers)))
        return tuple(sorted({self._limits.tier_index(name, "rule.tiers") for name in rule.then.tiers}))


def _limits_the_cache(rule: Rule, *, pinned: bool) -> bool:
    then = rule.then
    return bool(then.cache_mode or then.tier_floor or then.tier_ceiling or (then.target and not pinned))


def _check_zones(conditions: list[RuleCondition]) -> None:
    """Raises ValueError for a time zone that the machine does not know."""
    for when in conditions:
        if when.time is not None:
            zone(when.time.timezone)
        _check_zones([*(when.any_of or ()), *(when.none_of or ())])
