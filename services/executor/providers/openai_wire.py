"""OpenAI's chat completions format, in both directions, as pure functions.

Promises: no I/O; what a server sends is checked field by field, and what cannot be read raises UnreadableError and
nothing else. Absent parameters are left out, so that servers apply their own defaults.

The output limit goes out as `max_tokens`, which vLLM, Ollama and the like read; OpenAI's and Azure's own servers get
`max_completion_tokens` instead, because their reasoning models refuse the old name.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from services.executor.outcome import Answer
from spillway.chat import (
    ChatRequest,
    FinishReason,
    FormatKind,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    Usage,
)

__all__ = ["StreamAssembler", "UnreadableError", "parse_answer", "request_body"]

_TOOL_CALLS_MAX: Final = 256
_TOKENS_MAX: Final = 1_000_000_000
_FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_CHOICES: Final = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "required",
}


class UnreadableError(ValueError):
    """The server's answer is none."""


def request_body(model: str, chat: ChatRequest, *, stream: bool, output_limit_name: str) -> dict[str, Any]:
    """The JSON body of a request; `output_limit_name` is the name of the output limit at this server."""
    body: dict[str, Any] = {"model": model, "messages": [_message(message) for message in chat.messages]}
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
        "response_format": _response_format(chat.response_format) if chat.response_format else None,
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def parse_answer(body: bytes) -> Answer:
    """The answer in a response's body. Raises UnreadableError."""
    document = _loads(body)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnreadableError("no choices")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise UnreadableError("no message")
    refusal = message.get("refusal")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or len(calls) > _TOOL_CALLS_MAX:
        raise UnreadableError("tool_calls")
    return _answer(
        _text(message.get("content")),
        tuple(_tool_call(call) for call in calls),
        finish=choice.get("finish_reason"),
        usage=_usage(document.get("usage")),
        model=document.get("model"),
        refusal=refusal if isinstance(refusal, str) else "",
    )


class StreamAssembler:
    """Puts the chunks of one stream together. `is_complete` once a finish reason came."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, list[list[str]]] = {}  # index -> pieces of [id, name, arguments]
        self._finish: object = None
        self._usage: Usage | None = None
        self._model: object = None
        self.output_chars = 0

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        return self._finish is not None

    def feed(self, data: str) -> str:
        """The text that one event adds. Raises UnreadableError, also for an error event."""
        document = _loads(data)
        if document.get("error"):
            raise UnreadableError("an error event")
        self._model = document.get("model") or self._model
        self._usage = _usage(document.get("usage")) or self._usage
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices:
            return ""  # the usage chunk has none
        choice = choices[0]
        if not isinstance(choice, dict):
            raise UnreadableError("choice")
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return ""
        text = _text(delta.get("content"))
        if isinstance(delta.get("refusal"), str):
            self._refusal.append(delta["refusal"])
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise UnreadableError("tool_calls")
        for call in calls:
            self._add_call(call)
        self._pieces.append(text)
        self.output_chars += len(text)
        return text

    def answer(self) -> Answer:
        """Everything so far."""
        calls = []
        for index in sorted(self._calls):
            call_id, name, arguments = ("".join(pieces) for pieces in self._calls[index])
            if not name:
                raise UnreadableError("a tool call without a name")
            calls.append(ToolCall(call_id, name, arguments))
        return _answer(
            "".join(self._pieces),
            tuple(calls),
            finish=self._finish,
            usage=self._usage,
            model=self._model,
            refusal="".join(self._refusal),
        )

    def _add_call(self, call: object) -> None:
        if not isinstance(call, dict):
            raise UnreadableError("tool_calls")
        index = call.get("index", len(self._calls))  # Ollama and others send whole calls without an index
        function = call.get("function") or {}
        if not isinstance(index, int) or not 0 <= index < _TOOL_CALLS_MAX or not isinstance(function, dict):
            raise UnreadableError("tool_calls")
        pieces = self._calls.setdefault(index, [[], [], []])
        identity = call.get("id")
        if isinstance(identity, str) and not pieces[0]:
            pieces[0].append(identity)
        for place, key in ((1, "name"), (2, "arguments")):
            value = function.get(key)
            if value is not None:
                piece = value if isinstance(value, str) else json.dumps(value)
                pieces[place].append(piece)
                self.output_chars += len(piece)


def _answer(
    text: str, calls: tuple[ToolCall, ...], *, finish: object, usage: Usage | None, model: object, refusal: str
) -> Answer:
    shown = text or refusal
    message = Message(Role.ASSISTANT, (TextPart(shown),) if shown else (), calls)
    reason = _FINISH_REASONS.get(finish, FinishReason.UNKNOWN) if isinstance(finish, str) else FinishReason.UNKNOWN
    return Answer(message, reason, usage, model if isinstance(model, str) else "", refused=bool(refusal))


def _loads(raw: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None
    if not isinstance(document, dict):
        raise UnreadableError("not an object")
    return document


def _text(content: object) -> str:
    """Content as servers send it: a string, null, or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    raise UnreadableError("content")


def _tool_call(call: object) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnreadableError("a tool call")
    arguments = function.get("arguments")
    if arguments is None:
        arguments = ""
    identity = call.get("id")
    return ToolCall(
        identity if isinstance(identity, str) else "",
        function["name"],
        arguments if isinstance(arguments, str) else json.dumps(arguments),
    )


def _usage(raw: object) -> Usage | None:
    """Token counts; None when they are missing or make no sense, so that they are estimated instead."""
    if not isinstance(raw, dict):
        return None
    read, written = _tokens(raw.get("prompt_tokens")), _tokens(raw.get("completion_tokens"))
    if read is None or written is None:
        return None
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_input_tokens=min(_detail(raw, "prompt_tokens_details", "cached_tokens"), read),
        reasoning_tokens=min(_detail(raw, "completion_tokens_details", "reasoning_tokens"), written),
    )


def _detail(raw: dict[str, Any], group: str, name: str) -> int:
    details = raw.get(group)
    return (_tokens(details.get(name)) or 0) if isinstance(details, dict) else 0


def _tokens(raw: object) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= _TOKENS_MAX:
        return raw
    return None


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
