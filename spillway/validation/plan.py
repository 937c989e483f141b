"""The ranges of a plan: tiers, gates, budgets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    JudgeSpec,
    LogprobSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
)
from spillway.validation.violations import NAME_CHARS_MAX, Violation, between, chars, raise_if_any

__all__ = [
    "ESCALATIONS_MAX",
    "FURTHER_TARGETS_MAX",
    "GATES_MAX",
    "PATTERNS_MAX",
    "TARGETS_MAX",
    "TIERS_MAX",
    "check_plan",
]

ESCALATIONS_MAX: Final = 2
TIERS_MAX: Final = 8
TARGETS_MAX: Final = 16
GATES_MAX: Final = 16
ATTEMPT_TIMEOUT_S_MAX: Final = 86_400.0
PATTERNS_MAX: Final = 32
PATTERN_CHARS_MAX: Final = 1_000
FURTHER_TARGETS_MAX: Final = 4
RUBRIC_CHARS_MAX: Final = 2_000
LOGPROB_MIN: Final = -100.0  # less probable than anything a sampler gives
PREFIX_TOKENS_MAX: Final = 4_096
PREFIX_WAIT_S_MAX: Final = 30.0


def check_plan(value: Plan, path: str = "plan") -> None:
    """Raises InvalidValue."""
    raise_if_any(_plan(value, path))


def _plan(value: Plan, path: str) -> Iterator[Violation]:
    if not 1 <= len(value.tiers) <= TIERS_MAX:
        yield Violation(f"{path}.tiers", f"must be 1 to {TIERS_MAX}")
    names: set[str] = set()
    for i, tier in enumerate(value.tiers[:TIERS_MAX]):
        if tier.name in names:
            yield Violation(f"{path}.tiers[{i}].name", "must be unique")
        names.add(tier.name)
        yield from _tier(tier, f"{path}.tiers[{i}]")
    yield from between(value.escalations_max, 0, ESCALATIONS_MAX, f"{path}.escalations_max")
    yield from between(value.confidence_min, 0, 1, f"{path}.confidence_min")
    if value.cost_nanousd_max is not None and value.cost_nanousd_max <= 0:
        yield Violation(f"{path}.cost_nanousd_max", "must be above 0")
    if len(value.config_version) > NAME_CHARS_MAX:
        yield Violation(f"{path}.config_version", f"must have at most {NAME_CHARS_MAX} characters")


def _tier(value: PlannedTier, path: str) -> Iterator[Violation]:
    if not 1 <= len(value.name) <= NAME_CHARS_MAX:
        yield Violation(f"{path}.name", f"must have 1 to {NAME_CHARS_MAX} characters")
    if not 1 <= len(value.targets) <= TARGETS_MAX:
        yield Violation(f"{path}.targets", f"must be 1 to {TARGETS_MAX}")
    for i, target in enumerate(value.targets[:TARGETS_MAX]):
        if not 1 <= len(target) <= NAME_CHARS_MAX:
            yield Violation(f"{path}.targets[{i}]", f"must have 1 to {NAME_CHARS_MAX} characters")
    if len(value.gates) > GATES_MAX:
        yield Violation(f"{path}.gates", f"must be at most {GATES_MAX}")
    for i, gate in enumerate(value.gates[:GATES_MAX]):
        yield from _gate(gate, f"{path}.gates[{i}]")
    if not 0 < value.attempt_timeout_s <= ATTEMPT_TIMEOUT_S_MAX:
        yield Violation(f"{path}.attempt_timeout", "must be above 0 and at most a day")
    if value.stream_prefix is not None:
        yield from between(value.stream_prefix.tokens, 1, PREFIX_TOKENS_MAX, f"{path}.stream_prefix.tokens")
        yield from between(value.stream_prefix.wait_s, 0, PREFIX_WAIT_S_MAX, f"{path}.stream_prefix.wait")


def _gate(value: GateSpec, path: str) -> Iterator[Violation]:
    match value:
        case AgreementSpec():
            yield from _agreement(value, f"{path}.agreement")
        case SelfConfidenceSpec():
            yield from between(value.threshold, 1, 5, f"{path}.self_confidence.threshold")
        case RulesSpec():
            yield from _rules(value, f"{path}.rules")
        case SelfEvaluationSpec():
            yield from chars(value.target, NAME_CHARS_MAX, f"{path}.self_evaluation.target")
            yield from between(value.score_min, 0, 1, f"{path}.self_evaluation.score_min")
        case LogprobSpec():
            for name in ("mean_min", "least_min", "span_mean_min"):
                yield from between(getattr(value, name), LOGPROB_MIN, 0, f"{path}.logprob.{name}")
        case JudgeSpec():
            if not value.target:
                yield Violation(f"{path}.judge.target", "must be set")
            yield from chars(value.target, NAME_CHARS_MAX, f"{path}.judge.target")
            yield from between(value.score_min, 0, 1, f"{path}.judge.score_min")
            yield from chars(value.rubric, RUBRIC_CHARS_MAX, f"{path}.judge.rubric")
        case CompositeSpec():
            yield from between(value.threshold, 0, 1, f"{path}.composite.threshold")
            if value.wrong_answer_cost_nanousd is not None and value.wrong_answer_cost_nanousd <= 0:
                yield Violation(f"{path}.composite.wrong_answer_cost_nanousd", "must be above 0")


def _agreement(value: AgreementSpec, path: str) -> Iterator[Violation]:
    yield from chars(value.second_target, NAME_CHARS_MAX, f"{path}.second_target")
    if len(value.further_targets) > FURTHER_TARGETS_MAX:
        yield Violation(f"{path}.further_targets", f"must be at most {FURTHER_TARGETS_MAX}")
    for i, target in enumerate(value.further_targets[:FURTHER_TARGETS_MAX]):
        yield from chars(target, NAME_CHARS_MAX, f"{path}.further_targets[{i}]")
    yield from between(value.agreeing_min, 0, 1 + FURTHER_TARGETS_MAX, f"{path}.agreeing_min")


def _rules(value: RulesSpec, path: str) -> Iterator[Violation]:
    if value.chars_min < 0:
        yield Violation(f"{path}.chars_min", "must be at least 0")
    if value.chars_max < 0 or 0 < value.chars_max < value.chars_min:
        yield Violation(f"{path}.chars_max", "must be 0 or at least chars_min")
    for name, number in (("number_min", value.number_min), ("number_max", value.number_max)):
        if number is not None and not math.isfinite(number):
            yield Violation(f"{path}.{name}", "must be a finite number")
    if value.number_min is not None and value.number_max is not None and value.number_min > value.number_max:
        yield Violation(f"{path}.number_max", "must be at least number_min")
    for name, patterns in (("must_match", value.must_match), ("must_not_match", value.must_not_match)):
        if len(patterns) > PATTERNS_MAX:
            yield Violation(f"{path}.{name}", f"must be at most {PATTERNS_MAX}")
        for i, pattern in enumerate(patterns[:PATTERNS_MAX]):
            if len(pattern) > PATTERN_CHARS_MAX:
                yield Violation(f"{path}.{name}[{i}]", f"must have at most {PATTERN_CHARS_MAX} characters")
            elif not _compiles(pattern):
                yield Violation(f"{path}.{name}[{i}]", "must be a regular expression")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
