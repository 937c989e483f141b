"""Requests in OpenAI's chat completions format, as pure functions.

Promises: no I/O. Absent parameters are left out, so that servers apply their own defaults.

The output limit goes out as `max_tokens`, which vLLM, Ollama and the like read; OpenAI's and Azure's own servers get
`max_completion_tokens` instead, because their reasoning models refuse the old name.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from services.executor.providers.provider import ProviderCall
from spillway.chat import (
    FormatKind,
    ImagePart,
    Message,
    ResponseFormat,
    TextPart,
    ToolChoice,
    ToolChoiceMode,
)

__all__ = ["request_body"]

_CHOICES: Final = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "required",
}


def request_body(call: ProviderCall, *, stream: bool, output_limit_name: str) -> dict[str, Any]:
    """The JSON body of a request; `output_limit_name` is the name of the output limit at this server."""
    chat = call.chat
    body: dict[str, Any] = {"model": call.model, "messages": [_message(message) for message in chat.messages]}
    generation = chat.generation
    optional = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        output_limit_name: generation.max_output_tokens,
        "stop": list(generation.stop) or None,
        "seed": generation.seed,
        "presence_penalty": generation.presence_penalty,
        "frequency_penalty": generation.frequency_penalty,
        "tools": [_tool(tool.name, tool.description, tool.parameters_schema_json, tool.strict) for tool in chat.tools]
        or None,
        "tool_choice": _tool_choice(chat.tool_choice) if chat.tool_choice and chat.tools else None,
        "logprobs": True if call.want_logprobs else None,
        "response_format": _response_format(chat.response_format) if chat.response_format else None,
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.value}
    if any(isinstance(part, ImagePart) for part in message.parts):
        body["content"] = [_part(part) for part in message.parts]
    elif message.parts or not message.tool_calls:
        body["content"] = message.text
    else:
        body["content"] = None
    if message.name:
        body["name"] = message.name
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    return body


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    url = part.url or f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": part.detail} if part.detail else {})}


def _tool(name: str, description: str, schema_json: str, strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    if schema_json:
        function["parameters"] = json.loads(schema_json)
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.mode is ToolChoiceMode.NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES[choice.mode]


def _response_format(form: ResponseFormat) -> dict[str, Any] | None:
    if form.kind is FormatKind.TEXT:
        return None
    if form.kind is FormatKind.JSON_OBJECT:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": form.name or "answer", "schema": json.loads(form.schema_json)}
    if form.strict:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}
