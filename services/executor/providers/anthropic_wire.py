"""Answers in the format of Anthropic's Messages, whole and streamed, as pure functions; requests: anthropic_request.

Promises: no I/O; what a server sends is checked field by field, and what cannot be read raises UnreadableError. Kinds
of blocks and events that are not known are passed over, as the format's versioning asks for.

Stop reasons: `refusal` is a refusal and a content filter at once; `pause_turn` leaves an answer that is not finished,
so it counts as cut. Usage: there `input_tokens` leaves out what was read from the prompt cache and written into it;
here both are part of it, and only reads count as cached (writes cost more than fresh input, never less, so the price
of fresh input is the least that they may be counted at).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from services.executor.outcome import Answer
from services.executor.providers.anthropic_request import request_body
from services.executor.providers.failures import Complaint, ComplaintError, read_complaint
from services.executor.providers.provider import ProviderCall
from services.executor.providers.wire import (
    TOOL_CALLS_MAX,
    UnreadableError,
    load_object,
    made_up_id,
    model_name,
    token_count,
)
from spillway.chat import FinishReason, Message, Role, TextPart, ToolCall, Usage

__all__ = ["VERSION", "AnthropicWire", "StreamAssembler", "parse_answer"]

VERSION: Final = "2023-06-01"
"""Of the format, as the anthropic-version header says it."""
_STOP_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "pause_turn": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_USAGE_FIELDS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
# In which field of a delta the text of each kind stands. Thinking is paid for, and no part of the answer.
_DELTA_TEXTS: Final = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}


class AnthropicWire:
    """See Wire."""

    path = "/messages"

    def headers(self, api_key: str) -> Mapping[str, str]:
        """See Wire."""
        return {"anthropic-version": VERSION} | ({"x-api-key": api_key} if api_key else {})

    def request_body(self, call: ProviderCall, *, stream: bool) -> dict[str, Any]:
        """See Wire."""
        return request_body(call, stream=stream)

    def parse_answer(self, body: bytes) -> Answer:
        """See Wire."""
        return parse_answer(body)

    def assembler(self) -> StreamAssembler:
        """See Wire."""
        return StreamAssembler()


def parse_answer(body: bytes) -> Answer:
    """The answer in a response's body. Raises UnreadableError, ComplaintError."""
    document = load_object(body)
    content = document.get("content")
    if not isinstance(content, list):
        complaint = read_complaint(document)
        if complaint is not None:
            raise ComplaintError(complaint)
        raise UnreadableError("no content")
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(_string(block.get("text")))
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append(_tool_call(document.get("id"), len(calls), block, arguments))
    counted: dict[str, int] = {}
    _count(document.get("usage"), counted)
    return _answer("".join(texts), calls, document.get("stop_reason"), counted, document.get("model"))


class StreamAssembler:
    """See Assembler."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._tools: dict[int, tuple[dict[str, Any], list[str]]] = {}  # index -> its first form, pieces of arguments
        self._stop_reason: object = None
        self._counted: dict[str, int] = {}
        self._model: object = None
        self._response_id: object = None
        self.output_chars = 0
        self.is_over = False

    @property
    def is_complete(self) -> bool:
        """See Assembler."""
        return self._stop_reason is not None or self.is_over

    def feed(self, data: str) -> str:
        """See Assembler."""
        event = load_object(data)
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                self._model, self._response_id = message.get("model"), message.get("id")
                _count(message.get("usage"), self._counted)
            case "content_block_start":
                return self._begin_block(event.get("index"), _object(event.get("content_block")))
            case "content_block_delta":
                return self._add(event.get("index"), _object(event.get("delta")))
            case "message_delta":
                self._stop_reason = _object(event.get("delta")).get("stop_reason") or self._stop_reason
                _count(event.get("usage"), self._counted)  # the counts so far, not further ones
            case "message_stop":
                self.is_over = True
            case "error":
                raise ComplaintError(read_complaint(event) or Complaint())
        return ""

    def answer(self) -> Answer:
        """See Assembler."""
        calls: list[ToolCall] = []
        for index in sorted(self._tools):
            block, pieces = self._tools[index]
            arguments = "".join(pieces) or json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append(_tool_call(self._response_id, len(calls), block, arguments))
        return _answer("".join(self._texts), calls, self._stop_reason, self._counted, self._model)

    def _begin_block(self, index: object, block: dict[str, Any]) -> str:
        if block.get("type") == "tool_use":
            if not isinstance(index, int) or index in self._tools or len(self._tools) >= TOOL_CALLS_MAX:
                raise UnreadableError("a tool_use block")
            self._tools[index] = (block, [])
        return self._write(_string(block.get("text"))) if block.get("type") == "text" else ""

    def _add(self, index: object, delta: dict[str, Any]) -> str:
        kind = delta.get("type")
        field = _DELTA_TEXTS.get(kind) if isinstance(kind, str) else None
        if field is None:
            return ""
        text = _string(delta.get(field))
        if kind == "text_delta":
            return self._write(text)
        self.output_chars += len(text)
        # Other blocks than tool_use, a provider's own tools, have arguments too.
        if kind == "input_json_delta" and isinstance(index, int) and index in self._tools:
            self._tools[index][1].append(text)
        return ""

    def _write(self, text: str) -> str:
        self._texts.append(text)
        self.output_chars += len(text)
        return text


def _answer(text: str, calls: list[ToolCall], stop: object, counted: Mapping[str, int], model: object) -> Answer:
    return Answer(
        Message(Role.ASSISTANT, (TextPart(text),) if text else (), tuple(calls)),
        _STOP_REASONS.get(stop, FinishReason.UNKNOWN) if isinstance(stop, str) else FinishReason.UNKNOWN,
        _usage(counted),
        model_name(model),
        refused=stop == "refusal",
    )


def _tool_call(response_id: object, number: int, block: Mapping[str, Any], arguments: str) -> ToolCall:
    name, identity = block.get("name"), block.get("id")
    if not isinstance(name, str) or not name:
        raise UnreadableError("a tool_use block without a name")
    if not isinstance(identity, str) or not identity:
        identity = made_up_id(response_id, number, name, arguments)
    return ToolCall(identity, name, arguments)


def _count(raw: object, into: dict[str, int]) -> None:
    """Takes over the counts that are there."""
    if isinstance(raw, dict):
        into.update({name: count for name in _USAGE_FIELDS if (count := token_count(raw.get(name))) is not None})


def _usage(counted: Mapping[str, int]) -> Usage | None:
    """Token counts; None when they are missing, so that they are estimated instead."""
    if "input_tokens" not in counted or "output_tokens" not in counted:
        return None
    read = counted.get("cache_read_input_tokens", 0)
    written = counted.get("cache_creation_input_tokens", 0)
    return Usage(
        input_tokens=counted["input_tokens"] + read + written,
        output_tokens=counted["output_tokens"],
        cached_input_tokens=read,
    )


def _object(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UnreadableError("an event")
    return raw


def _string(raw: object) -> str:
    if not isinstance(raw, str):
        raise UnreadableError("a text")
    return raw
