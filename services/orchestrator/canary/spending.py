"""What canaries may cost: bounds before a call, and a budget for each day.

Promises: pure; time comes in. What is spent and reserved in one day (UTC) never exceeds the budget, as long as no call
costs more than its bound. Of text that is known a bound holds: no tokenizer makes more tokens of it than it has bytes.
Pictures are estimated, and so is what a judge of another family will count of what the flagship is yet to write (four
bytes a token). A reservation belongs to the day in which it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.orchestrator.canary.judging import JUDGE_TOKENS_MAX, TEXT_CHARS_MAX
from spillway.chat import ChatRequest, ImagePart, Message, TextPart, Usage
from spillway.settings import Target

__all__ = ["Bound", "Bounds", "DailyBudget", "Reserved", "bounds_of", "output_tokens_max"]

NANOUSD_PER_USD: Final = 1_000_000_000
OUTPUT_TOKENS_LEAST: Final = 4_096
"""What the flagship may always write: room for one that thinks first. More when the answer beside it was long."""

_OUTPUT_FACTOR: Final = 4
_BYTES_PER_CHAR_MAX: Final = 4
_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 16  # roles, separators, marks
_TOKENS_PER_IMAGE: Final = 2_000
_JUDGE_WORDS_BYTES: Final = 2_048
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that something costs."""

    cost_nanousd: int
    tokens: int

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.cost_nanousd + other.cost_nanousd, self.tokens + other.tokens)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the flagship's call, and of each of the judge's two."""

    flagship: Bound
    judge: Bound

    @property
    def total(self) -> Bound:
        """Of all three."""
        return self.flagship + self.judge + self.judge


@dataclass(frozen=True, slots=True)
class Reserved:
    """A part of one day's budget; to be settled once."""

    day: int
    cost_nanousd: int


class DailyBudget:
    """The budget of one process. Times are seconds since 1970."""

    def __init__(self, cost_usd_per_day: float) -> None:
        self._day = 0
        self._taken = 0
        self.apply(cost_usd_per_day)

    def apply(self, cost_usd_per_day: float) -> None:
        """Goes on with another budget; what has been spent of today's stays spent."""
        self._max = round(cost_usd_per_day * NANOUSD_PER_USD)

    def reserve(self, cost_nanousd: int, now_unix_s: float) -> Reserved | None:
        """A part of today's budget, or None when so much is not left."""
        day = int(now_unix_s // _DAY_S)
        if day > self._day:  # never back: a clock that jumps must not give a day's money again
            self._day, self._taken = day, 0
        if self._taken + cost_nanousd > self._max:
            return None
        self._taken += cost_nanousd
        return Reserved(self._day, cost_nanousd)

    def settle(self, reserved: Reserved, cost_nanousd: int) -> None:
        """Gives back what was not spent; or takes what was spent beyond it."""
        if reserved.day == self._day:
            self._taken += cost_nanousd - reserved.cost_nanousd

    def taken_nanousd(self) -> int:
        """Spent and reserved, of the day that was last heard of."""
        return self._taken


def output_tokens_max(chat: ChatRequest, usage: Usage) -> int:
    """How much the flagship may write: as much as the request allows, and not much more than the answer beside it."""
    most = max(OUTPUT_TOKENS_LEAST, _OUTPUT_FACTOR * usage.output_tokens)
    asked = chat.generation.max_output_tokens
    return most if asked is None else min(most, asked)


def bounds_of(chat: ChatRequest, answer: Message, output_tokens: int, flagship: Target, judge: Target) -> Bounds:
    """Before the flagship's answer is known."""
    asked = _input_tokens(chat)
    shown = min(output_tokens * _BYTES_PER_TOKEN, TEXT_CHARS_MAX * _BYTES_PER_CHAR_MAX)
    if judge.model == flagship.model:
        shown = min(shown, output_tokens)
    judged = asked + _bytes(answer) + shown + _JUDGE_WORDS_BYTES
    return Bounds(_bound(flagship, asked, output_tokens), _bound(judge, judged, JUDGE_TOKENS_MAX))


def _bound(target: Target, input_tokens: int, output_tokens: int) -> Bound:
    cost = target.price.nanousd(Usage(input_tokens, output_tokens))
    return Bound(cost, input_tokens + output_tokens)


def _input_tokens(chat: ChatRequest) -> int:
    tokens = sum(_bytes(message) + _TOKENS_PER_MESSAGE for message in chat.messages)
    for tool in chat.tools:
        tokens += len(f"{tool.name}{tool.description}{tool.parameters_schema_json}".encode("utf-8", "replace"))
        tokens += _TOKENS_PER_MESSAGE
    tokens += len(chat.response_format.schema_json.encode("utf-8", "replace")) if chat.response_format else 0
    return tokens


def _bytes(message: Message) -> int:
    count = len(message.name) + len(message.tool_call_id)
    count += sum(len(f"{call.name}{call.arguments_json}".encode("utf-8", "replace")) for call in message.tool_calls)
    for part in message.parts:
        if isinstance(part, TextPart):
            count += len(part.text.encode("utf-8", "replace"))
        elif isinstance(part, ImagePart):
            count += _TOKENS_PER_IMAGE
    return count
