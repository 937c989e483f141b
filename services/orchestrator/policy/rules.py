"""Static rules: which rule of the policy a request meets, and why the others were not met.

Promises: pure and deterministic; the first rule whose condition holds is the one; each trial names the first part of
the condition that did not hold, and never quotes the prompt. A rule of which only the judgement can say is *open*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.orchestrator.policy.conditions import examine
from services.orchestrator.policy.facts import Facts
from spillway.routing import Classification, RuleTrial
from spillway.settings import Rule

__all__ = ["RuleSearch", "find_rule"]


@dataclass(frozen=True, slots=True)
class RuleSearch:
    """The end of a search: `matched`, or none; or `open_rules`, of which the judgement decides.

    `open_rules` are those that may still match, in order, up to and with the first that matches in any case.
    """

    trials: tuple[RuleTrial, ...]
    matched: Rule | None = None
    open_rules: tuple[Rule, ...] = ()


def find_rule(rules: Sequence[Rule], facts: Facts, judgement: Classification | None) -> RuleSearch:
    """The first rule that the request meets. With a judgement nothing stays open."""
    trials: list[RuleTrial] = []
    for position, rule in enumerate(rules):
        found = examine(rule.when, facts, judgement)
        if found.holds is None:
            return RuleSearch(tuple(trials), open_rules=(rule, *_still_possible(rules[position + 1 :], facts)))
        trials.append(RuleTrial(rule=rule.name, matched=found.holds, reason=found.reason))
        if found.holds:
            return RuleSearch(tuple(trials), matched=rule)
    return RuleSearch(tuple(trials))


def _still_possible(rules: Sequence[Rule], facts: Facts) -> Iterator[Rule]:
    for rule in rules:
        found = examine(rule.when, facts, None)
        if found.holds is not False:
            yield rule
        if found.holds:
            return
