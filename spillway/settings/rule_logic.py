"""What the conditions of rules say of each other: that one can never hold, or never without another.

Promises: pure, and sound: what is claimed is true of every request and every judgement. It is not complete: where a
proof is not found within `STEPS_MAX` steps, nothing is claimed. Reasons by: sizes as ranges (a token is four
characters), properties with one value as sets of values, words and tags of which any will do, the hours of the week,
yes and no, and `any_of` and `none_of` of all that.

A conjunction is a tuple of conditions that hold together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from spillway.routing import Complexity, TaskType
from spillway.settings.policy import RuleCondition, WeekTime
from spillway.settings.week import WEEK_MINUTES, minutes

__all__ = ["STEPS_MAX", "Reasoner"]

STEPS_MAX: Final = 100_000  # about a second; a few hundred are enough for conditions as people write them
_DEPTH_MAX: Final = 8
_CHARS_PER_TOKEN: Final = 4
_WHOLE_WEEK: Final = (1 << WEEK_MINUTES) - 1

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

Conjunction = tuple[RuleCondition, ...]

_FLAGS: Final = ("has_tools", "has_images", "has_code")
# Properties of which a request has exactly one value, and all values there are.
_DOMAINS: Final[dict[str, frozenset[str] | None]] = {
    "user_tier": None,
    "task_type": frozenset(TaskType),
    "complexity": frozenset(Complexity),
    "language": None,
}
# Lists of which any will do.
_LISTS: Final = ("keywords", "tags")


@dataclass(frozen=True, slots=True)
class _Range:
    least: float = 0.0
    most: float = math.inf

    def within(self, other: _Range) -> bool:
        return other.least <= self.least and self.most <= other.most


class Reasoner:
    """One search for proofs. Steps are counted over all questions that it is asked."""

    def __init__(self, steps_max: int = STEPS_MAX) -> None:
        self._steps_left = steps_max

    def is_impossible(self, *conditions: RuleCondition) -> bool:
        """Whether it is proven that no request meets all of these."""
        return self._impossible(conditions, 0)

    def implies(self, first: RuleCondition, second: RuleCondition) -> bool:
        """Whether it is proven that whatever meets the first meets the second."""
        return self._implies((first,), second, 0)

    def is_covered(self, condition: RuleCondition, others: Sequence[RuleCondition]) -> bool:
        """Whether it is proven that whatever meets the condition meets one of the others."""
        return self._covered((condition,), others, 0)

    def _spend(self, depth: int) -> bool:
        self._steps_left -= 1
        return self._steps_left >= 0 and depth <= _DEPTH_MAX

    def _impossible(self, all_of: Conjunction, depth: int) -> bool:
        if not self._spend(depth):
            return False
        if _contradict(all_of):
            return True
        excluded = [condition for each in all_of for condition in each.none_of or ()]
        if excluded and self._covered(all_of, excluded, depth + 1):
            return True
        return any(all(self._impossible(case, depth + 1) for case in cases) for cases in _alternatives(all_of))

    def _implies(self, all_of: Conjunction, then: RuleCondition, depth: int) -> bool:
        if not self._spend(depth):
            return False
        if self._implies_each(all_of, then, depth):
            return True
        # By cases: whichever alternative it is that holds.
        return any(
            all(self._impossible(case, depth + 1) or self._implies(case, then, depth + 1) for case in cases)
            for cases in _alternatives(all_of)
        )

    def _implies_each(self, all_of: Conjunction, then: RuleCondition, depth: int) -> bool:
        if not _entail(all_of, then):
            return False
        if then.any_of is not None and not self._covered(all_of, then.any_of, depth + 1):
            return False
        return all(self._impossible((*all_of, excluded), depth + 1) for excluded in then.none_of or ())

    def _covered(self, all_of: Conjunction, others: Sequence[RuleCondition], depth: int) -> bool:
        if not self._spend(depth):
            return False
        if any(self._implies(all_of, other, depth + 1) for other in others):
            return True
        # By cases: whichever value a property has that the others look at.
        return any(
            all(self._impossible(case, depth + 1) or self._covered(case, others, depth + 1) for case in cases)
            for cases in (*_alternatives(all_of), *_cases(all_of, others))
        )


def _alternatives(all_of: Conjunction) -> Iterator[list[Conjunction]]:
    """The cases that an `any_of` leaves, one of which holds."""
    for at, each in enumerate(all_of):
        if each.any_of is not None:
            rest = (*all_of[:at], each.model_copy(update={"any_of": None}), *all_of[at + 1 :])
            yield [(*rest, alternative) for alternative in each.any_of]


def _contradict(all_of: Conjunction) -> bool:
    """Whether the plain parts cannot hold together."""
    sizes = _chars(all_of)
    if sizes.least > sizes.most:
        return True
    if any(len({value for each in all_of if (value := getattr(each, flag)) is not None}) > 1 for flag in _FLAGS):
        return True
    if any(_values(all_of, name) == frozenset() for name in _DOMAINS):
        return True
    if any(_words(each, name) == frozenset() for each in all_of for name in _LISTS):
        return True
    zones = {each.time.timezone for each in all_of if each.time is not None}
    return any(not _minutes_in(all_of, zone) for zone in zones) or _endpoints_contradict(all_of)


def _entail(all_of: Conjunction, then: RuleCondition) -> bool:
    """Whether the plain parts of `then` follow from those of the conjunction."""
    if not _chars(all_of).within(_chars((then,))):
        return False
    if max((each.messages_min or 1 for each in all_of), default=1) < (then.messages_min or 1):
        return False
    for flag in _FLAGS:
        wanted = getattr(then, flag)
        if wanted is not None and all(getattr(each, flag) is not wanted for each in all_of):
            return False
    for name in _DOMAINS:
        found, wanted_values = _values(all_of, name), _values((then,), name)
        if wanted_values is not None and (found is None or not found <= wanted_values):
            return False
    for name in _LISTS:
        words = _words(then, name)
        if words is not None and not any((own := _words(each, name)) is not None and own <= words for each in all_of):
            return False
    return _entail_endpoint(all_of, then) and _entail_time(all_of, then.time)


def _chars(all_of: Conjunction) -> _Range:
    """The characters of the input."""
    least, most = 0.0, math.inf
    for each in all_of:
        least = max(least, each.input_chars_min or 0)
        if each.input_tokens_min:
            least = max(least, (each.input_tokens_min - 1) * _CHARS_PER_TOKEN + 1)
        if each.keywords:
            # In any case: a letter may be two when its case is folded, hardly three.
            least = max(least, min(len(word) // 3 for word in each.keywords))
        if each.input_chars_max is not None:
            most = min(most, each.input_chars_max)
        if each.input_tokens_max is not None:
            most = min(most, each.input_tokens_max * _CHARS_PER_TOKEN)
    return _Range(least, most)


def _values(all_of: Conjunction, name: str) -> frozenset[str] | None:
    """The values that the property may have; None: any, of which nobody has a list."""
    allowed = _DOMAINS[name]
    for each in all_of:
        listed = getattr(each, name)
        if listed is not None:
            allowed = frozenset(listed) if allowed is None else allowed & frozenset(listed)
    return allowed


def _words(when: RuleCondition, name: str) -> frozenset[str] | None:
    """The list's words, each as it is compared."""
    listed: list[str] | None = getattr(when, name)
    if listed is None:
        return None
    return frozenset(word.casefold() for word in listed if word) if name == "keywords" else frozenset(listed)


