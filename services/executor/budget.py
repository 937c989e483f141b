"""What an execution may still spend: time and money.

Promises: pure. Estimates of money are upper bounds in practice, not in theory: characters divided by four stand for
tokens. Two stated rules:
- a rung may use half of the time that remains when it is entered, the last rung all of it; within a rung an attempt
  may use half of what its rung has left while another target of the rung is untried, else all. So the last rung of
  three keeps at least a quarter of the deadline, whatever happened below it;
- a step is made only when its estimate fits into what is left under the ceiling.
"""

from __future__ import annotations

from typing import Final

from spillway.chat import ChatRequest, ImagePart, TextPart, Usage
from spillway.settings import Price

__all__ = [
    "ATTEMPT_S_MIN",
    "NOTES_CHARS_MAX",
    "CostCeiling",
    "attempt_timeout_s",
    "estimate_call",
    "estimate_input_tokens",
    "estimate_output_tokens",
    "rung_reserve_s",
]

ATTEMPT_S_MIN: Final = 0.02  # with less time than this no call is started
NOTES_CHARS_MAX: Final = 600  # what gates may add to a prompt: instructions and notes
_CHARS_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4  # roles and separators
_TOKENS_PER_IMAGE: Final = 1_000
_OUTPUT_TOKENS_DEFAULT: Final = 1_024  # when the request names no limit


def rung_reserve_s(remaining_s: float, *, is_last: bool) -> float:
    """How much of `remaining_s` a rung that is entered now must leave to the rungs after it."""
    return 0.0 if is_last else remaining_s / 2


def attempt_timeout_s(
    remaining_s: float, reserve_s: float, tier_timeout_s: float, *, has_fallback: bool
) -> float | None:
    """The time that one attempt may take; None when its rung has not enough left to start one."""
    available_s = remaining_s - reserve_s
    if available_s < ATTEMPT_S_MIN:
        return None
    shared_s = available_s / 2 if has_fallback else available_s
    return min(tier_timeout_s, max(shared_s, ATTEMPT_S_MIN))


def estimate_output_tokens(chars: int) -> int:
    """Tokens in `chars` characters."""
    return -(-chars // _CHARS_PER_TOKEN)


def estimate_input_tokens(chat: ChatRequest) -> int:
    """Tokens that a model will count for `chat`."""
    chars = images = 0
    for message in chat.messages:
        chars += len(message.name) + len(message.tool_call_id)
        chars += sum(len(call.name) + len(call.arguments_json) for call in message.tool_calls)
        for part in message.parts:
            if isinstance(part, TextPart):
                chars += len(part.text)
            elif isinstance(part, ImagePart):
                images += 1
    chars += sum(len(t.name) + len(t.description) + len(t.parameters_schema_json) for t in chat.tools)
    chars += len(chat.response_format.schema_json) if chat.response_format else 0
    return estimate_output_tokens(chars) + _TOKENS_PER_MESSAGE * len(chat.messages) + _TOKENS_PER_IMAGE * images


def estimate_call(chat: ChatRequest, price: Price) -> int:
    """The most that one call is expected to cost, in nano US dollars, gate instructions and notes included."""
    return price.nanousd(
        Usage(
            input_tokens=estimate_input_tokens(chat) + estimate_output_tokens(NOTES_CHARS_MAX),
            output_tokens=chat.generation.max_output_tokens or _OUTPUT_TOKENS_DEFAULT,
        )
    )


class CostCeiling:
    """What has been spent, and whether a step still fits. None means no ceiling."""

    __slots__ = ("_max", "_spent")

    def __init__(self, nanousd_max: int | None) -> None:
        self._max = nanousd_max
        self._spent = 0

    def spend(self, nanousd: int) -> None:
        """Counts what was really spent, which may be more than was estimated."""
        self._spent += nanousd

    def admits(self, estimate_nanousd: int) -> bool:
        """Whether a step of this estimate may be made."""
        return self._max is None or self._spent + estimate_nanousd <= self._max
