"""Static rules: which rule of the policy a request meets, and why the others were not met.

Promises: pure and deterministic; the first rule whose conditions all hold is the one; each trial names the first
condition that did not hold, and never quotes the prompt. What is visible is looked at before what has to be judged
(task type, complexity), so that a rule often fails without a judgement; one that cannot is *open*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from spillway.chat import ImagePart
from spillway.routing import Classification, CompletionRequest, RuleTrial
from spillway.settings import Rule, RuleCondition

__all__ = ["Facts", "RuleSearch", "find_rule", "matches_endpoint"]

# From this code point on (Thai, CJK, Hangul, ...) scripts do not put spaces around words: a keyword is found anywhere.
_UNSPACED_SCRIPTS_FROM = "\u0e00"


class Facts:
    """What rules may look at in one request; each fact is computed when a rule first asks for it."""

    def __init__(self, request: CompletionRequest) -> None:
        self.request = request

    @cached_property
    def input_chars(self) -> int:
        """Characters of text in all messages."""
        return sum(len(message.text) for message in self.request.chat.messages)

    @cached_property
    def has_images(self) -> bool:
        """Whether any message has a picture."""
        return any(isinstance(part, ImagePart) for m in self.request.chat.messages for part in m.parts)

    @cached_property
    def folded_last_turn(self) -> str:
        """The last user turn, case-folded."""
        return self.request.chat.last_user_text.casefold()


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
        failed = _first_failed(rule.when, facts)
        if failed is None and _needs_judgement(rule.when):
            if judgement is None:
                return RuleSearch(tuple(trials), open_rules=tuple(_still_possible(rules[position:], facts)))
            failed = _first_failed_judged(rule.when, judgement)
        trials.append(RuleTrial(rule=rule.name, matched=failed is None, reason=failed or ""))
        if failed is None:
            return RuleSearch(tuple(trials), matched=rule)
    return RuleSearch(tuple(trials))


def matches_endpoint(pattern: str, endpoint: str) -> bool:
    """Equal, or a prefix when the pattern ends with `*`."""
    if pattern.endswith("*"):
        return endpoint.startswith(pattern[:-1])
    return endpoint == pattern


def _still_possible(rules: Sequence[Rule], facts: Facts) -> Iterator[Rule]:
    for rule in rules:
        if _first_failed(rule.when, facts) is None:
            yield rule
            if not _needs_judgement(rule.when):
                return


def _needs_judgement(when: RuleCondition) -> bool:
    return when.task_type is not None or when.complexity is not None


def _first_failed(when: RuleCondition, facts: Facts) -> str | None:
    return next(_failures(when, facts), None)


def _failures(when: RuleCondition, facts: Facts) -> Iterator[str]:
    """The visible conditions that do not hold, cheapest first."""
    request = facts.request
    if when.input_chars_min is not None and facts.input_chars < when.input_chars_min:
        yield f"input_chars_min: {facts.input_chars} characters are fewer than {when.input_chars_min}"
    if when.input_chars_max is not None and facts.input_chars > when.input_chars_max:
        yield f"input_chars_max: {facts.input_chars} characters are more than {when.input_chars_max}"
    if when.messages_min is not None and len(request.chat.messages) < when.messages_min:
        yield f"messages_min: {len(request.chat.messages)} messages are fewer than {when.messages_min}"
    if when.has_tools is not None and bool(request.chat.tools) is not when.has_tools:
        yield f"has_tools: the request has {'' if request.chat.tools else 'no '}tools"
    if when.has_images is not None and facts.has_images is not when.has_images:
        yield f"has_images: the request has {'' if facts.has_images else 'no '}images"
    yield from _failures_of_names(when, request)
    if when.keywords is not None and not any(_has_word(facts.folded_last_turn, k.casefold()) for k in when.keywords):
        yield "keywords: none is in the last user turn"


def _failures_of_names(when: RuleCondition, request: CompletionRequest) -> Iterator[str]:
    if when.user_tier is not None and request.user_tier not in when.user_tier:
        yield "user_tier: not one of those named"
    if when.endpoint is not None and not any(matches_endpoint(each, request.endpoint) for each in when.endpoint):
        yield "endpoint: not one of those named"
    if when.tags is not None and not set(when.tags) & set(request.tags):
        yield "tags: none of those named"


def _first_failed_judged(when: RuleCondition, judgement: Classification) -> str | None:
    if when.task_type is not None and judgement.task_type not in when.task_type:
        return f"task_type: {judgement.task_type} is not one of those named"
    if when.complexity is not None and judgement.complexity not in when.complexity:
        return f"complexity: {judgement.complexity} is not one of those named"
    return None


def _has_word(text: str, word: str) -> bool:
    """Whether `word` (or a phrase) stands in `text`, not as a part of a longer word. Both are case-folded."""
    if not word:
        return False
    unspaced = any(char >= _UNSPACED_SCRIPTS_FROM for char in word)
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        starts = not word[0].isalnum() or at == 0 or not text[at - 1].isalnum()
        ends = not word[-1].isalnum() or end == len(text) or not text[end].isalnum()
        if unspaced or (starts and ends):
            return True
        at = text.find(word, at + 1)
    return False
