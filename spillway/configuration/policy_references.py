"""What types alone cannot say about the policy: names, rules that can never match, rules that contradict themselves.

Promises: what is said of a rule is proven (`spillway.settings.rule_logic`); a contradiction that no proof is found for
within bounded work is not reported.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from spillway.configuration.document import Document, Place
from spillway.configuration.gate_references import check_gates
from spillway.configuration.raw_data import check_order, check_unique, items, known, mapping, strings, text
from spillway.settings import RuleCondition
from spillway.settings.rule_logic import Reasoner
from spillway.settings.week import zone

__all__ = ["check_policy"]

# Of one rule, whether all earlier ones together leave it nothing; 200 rules take some seconds at most.
_COVER_STEPS_MAX: Final = 500
_NO_EFFECT: Final = "has no effect beside target, which answers alone"


def check_policy(document: Document, policy: dict[str, Any], order: list[str], tier_of_target: dict[str, str]) -> None:
    """Adds what is wrong. `order`: the tiers, cheapest first."""
    known(document, ("policy", "bypass_tier"), policy.get("bypass_tier"), order, "tier")
    for complexity, tier in mapping(policy.get("start_tier")).items():
        known(document, ("policy", "start_tier", complexity), tier, order, "tier")
    if policy.get("cost_aware") is not None and mapping(mapping(document.data).get("ledger")).get("enabled") is False:
        document.add(("policy", "cost_aware"), "needs ledger.enabled: the ledger measures how good targets are")
    baseline = mapping(policy.get("rollout")).get("baseline")
    known(document, ("policy", "rollout", "baseline"), baseline, tier_of_target, "target")
    for task_type, target in mapping(policy.get("specialists")).items():
        known(document, ("policy", "specialists", task_type), target, tier_of_target, "target")
    place: Place = ("policy", "rules")
    check_unique(document, items(policy.get("rules"), place), "rule")
    _check_conditions(document, list(items(policy.get("rules"), place)))
    for rule_place, rule in items(policy.get("rules"), place):
        then_place = (*rule_place, "then")
        action = mapping(rule.get("then"))
        _check_action(document, then_place, action, order, tier_of_target)
        check_gates(document, (*then_place, "gates"), action.get("gates"), tier_of_target)


def _check_conditions(document: Document, rules: list[tuple[Place, dict[str, Any]]]) -> None:
    """Of each rule, whether it can match at all, and whether an earlier one leaves it anything."""
    reasoner, doubter = Reasoner(), Reasoner()
    always = 0
    earlier: list[tuple[Place, str, RuleCondition]] = []
    for place, rule in rules:
        raw = rule.get("when")
        if always:
            document.add(place, f"can never match: the rule in line {always} has no condition")
        if not isinstance(raw, dict):
            continue
        when = _typed(raw)
        is_sound = _check_condition(document, (*place, "when"), raw, doubter)
        if all(value is None for value in raw.values()):
            always = always or document.line(place)
        elif when is not None and is_sound and not always:
            _check_reachable(document, place, when, earlier, reasoner)
            earlier.append((place, text(rule.get("name")), when))


def _check_reachable(
    document: Document,
    place: Place,
    when: RuleCondition,
    earlier: list[tuple[Place, str, RuleCondition]],
    reasoner: Reasoner,
) -> None:
    for other_place, name, other in earlier:
        if reasoner.implies(when, other):
            line = document.line(other_place)
            document.add(place, f"can never match: rule {name!r} in line {line} comes first and holds whenever it does")
            return
    if len(earlier) > 1 and Reasoner(_COVER_STEPS_MAX).is_covered(when, [other for _, _, other in earlier]):
        document.add(place, "can never match: whenever it holds, one of the rules before it does")


def _typed(raw: dict[str, Any]) -> RuleCondition | None:
    """The condition; None for one with errors of type, which are reported elsewhere."""
    try:
        return RuleCondition.model_validate(raw)
    except ValidationError:
        return None


def _check_condition(document: Document, place: Place, raw: dict[str, Any], reasoner: Reasoner) -> bool:
    """Whether nothing is wrong with the condition and those in it; what is wrong is added."""
    before = len(document.problems)
    check_order(document, place, raw, "input_chars_min", "input_chars_max")
    check_order(document, place, raw, "input_tokens_min", "input_tokens_max")
    _check_time(document, (*place, "time"), mapping(raw.get("time")))
    for word_place, word in strings(raw.get("keywords"), (*place, "keywords")):
        if not word:
            document.add(word_place, "is empty, and never found")
    for key in ("any_of", "none_of"):
        for nested_place, nested in items(raw.get(key), (*place, key)):
            _check_condition(document, nested_place, nested, reasoner)
    when = _typed(raw)
    if when is not None and len(document.problems) == before and reasoner.is_impossible(when):
        _add_contradiction(document, place, when, reasoner)
    return len(document.problems) == before


def _add_contradiction(document: Document, place: Place, when: RuleCondition, reasoner: Reasoner) -> None:
    """Says which part of an impossible condition makes it so."""
    if reasoner.is_impossible(when.model_copy(update={"any_of": None, "none_of": None})):
        document.add(place, "can never hold: its parts contradict each other")
    elif reasoner.is_impossible(when.model_copy(update={"none_of": None})):
        document.add((*place, "any_of"), "can never hold: each of them contradicts the rest of the condition")
    else:
        document.add((*place, "none_of"), "leaves nothing: one of them holds whenever the rest of the condition does")


def _check_time(document: Document, place: Place, time: dict[str, Any]) -> None:
    if isinstance(time.get("timezone"), str):
        try:
            zone(time["timezone"])
        except ValueError as error:
            document.add((*place, "timezone"), str(error))
    start, end = time.get("start", "00:00"), time.get("end", "24:00")
    if start == end:
        document.add((*place, "end"), "is the same as start, which leaves no time")


def _check_action(
    document: Document, place: Place, action: dict[str, Any], order: list[str], tier_of_target: dict[str, str]
) -> None:
    known(document, (*place, "target"), action.get("target"), tier_of_target, "target")
    for key in ("start_tier", "tier_floor", "tier_ceiling"):
        known(document, (*place, key), action.get(key), order, "tier")
    floor, ceiling = action.get("tier_floor"), action.get("tier_ceiling")
    low = order.index(floor) if floor in order else 0
    high = order.index(ceiling) if ceiling in order else len(order) - 1
    if low > high:
        document.add((*place, "tier_ceiling"), "is below tier_floor")
    else:
        _check_choice(document, place, action, order, (low, high))
        for key, tier in (
            ("start_tier", text(action.get("start_tier"))),
            ("target", tier_of_target.get(text(action.get("target")), "")),
        ):
            _check_between(document, (*place, key), tier, order, (low, high))
    if action.get("target"):
        for key in ("start_tier", "tiers"):
            if action.get(key):
                document.add((*place, key), _NO_EFFECT)
        if action.get("strategy") not in (None, "direct"):
            document.add((*place, "strategy"), _NO_EFFECT)


def _check_between(document: Document, place: Place, tier: str, order: list[str], bounds: tuple[int, int]) -> None:
    if tier in order and not bounds[0] <= order.index(tier) <= bounds[1]:
        below = order.index(tier) < bounds[0]
        what = "is" if place[-1] == "start_tier" else f"is of tier {tier},"
        document.add(place, f"{what} {'below tier_floor' if below else 'above tier_ceiling'}")


def _check_choice(
    document: Document, place: Place, action: dict[str, Any], order: list[str], bounds: tuple[int, int]
) -> None:
    """The tiers that take part: known, in the ladder's order, one of them between floor and ceiling, and the start."""
    chosen = list(strings(action.get("tiers"), (*place, "tiers")))
    for tier_place, name in chosen:
        known(document, tier_place, name, order, "tier")
    at = [order.index(name) for _, name in chosen if name in order]
    if at != sorted(set(at)):
        document.add((*place, "tiers"), "must be in the order of the tiers, each once")
    if not at or len(at) != len(chosen):
        return
    if not any(bounds[0] <= index <= bounds[1] for index in at):
        document.add((*place, "tiers"), "leaves no tier between tier_floor and tier_ceiling")
    elif action.get("start_tier") in order and order.index(action["start_tier"]) not in at:
        document.add((*place, "start_tier"), "is not one of tiers")
