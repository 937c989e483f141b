"""What an execution may still spend: time and money.

Promises: pure. Estimates of money are upper bounds in practice, not in theory: characters divided by four stand for
tokens. The stated rules:
- the time that remains when a rung is entered is split over it and the rungs above it by how long their targets
  usually take (equally while that is not known), but a rung takes a tenth of it at least and half of it at most; the
  last rung has all of it. So the last rung of three keeps at least a quarter of the deadline, whatever happened below
  it, and a quick cheap rung leaves more than that to a slow strong one;
- within a rung an attempt may use half of what its rung has left while another target of the rung is untried;
- where something else can follow, an attempt is given up early: after `EARLY_FACTOR` times as long as its target
  usually takes, but not before `EARLY_S_MIN`;
- a step is made only when its estimate fits into what is left under the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spillway.chat import ChatRequest, ImagePart, TextPart, Usage
from spillway.settings import Price

__all__ = [
    "ATTEMPT_S_MIN",
    "EARLY_FACTOR",
    "EARLY_S_MIN",
    "NOTES_CHARS_MAX",
    "CostCeiling",
    "attempt_timeout_s",
    "early_timeout_s",
    "estimate_call",
    "estimate_input_tokens",
    "estimate_output_tokens",
    "rung_reserve_s",
]

ATTEMPT_S_MIN: Final = 0.02  # with less time than this no call is started
EARLY_S_MIN: Final = 1.0
EARLY_FACTOR: Final = 4.0  # of the time within which nearly all calls ended: what is longer is stuck, not thorough
_SHARE_MIN: Final = 0.1
_SHARE_MAX: Final = 0.5
NOTES_CHARS_MAX: Final = 600  # what gates may add to a prompt: instructions and notes
_CHARS_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4  # roles and separators
_TOKENS_PER_IMAGE: Final = 1_000
_OUTPUT_TOKENS_DEFAULT: Final = 1_024  # when the request names no limit


def rung_reserve_s(remaining_s: float, typical_s: Sequence[float | None]) -> float:
    """How much of `remaining_s` a rung that is entered now must leave to the rungs after it.

    `typical_s` says how long the rung usually takes, then the same of each rung above it; None where it is not known.
    """
    if len(typical_s) == 1:
        return 0.0
    known_s = [seconds for seconds in typical_s if seconds is not None]
    unknown_s = sum(known_s) / len(known_s) if known_s else 1.0
    weights = [unknown_s if seconds is None else seconds for seconds in typical_s]
    total = sum(weights)
    share = weights[0] / total if total > 0 else 1 / len(weights)
    return remaining_s * (1 - min(max(share, _SHARE_MIN), _SHARE_MAX))


def early_timeout_s(typical_s: float | None) -> float | None:
    """After how long a call is given up when something else can follow; None when its target is not known yet."""
    return None if typical_s is None else max(EARLY_S_MIN, EARLY_FACTOR * typical_s)


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
