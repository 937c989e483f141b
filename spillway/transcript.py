"""A conversation as one text, for models that grade it.

Promises: pure. Calls of tools are said, pictures are not; what is too long loses its middle, and says so.
"""

from __future__ import annotations

from typing import Final

from spillway.chat import ChatRequest, Message

__all__ = ["shortened", "transcript", "words_of"]

_CUT: Final = "\n[... left out ...]\n"


def transcript(chat: ChatRequest) -> str:
    """What was asked: the words alone when it is one message, else every message under its speaker."""
    if len(chat.messages) == 1:
        return chat.messages[0].text
    return "\n\n".join(f"[{message.role.value}]\n{words_of(message)}" for message in chat.messages)


def words_of(message: Message) -> str:
    """Its text and its calls of tools."""
    calls = [f"[tool call] {call.name}({call.arguments_json})" for call in message.tool_calls]
    return "\n".join(filter(None, (message.text, *calls)))


def shortened(text: str, chars_max: int) -> str:
    """The text, or the beginning and the end of a longer one, `chars_max` together, with a remark between them."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return text[:half] + _CUT + text[-half:]