def _matches_all_of(pattern: str, other: str) -> bool:
    """Whether an endpoint pattern takes whatever another one takes."""
    if pattern.endswith("*"):
        return other.removesuffix("*").startswith(pattern[:-1])
    return pattern == other


def _entail_endpoint(all_of: Conjunction, then: RuleCondition) -> bool:
    if then.endpoint is None:
        return True
    wanted = then.endpoint
    return any(
        each.endpoint is not None
        and all(any(_matches_all_of(pattern, own) for pattern in wanted) for own in each.endpoint)
        for each in all_of
    )


def _endpoints_contradict(all_of: Conjunction) -> bool:
    lists = [each.endpoint for each in all_of if each.endpoint is not None]
    return any(
        not any(_matches_all_of(a, b) or _matches_all_of(b, a) for a in first for b in second)
        for at, first in enumerate(lists)
        for second in lists[at + 1 :]
    )


def _minutes_in(all_of: Conjunction, timezone: str) -> int:
    """The minutes of the week that the conditions in one time zone leave, as a mask. Other zones are not compared."""
    left = _WHOLE_WEEK
    for each in all_of:
        if each.time is not None and each.time.timezone == timezone:
            left &= _mask(each.time)
    return left


def _mask(part: WeekTime) -> int:
    return _mask_of(None if part.days is None else tuple(part.days), part.start, part.end)


@lru_cache(maxsize=512)
def _mask_of(days: tuple[Day, ...] | None, start: str, end: str) -> int:
    part = WeekTime(days=None if days is None else list(days), start=start, end=end)
    return sum(1 << minute for minute in minutes(part))


def _entail_time(all_of: Conjunction, wanted: WeekTime | None) -> bool:
    if wanted is None:
        return True
    return _minutes_in(all_of, wanted.timezone) & ~_mask(wanted) == 0


def _cases(all_of: Conjunction, others: Sequence[RuleCondition]) -> Iterator[list[Conjunction]]:
    """Ways to cut all requests that meet the conjunction into cases, along what the others look at."""
    for values in _cuts(all_of, others):
        yield [(*all_of, RuleCondition.model_validate(value)) for value in values]


def _cuts(all_of: Conjunction, others: Sequence[RuleCondition]) -> Iterator[list[dict[str, Any]]]:
    for flag in _FLAGS:
        is_open = all(getattr(each, flag) is None for each in all_of)
        if is_open and any(getattr(other, flag) is not None for other in others):
            yield [{flag: True}, {flag: False}]
    for name in _DOMAINS:
        found = _values(all_of, name)
        if found is not None and len(found) > 1 and any(getattr(other, name) is not None for other in others):
            yield [{name: [value]} for value in sorted(found)]
    for name in _LISTS:
        lists = [words for each in all_of if (words := _words(each, name)) is not None]
        is_open = bool(lists) and all(len(words) > 1 for words in lists)
        if is_open and any(getattr(other, name) is not None for other in others):
            yield [{name: [word]} for word in sorted(lists[0])]
    own = _chars(all_of)
    borders = (int(most) for other in others if own.least <= (most := _chars((other,)).most) < own.most)
    for border in itertools.islice(borders, 1):
        yield [{"input_chars_max": border}, {"input_chars_min": border + 1}]
