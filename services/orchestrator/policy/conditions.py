"""Whether the condition of a rule holds, three-valued: it does, it does not and why, or only the judgement can say.

Promises: pure and deterministic; a finding never quotes the prompt. With a judgement nothing is open. What is open
without one and what is not agree: a condition that holds, or fails, without a judgement does so with every one.
What is visible is looked at before what has to be judged (task type, complexity, language), so that a rule often fails
without a judgement. A language that the judgement does not know is none of those named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.orchestrator.policy.facts import Facts, matches_endpoint
from spillway.routing import Classification, CompletionRequest
from spillway.settings import RuleCondition

__all__ = ["HOLDS", "OPEN", "Finding", "examine"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`holds`: None while only the judgement can say. `reason`: the first part that does not hold."""

    holds: bool | None
    reason: str = ""


HOLDS: Final = Finding(True)
OPEN: Final = Finding(None)


def examine(when: RuleCondition, facts: Facts, judgement: Classification | None) -> Finding:
    """What the request, and the judgement if there is one, say of the condition."""
    found = HOLDS
    for obstacle in _obstacles(when, facts, judgement):
        if obstacle.holds is False:
            return obstacle
        found = OPEN
    return found


def _obstacles(when: RuleCondition, facts: Facts, judgement: Classification | None) -> Iterator[Finding]:
    """The parts that do not hold, or are open; cheapest first."""
    for reason in _visible_failures(when, facts):
        yield Finding(False, reason)
    if when.any_of is not None:
        yield from _any_of(when.any_of, facts, judgement)
    if when.none_of is not None:
        yield from _none_of(when.none_of, facts, judgement)
    if judgement is not None:
        for reason in _judged_failures(when, judgement):
            yield Finding(False, reason)
    elif not (when.task_type is None and when.complexity is None and when.language is None):
        yield OPEN


def _any_of(alternatives: Sequence[RuleCondition], facts: Facts, judgement: Classification | None) -> Iterator[Finding]:
    found = [examine(each, facts, judgement) for each in alternatives]
    if any(each.holds for each in found):
        return
    if any(each.holds is None for each in found):
        yield OPEN
    else:
        yield Finding(False, f"any_of: none of {len(found)} holds (the first: {found[0].reason})")


def _none_of(excluded: Sequence[RuleCondition], facts: Facts, judgement: Classification | None) -> Iterator[Finding]:
    found = [examine(each, facts, judgement).holds for each in excluded]
    if True in found:
        yield Finding(False, f"none_of: number {found.index(True) + 1} holds")
    elif None in found:
        yield OPEN


def _visible_failures(when: RuleCondition, facts: Facts) -> Iterator[str]:
    yield from _failures_of_size(when, facts)
    yield from _failures_of_names(when, facts.request)
    if when.has_tools is not None and bool(facts.request.chat.tools) is not when.has_tools:
        yield f"has_tools: the request has {'' if facts.request.chat.tools else 'no '}tools"
    if when.has_images is not None and facts.has_images is not when.has_images:
        yield f"has_images: the request has {'' if facts.has_images else 'no '}images"
    if when.time is not None and not facts.is_at(when.time):
        yield f"time: the request came in at another time of the week ({when.time.timezone})"
    if when.keywords is not None and not any(facts.has_keyword(word) for word in when.keywords):
        yield "keywords: none is in the last user turn"
    if when.has_code is not None and facts.has_code is not when.has_code:
        yield f"has_code: the last user turn has {'' if facts.has_code else 'no '}source code"


def _failures_of_size(when: RuleCondition, facts: Facts) -> Iterator[str]:
    for name, unit, least, most, size in (
        ("input_chars", "characters", when.input_chars_min, when.input_chars_max, facts.input_chars),
        ("input_tokens", "tokens (estimated)", when.input_tokens_min, when.input_tokens_max, facts.input_tokens),
        ("messages", "messages", when.messages_min, None, len(facts.request.chat.messages)),
    ):
        if least is not None and size < least:
            yield f"{name}_min: {size} {unit} are fewer than {least}"
        if most is not None and size > most:
            yield f"{name}_max: {size} {unit} are more than {most}"


def _failures_of_names(when: RuleCondition, request: CompletionRequest) -> Iterator[str]:
    if when.user_tier is not None and request.user_tier not in when.user_tier:
        yield "user_tier: not one of those named"
    if when.endpoint is not None and not any(matches_endpoint(each, request.endpoint) for each in when.endpoint):
        yield "endpoint: not one of those named"
    if when.tags is not None and not set(when.tags) & set(request.tags):
        yield "tags: none of those named"


def _judged_failures(when: RuleCondition, judgement: Classification) -> Iterator[str]:
    if when.task_type is not None and judgement.task_type not in when.task_type:
        yield f"task_type: {judgement.task_type} is not one of those named"
    if when.complexity is not None and judgement.complexity not in when.complexity:
        yield f"complexity: {judgement.complexity} is not one of those named"
    if when.language is not None and judgement.language not in when.language:
        yield f"language: {judgement.language or 'not known, and so'} is not one of those named"
