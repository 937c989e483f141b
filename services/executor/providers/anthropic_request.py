"""Requests in the format of Anthropic's Messages, as pure functions.

Promises: no I/O. What the format demands is made of what the caller gave:
- system messages, wherever they stand, become the `system` field, in their order;
- roles alternate and the user begins: messages of one role are merged, tool results are the user's, and a conversation
  that the assistant begins gets a first turn that says so. Empty texts, which are refused there, are left out;
- `max_tokens` is always set: OUTPUT_TOKENS_DEFAULT when the caller named no limit;
- temperatures above 1 are 1, and `top_p` goes out only without a temperature, for newer models take one of the two;
- tools that the history has used are declared, though not offered, when the request declares none;
- ids of tool calls are reduced to the characters that are allowed, in calls and results alike.
Form of the answer: there is no `response_format` on most models, and a forced tool would forbid the caller's own
tools and natural streaming, so the schema is asked for in words. The schema gate checks every answer anyway.
What the format has no word for is left out: seed, penalties, log-probabilities, names of speakers, an image's detail,
and stop sequences that are only white space.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from services.executor.providers.provider import ProviderCall
from spillway.chat import (
    ChatRequest,
    FormatKind,
    GenerationParams,
    ImagePart,
    Message,
    Role,
    TextPart,
    ToolCall,
    ToolChoiceMode,
    ToolDefinition,
)

__all__ = ["OUTPUT_TOKENS_DEFAULT", "request_body"]

OUTPUT_TOKENS_DEFAULT: Final = 4_096
"""The most that every model accepts (Claude 3's limit), so that no answer is cut sooner than it must be."""
_TEMPERATURE_MAX: Final = 1.0
_OPENING: Final = "(The assistant speaks first.)"
_EMPTY_RESULT: Final = "(no output)"
_ANY_OBJECT: Final = {"type": "object"}
_CHOICES: Final = {ToolChoiceMode.AUTO: "auto", ToolChoiceMode.NONE: "none", ToolChoiceMode.REQUIRED: "any"}
_FORBIDDEN_IN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
_JSON_OBJECT: Final = "Write the answer as one JSON object and nothing else: no explanation, no code fence."
_JSON_SCHEMA: Final = (
    "Write the answer as one JSON value that is valid against the JSON Schema below, and nothing else: "
    "no explanation, no code fence.\n"
)

Block = dict[str, Any]


def request_body(call: ProviderCall, *, stream: bool) -> dict[str, Any]:
    """The JSON body of a request."""
    chat = call.chat
    body: dict[str, Any] = {
        "model": call.model,
        "max_tokens": chat.generation.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
        "messages": _turns(message for message in chat.messages if message.role is not Role.SYSTEM),
    }
    system = _system(chat)
    if system:
        body["system"] = system
    body.update(_generation(chat.generation))
    body.update(_tools(chat))
    if stream:
        body["stream"] = True
    return body


def _system(chat: ChatRequest) -> str:
    texts = [message.text for message in chat.messages if message.role is Role.SYSTEM]
    form = chat.response_format
    if form is not None and form.kind is FormatKind.JSON_OBJECT:
        texts.append(_JSON_OBJECT)
    elif form is not None and form.kind is FormatKind.JSON_SCHEMA:
        texts.append(_JSON_SCHEMA + form.schema_json)
    return "\n\n".join(text for text in texts if text.strip())


def _turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # The results of tools must come first in their turn.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if not turns or turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [_text(_OPENING)]})
    last = turns[-1]["content"][-1]
    if turns[-1]["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()  # the beginning of an answer must not end in white space
    return turns


def _blocks(message: Message) -> list[Block]:
    if message.role is Role.TOOL:
        content = [block for part in message.parts for block in _part(part)]
        return [
            {
                "type": "tool_result",
                "tool_use_id": _id(message.tool_call_id),
                "content": content or [_text(_EMPTY_RESULT)],
            }
        ]
    if message.role is Role.ASSISTANT:
        blocks = [block for part in message.parts if isinstance(part, TextPart) for block in _part(part)]
        return blocks + [_tool_use(call) for call in message.tool_calls]
    return [block for part in message.parts for block in _part(part)]


def _part(part: TextPart | ImagePart) -> list[Block]:
    """One block, or none for a text that is empty."""
    if isinstance(part, TextPart):
        return [_text(part.text)] if part.text.strip() else []
    if part.url:
        return [{"type": "image", "source": {"type": "url", "url": part.url}}]
    data = base64.b64encode(part.data).decode()
    return [{"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}]


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _tool_use(call: ToolCall) -> Block:
    """A call of the history; arguments that are no JSON object are quoted in one."""
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": call.arguments_json}
    return {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": arguments}


def _id(raw: str) -> str:
    return _FORBIDDEN_IN_ID.sub("_", raw) or "call"


def _generation(params: GenerationParams) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if params.temperature is not None:
        fields["temperature"] = min(params.temperature, _TEMPERATURE_MAX)
    elif params.top_p is not None:
        fields["top_p"] = params.top_p
    stops = [stop for stop in params.stop if stop.strip()]
    if stops:
        fields["stop_sequences"] = stops
    return fields


def _tools(chat: ChatRequest) -> dict[str, Any]:
    if not chat.tools:
        used = dict.fromkeys(call.name for message in chat.messages for call in message.tool_calls)
        if not used:
            return {}
        declared = [{"name": name, "input_schema": _ANY_OBJECT} for name in used]
        return {"tools": declared, "tool_choice": {"type": "none"}}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in chat.tools]}
    if chat.tool_choice is not None:
        choice = chat.tool_choice
        is_named = choice.mode is ToolChoiceMode.NAMED
        fields["tool_choice"] = {"type": "tool", "name": choice.name} if is_named else {"type": _CHOICES[choice.mode]}
    return fields


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    schema = json.loads(tool.parameters_schema_json) if tool.parameters_schema_json else _ANY_OBJECT
    # The root's type must be said here; elsewhere it goes without saying.
    declared: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **schema}}
    if tool.description:
        declared["description"] = tool.description
    return declared
