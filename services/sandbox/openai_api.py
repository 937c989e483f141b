"""The OpenAI wire format of chat completions, both ways: request bytes to a ChatCall, an Answer to bodies and chunks.

Pure: no sockets, no clock, no state. It accepts what official SDKs send and leaves alone what the sandbox has no use
for. Everything wrong with a request is an ApiError, which renders in OpenAI's shape.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "BODY_BYTES_MAX",
    "Answer",
    "ApiError",
    "ChatCall",
    "Message",
    "ToolCall",
    "Usage",
    "answer_deltas",
    "chunk_body",
    "completion_body",
    "encode_json",
    "models_body",
    "parse_chat_call",
    "sse_event",
]

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of a request: a few pictures of 4 MiB as base64."""
MESSAGES_MAX: Final = 2_000
"""Messages of a request."""

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded", 503: "overloaded"}


class ApiError(Exception):
    """An error answer. `code` and the type follow from the status when not given."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code if code is not None else _CODES.get(status, "server_error" if status >= 500 else None)
        self.param = param

    def body(self) -> dict[str, Any]:
        """Render in OpenAI's shape."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a request, its text parts joined."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request for a chat completion."""

    model: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    tools_json: str
    """The tool definitions as JSON, empty without tools: the provider counts them as prompt tokens."""
    parameters: Mapping[str, Any]
    """Everything else in the body, as it came."""

    @property
    def user_texts(self) -> tuple[str, ...]:
        """What the user said, in order."""
        return tuple(message.text for message in self.messages if message.role == "user")

    def system_says(self, marker: str) -> bool:
        """Whether an instruction contains the marker literally."""
        return any(m.role in ("system", "developer") and marker in m.text for m in self.messages)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the answer asks for."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call."""

    prompt_tokens: int
    completion_tokens: int

    def body(self) -> dict[str, int]:
        """Render with the total."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, ready to be rendered whole or as chunks."""

    id: str
    created: int
    """Unix time, seconds."""
    model: str
    text: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    usage: Usage


def parse_chat_call(body: bytes) -> ChatCall:
    """Read a request. Raises ApiError (400)."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
        # A lone surrogate is legal JSON and no legal text: neither a tokenizer nor UTF-8 takes it.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body is not a JSON object.", code="invalid_json")
    model = value.pop("model", None)
    if not isinstance(model, str) or not model:
        raise _invalid("model", "you must provide a model")
    stream = value.pop("stream", None) or False
    if not isinstance(stream, bool):
        raise _invalid("stream", "not a boolean")
    options = value.get("stream_options") or {}
    if not isinstance(options, dict):
        raise _invalid("stream_options", "not an object")
    if value.get("n") not in (None, 1):
        raise _invalid("n", "the sandbox gives one choice per call")
    tools = value.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _invalid("tools", "not an array of objects")
    return ChatCall(
        model=model,
        messages=_parse_messages(value.pop("messages", None)),
        stream=stream,
        include_usage=stream and options.get("include_usage") is True,
        tools_json=json.dumps(tools, ensure_ascii=False) if tools else "",
        parameters=value,
    )


def _parse_messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _invalid("messages", "not an array with at least one message")
    if len(value) > MESSAGES_MAX:
        raise _invalid("messages", f"more than {MESSAGES_MAX} messages")
    messages = []
    for index, item in enumerate(value):
        if not isinstance(item, dict) or not isinstance(item.get("role"), str):
            raise _invalid(f"messages[{index}]", "not an object with a role")
        messages.append(Message(item["role"], _parse_text(item.get("content"), f"messages[{index}].content")))
    return tuple(messages)


def _parse_text(content: object, place: str) -> str:
    if content is None:  # an assistant message with tool calls only
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _invalid(place, "neither a text nor an array of parts")
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise _invalid(place, "a text part without text")
    return "".join(texts)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _invalid(param: str, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {why}.", code="invalid_value", param=param)


def completion_body(answer: Answer) -> dict[str, Any]:
    """Render a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call_body(call, call.arguments) for call in answer.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return {**_head(answer, "chat.completion"), "choices": [choice], "usage": answer.usage.body()}


def answer_deltas(answer: Answer, chunk_chars: int) -> Iterator[dict[str, Any]]:
    """Cut an answer's content into deltas of at most `chunk_chars` characters; the role is not among them."""
    for start in range(0, len(answer.text or ""), chunk_chars):
        yield {"content": (answer.text or "")[start : start + chunk_chars]}
    for index, call in enumerate(answer.tool_calls):
        yield {"tool_calls": [{"index": index, **_tool_call_body(call, "")}]}
        for start in range(0, len(call.arguments), chunk_chars):
            piece = call.arguments[start : start + chunk_chars]
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def chunk_body(
    answer: Answer, delta: Mapping[str, Any] | None, *, finish_reason: str | None = None, include_usage: bool
) -> dict[str, Any]:
    """Render one chunk. Without a delta it is the usage chunk; the other chunks say `usage: null` when one follows."""
    choices = []
    if delta is not None:
        choices.append({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason})
    body = {**_head(answer, "chat.completion.chunk"), "choices": choices}
    if include_usage:
        body["usage"] = answer.usage.body() if delta is None else None
    return body


def models_body(models: tuple[str, ...]) -> dict[str, Any]:
    """Render the list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "spillway-sandbox"} for name in models],
    }


def encode_json(value: object) -> bytes:
    """Encode as ASCII JSON, which any text survives."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def sse_event(data: bytes) -> bytes:
    """Frame one server-sent event."""
    return b"data: " + data + b"\n\n"


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": "fp_sandbox",
    }


def _tool_call_body(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
