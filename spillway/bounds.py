"""The most that a request can take: tokens in, tokens out, money. Bounds, where the executor's `budget` estimates.

Promises: pure. `input_tokens_most` is at least what any tokenizer in use counts for the request:
- a byte-level BPE and a SentencePiece model with byte fallback never make more tokens than the text has bytes in UTF-8,
  since every token stands for one byte or more; tokenizers that normalise first (NFKC may make one character eighteen)
  are covered by taking the longer of both forms;
- JSON (schemas, arguments of tools) is counted as the longest form in which templates write it: indented, and escaped;
- what servers add around messages, tools and the whole is a constant, above what is documented for any of them;
- a picture counts as the dearest documented one (48,169 tokens: gpt-4o-mini, eight tiles).
It is three to five times what English text comes to. That is no waste of a budget, for it is held only until the real
cost is known, and the output, which costs four to eight times as much per token, is most of the bound anyway.
A provider keeps to the bound of the output as long as it obeys the limit of output tokens that it is sent.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Final

from spillway.chat import ChatRequest, ImagePart, Message, TextPart
from spillway.settings.ladder import Price

__all__ = [
    "OUTPUT_TOKENS_DEFAULT",
    "OUTPUT_TOKENS_LEAST",
    "cost_most",
    "input_tokens_most",
    "output_tokens_least",
    "output_tokens_most",
    "text_tokens_most",
]

OUTPUT_TOKENS_DEFAULT: Final = 4_096
"""For a request under a ceiling that names no limit: the most that every model accepts."""
OUTPUT_TOKENS_LEAST: Final = 256
"""With money for less than this (or than the request's own limit) an answer would only be cut: no call is made."""
_TOKENS_PER_REQUEST: Final = 256  # system prompts that templates bring along, and the marks of the answer's beginning
_TOKENS_PER_MESSAGE: Final = 16  # roles, separators, names of fields
_TOKENS_FOR_TOOLS: Final = 1_024  # Anthropic's own prompt for tools is 264 to 804
_TOKENS_PER_TOOL: Final = 64
_TOKENS_PER_IMAGE: Final = 50_000
_UNREADABLE_FACTOR: Final = 6  # what escaping can make of a byte of what is no JSON


def text_tokens_most(text: str) -> int:
    """The most tokens that `text` can be."""
    if text.isascii():
        return len(text)
    normal = unicodedata.normalize("NFKC", text)
    return max(len(text.encode("utf-8", "surrogatepass")), len(normal.encode("utf-8", "surrogatepass")))


def input_tokens_most(chat: ChatRequest) -> int:
    """The most tokens that a model can count for `chat`."""
    tokens = _TOKENS_PER_REQUEST + sum(_message(message) for message in chat.messages)
    if chat.tools or any(message.tool_calls for message in chat.messages):
        tokens += _TOKENS_FOR_TOOLS
    for tool in chat.tools:
        tokens += _TOKENS_PER_TOOL + text_tokens_most(tool.name) + _json(tool.description, is_text=True)
        tokens += _json(tool.parameters_schema_json)
    form = chat.response_format
    if form is not None:
        tokens += _TOKENS_PER_TOOL + text_tokens_most(form.name) + _json(form.schema_json)
    return tokens


def output_tokens_most(chat: ChatRequest) -> int:
    """The most that one answer may have under a ceiling that pays for it."""
    return chat.generation.max_output_tokens or OUTPUT_TOKENS_DEFAULT


def output_tokens_least(chat: ChatRequest) -> int:
    """The least that must be paid for."""
    return min(output_tokens_most(chat), OUTPUT_TOKENS_LEAST)


def cost_most(price: Price, input_tokens: int, output_tokens: int) -> int:
    """The most that a call with at most so many tokens can cost, in nano US dollars."""
    cached = price.cached_input_usd_per_mtok
    per_input = price.input_usd_per_mtok if cached is None else max(cached, price.input_usd_per_mtok)
    nanousd = 1_000 * (input_tokens * per_input + output_tokens * price.output_usd_per_mtok)
    return int(nanousd) + 1 if nanousd else 0  # above whatever rounding can make of it


def _message(message: Message) -> int:
    tokens = _TOKENS_PER_MESSAGE + text_tokens_most(message.name) + text_tokens_most(message.tool_call_id)
    for part in message.parts:
        if isinstance(part, TextPart):
            tokens += 1 + text_tokens_most(part.text)  # joined by newlines
        elif isinstance(part, ImagePart):
            tokens += _TOKENS_PER_IMAGE
    for call in message.tool_calls:
        tokens += _TOKENS_PER_TOOL + text_tokens_most(call.id) + text_tokens_most(call.name)
        tokens += _json(call.arguments_json)
    return tokens


def _json(text: str, *, is_text: bool = False) -> int:
    """Of JSON, or with `is_text` of what becomes a text in JSON: its longest form."""
    if not text:
        return 0
    try:
        value = text if is_text else json.loads(text)
        longest = max(
            len(json.dumps(value, indent=4)),
            text_tokens_most(json.dumps(value, indent=4, ensure_ascii=False)),
        )
    except (ValueError, RecursionError):
        longest = 0
    if is_text or longest:
        return max(longest, text_tokens_most(text))
    return _UNREADABLE_FACTOR * text_tokens_most(text)
