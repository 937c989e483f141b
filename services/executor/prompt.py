"""What is added to a prompt before it is sent: instructions of gates, and what was wrong with an earlier answer.

Promises: pure. Additions stand in the system message, the first one if there is one; nothing that the caller wrote is
changed or left out. They are at most `budget.NOTES_CHARS_MAX` characters, for every character is paid for at the next
model's price; other models' answers are never shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.executor.budget import NOTES_CHARS_MAX
from services.executor.gates import hard_failure, self_confidence
from services.executor.gates.composite import asks_for_confidence
from spillway.chat import ChatRequest, Message, Role, TextPart
from spillway.routing import PlannedTier

__all__ = ["another_sample", "augment"]

_NOTES_CHARS_MAX: Final = NOTES_CHARS_MAX - len(self_confidence.INSTRUCTION) - len(hard_failure.INSTRUCTION) - 80
_TEMPERATURE_MIN: Final = 0.7


def augment(chat: ChatRequest, tier: PlannedTier, notes: tuple[str, ...], *, is_last: bool = False) -> ChatRequest:
    """`chat` with the notes on an earlier answer and the instructions that the tier needs.

    The way out is offered only where a better model can follow.
    """
    additions = []
    if notes:
        additions.append(f"An earlier attempt was rejected ({'; '.join(notes)[:_NOTES_CHARS_MAX]}). Take care.")
    if tier.escape_valve and not is_last:
        additions.append(hard_failure.INSTRUCTION)
    if asks_for_confidence(tier.gates, chat):
        additions.append(self_confidence.INSTRUCTION)
    if not additions:
        return chat
    part = TextPart("\n\n".join(additions))
    first = chat.messages[0]
    if first.role is Role.SYSTEM:
        return replace(chat, messages=(replace(first, parts=(*first.parts, part)), *chat.messages[1:]))
    return replace(chat, messages=(Message(Role.SYSTEM, (part,)), *chat.messages))


def another_sample(chat: ChatRequest) -> ChatRequest:
    """`chat` as it is asked the second time of the same model: without a seed, and warm enough to differ."""
    temperature = max(chat.generation.temperature or 0.0, _TEMPERATURE_MIN)
    return replace(chat, generation=replace(chat.generation, temperature=temperature, seed=None))
