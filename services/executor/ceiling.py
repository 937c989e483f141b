"""What one call may take of the money that an execution has left.

Promises: pure. Without a ceiling a call is sent as it is, and costs about what `budget` estimates. Under one it is sent
with a limit of output tokens that what is left pays for, whatever the input may come to (`spillway.bounds`); with money
for less than `output_tokens_least` it is not sent. So what the calls of an execution truly cost together is never more
than the ceiling, as long as providers keep to their limits: each call holds the most that it can cost until its cost is
known, and a call of which nothing is known afterwards (cancelled, broken off, or never counted) has cost that much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.executor.budget import estimate_call
from spillway.bounds import cost_most, input_tokens_most, output_tokens_least, output_tokens_most
from spillway.chat import ChatRequest, Usage
from spillway.settings import Price

__all__ = ["Grant", "full_nanousd", "grant", "least_nanousd"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that may be made: how it is sent, what it holds of the money, and, under a ceiling, its most tokens."""

    chat: ChatRequest
    nanousd: int
    most: Usage | None = None


def full_nanousd(chat: ChatRequest, price: Price) -> int:
    """What a call costs at most when nothing is taken away from it."""
    return cost_most(price, input_tokens_most(chat), output_tokens_most(chat))


def least_nanousd(chat: ChatRequest, price: Price) -> int:
    """What must be left for a call to be made."""
    return cost_most(price, input_tokens_most(chat), output_tokens_least(chat))


def grant(chat: ChatRequest, price: Price, left_nanousd: int | None) -> Grant | None:
    """The call that `left_nanousd` pays for; None when it pays for none. Without a ceiling `left_nanousd` is None."""
    if left_nanousd is None:
        return Grant(chat, estimate_call(chat, price))
    tokens_in = input_tokens_most(chat)
    tokens_out, least = output_tokens_most(chat), output_tokens_least(chat)
    if cost_most(price, tokens_in, tokens_out) > left_nanousd:
        tokens_out = _affordable(price, tokens_in, left_nanousd, tokens_out)
    if tokens_out < least:
        return None
    limited = replace(chat, generation=replace(chat.generation, max_output_tokens=tokens_out))
    return Grant(limited, cost_most(price, tokens_in, tokens_out), Usage(tokens_in, tokens_out))


def _affordable(price: Price, tokens_in: int, left_nanousd: int, tokens_max: int) -> int:
    """The most output tokens below `tokens_max` that are paid for; -1 when not even the input is."""
    low, high = -1, tokens_max  # what is paid for, and what is not
    while high - low > 1:
        middle = (low + high) // 2
        if cost_most(price, tokens_in, middle) <= left_nanousd:
            low = middle
        else:
            high = middle
    return low
