"""What types alone cannot say about a configuration: names that exist, expressions that compile, rules that can match.

Promises: reads the raw data, whatever shape it has, so that these errors stand in one report with those of type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.runtime.document import Document, Place
from spillway.patterns import PatternError, compile_pattern

__all__ = ["check"]


def check(document: Document) -> None:
    """Adds to `document` what is wrong."""
    data = _mapping(document.data)
    tiers = list(_items(data.get("tiers"), ("tiers",)))
    _check_targets(document, tiers, set(_mapping(data.get("providers"))))
    order = [name for _, tier in tiers if (name := _text(tier.get("name")))]
    targets = {name for _, target in _targets(tiers) if (name := _text(target.get("name")))}
    _check_tiers(document, tiers, targets)
    _known(document, ("flagship",), data.get("flagship"), targets, "target")
    _check_policy(document, _mapping(data.get("policy")), order, targets)
    small_llm = _mapping(_mapping(data.get("classifier")).get("small_llm"))
    _known(document, ("classifier", "small_llm", "target"), small_llm.get("target"), targets, "target")
    cache = _mapping(data.get("cache"))
    if cache.get("store") == "redis" and not cache.get("redis_url"):
        document.add(("cache", "redis_url"), "must be set for the store redis")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The mappings in a list, with their places."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, dict):
                yield (*place, i), item


def _strings(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, str):
                yield (*place, i), item


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _targets(tiers: list[tuple[Place, dict[str, Any]]]) -> Iterator[tuple[Place, dict[str, Any]]]:
    for place, tier in tiers:
        yield from _items(tier.get("targets"), (*place, "targets"))


def _known(document: Document, place: Place, value: Any, names: set[str], kind: str) -> None:
    """Adds a problem when `value` is a name that does not exist; empty means the default."""
    if isinstance(value, str) and value and value not in names:
        document.add(place, f"there is no {kind} {value!r}")


def _check_unique(document: Document, named: Iterator[tuple[Place, dict[str, Any]]], kind: str) -> None:
    first: dict[str, int] = {}
    for place, item in named:
        name = _text(item.get("name"))
        if name in first:
            document.add((*place, "name"), f"is the name of another {kind} too, in line {first[name]}")
        elif name:
            first[name] = document.line((*place, "name"))


def _check_tiers(document: Document, tiers: list[tuple[Place, dict[str, Any]]], targets: set[str]) -> None:
    _check_unique(document, iter(tiers), "tier")
    for place, tier in tiers:
        own = {
            name
            for _, target in _items(tier.get("targets"), (*place, "targets"))
            if (name := _text(target.get("name")))
        }
        for gate_place, gate in _items(tier.get("gates"), (*place, "gates")):
            if gate.get("kind") == "agreement":
                second = gate.get("second_target")
                _known(document, (*gate_place, "second_target"), second, own, "target in this tier called")
                for further_place, further in _strings(gate.get("further_targets"), (*gate_place, "further_targets")):
                    _known(document, further_place, further, own, "target in this tier called")
            elif gate.get("kind") in {"self_evaluation", "judge"}:
                _known(document, (*gate_place, "target"), gate.get("target"), targets, "target")
            elif gate.get("kind") == "rules":
                _check_rules_gate(document, gate_place, gate)


def _check_targets(document: Document, tiers: list[tuple[Place, dict[str, Any]]], providers: set[str]) -> None:
    _check_unique(document, _targets(tiers), "target")
    for place, target in _targets(tiers):
        _known(document, (*place, "provider"), target.get("provider"), providers, "provider")


def _check_rules_gate(document: Document, place: Place, gate: dict[str, Any]) -> None:
    for key in ("must_match", "must_not_match"):
        for pattern_place, pattern in _strings(gate.get(key), (*place, key)):
            try:
                compile_pattern(pattern)
            except PatternError as error:
                why = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
                document.add(pattern_place, f"cannot be used as a regular expression ({why})")
    _check_order(document, place, gate, "chars_min", "chars_max", zero_is_unlimited=True)
    _check_order(document, place, gate, "number_min", "number_max")


def _check_order(
    document: Document, place: Place, item: dict[str, Any], low: str, high: str, *, zero_is_unlimited: bool = False
) -> None:
    least, most = item.get(low), item.get(high)
    if not isinstance(least, int | float) or not isinstance(most, int | float) or (zero_is_unlimited and most == 0):
        return
    if least > most:
        document.add((*place, high), f"is below {low}")


def _check_policy(document: Document, policy: dict[str, Any], order: list[str], targets: set[str]) -> None:
    tiers = set(order)
    _known(document, ("policy", "bypass_tier"), policy.get("bypass_tier"), tiers, "tier")
    for complexity, tier in _mapping(policy.get("start_tier")).items():
        _known(document, ("policy", "start_tier", complexity), tier, tiers, "tier")
    place: Place = ("policy", "rules")
    _check_unique(document, _items(policy.get("rules"), place), "rule")
    always = 0
    for rule_place, rule in _items(policy.get("rules"), place):
        if always:
            document.add(rule_place, f"can never match: the rule in line {always} has no condition")
        condition = rule.get("when")
        if isinstance(condition, dict):
            _check_order(document, (*rule_place, "when"), condition, "input_chars_min", "input_chars_max")
            if not always and all(value is None for value in condition.values()):
                always = document.line(rule_place)
        _check_action(document, (*rule_place, "then"), _mapping(rule.get("then")), order, targets)


def _check_action(
    document: Document, place: Place, action: dict[str, Any], order: list[str], targets: set[str]
) -> None:
    _known(document, (*place, "target"), action.get("target"), targets, "target")
    for key in ("start_tier", "tier_floor", "tier_ceiling"):
        _known(document, (*place, key), action.get(key), set(order), "tier")
    floor, ceiling = action.get("tier_floor"), action.get("tier_ceiling")
    if floor in order and ceiling in order and order.index(floor) > order.index(ceiling):
        document.add((*place, "tier_ceiling"), "is below tier_floor")
    else:
        _check_choice(document, place, action, order)


def _check_choice(document: Document, place: Place, action: dict[str, Any], order: list[str]) -> None:
    """The tiers that take part: known, in the ladder's order, and one of them between floor and ceiling."""
    chosen = list(_strings(action.get("tiers"), (*place, "tiers")))
    for tier_place, name in chosen:
        _known(document, tier_place, name, set(order), "tier")
    at = [order.index(name) for _, name in chosen if name in order]
    if at != sorted(set(at)):
        document.add((*place, "tiers"), "must be in the order of the tiers, each once")
    floor, ceiling = action.get("tier_floor"), action.get("tier_ceiling")
    low = order.index(floor) if floor in order else 0
    high = order.index(ceiling) if ceiling in order else len(order) - 1
    if at and len(at) == len(chosen) and not any(low <= index <= high for index in at):
        document.add((*place, "tiers"), "leaves no tier between tier_floor and tier_ceiling")
