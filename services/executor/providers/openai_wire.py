"""Answers in OpenAI's chat completions format, whole and streamed, as pure functions; requests: openai_request.

Promises: no I/O; what a server sends is checked field by field, and what cannot be read raises UnreadableError.
Many servers speak this format with an accent, and are understood: content as null or parts, tool calls without ids
(one is made up) or indexes and with arguments as an object, other words for finish reasons or none, usage as null,
an error object inside a 200, a stream that ends in [DONE] without a finish reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from services.executor.outcome import Answer
from services.executor.providers.failures import ComplaintError, read_complaint
from services.executor.providers.openai_request import request_body
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

__all__ = ["LOGPROBS_MAX", "OpenAIWire", "StreamAssembler", "parse_answer"]

LOGPROBS_MAX: Final = 32_768
"""Tokens of an answer whose log-probabilities are kept. Of a longer one none are: a part would pass for the whole."""
_LOGPROB_MIN: Final = -1e6  # servers say -9999 for never
_TOKEN_CHARS_MAX: Final = 1_000
_DONE: Final = "[DONE]"
_FINISH_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
}

Logprobs = tuple[tuple[str, float], ...]


class OpenAIWire:
    """See Wire. `output_limit_name` is the name of the output limit at this server."""

    path = "/chat/completions"

    def __init__(self, output_limit_name: str) -> None:
        self._output_limit_name = output_limit_name

    def headers(self, api_key: str) -> Mapping[str, str]:
        """See Wire."""
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def request_body(self, call: ProviderCall, *, stream: bool) -> dict[str, Any]:
        """See Wire."""
        return request_body(call, stream=stream, output_limit_name=self._output_limit_name)

    def parse_answer(self, body: bytes) -> Answer:
        """See Wire."""
        return parse_answer(body)

    def assembler(self) -> StreamAssembler:
        """See Wire."""
        return StreamAssembler()


def parse_answer(body: bytes) -> Answer:
    """The answer in a response's body. Raises UnreadableError, ComplaintError."""
    document = load_object(body)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        _raise_complaint(document)
        raise UnreadableError("no choices")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise UnreadableError("no message")
    refusal = message.get("refusal")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list) or len(calls) > TOOL_CALLS_MAX:
        raise UnreadableError("tool_calls")
    return _answer(
        _text(message.get("content")),
        tuple(_tool_call(document.get("id"), index, call) for index, call in enumerate(calls)),
        finish=choice.get("finish_reason"),
        usage=_usage(document.get("usage")),
        model=document.get("model"),
        refusal=refusal if isinstance(refusal, str) else "",
        logprobs=_logprobs(choice.get("logprobs")) or (),
    )


class StreamAssembler:
    """See Assembler."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, list[list[str]]] = {}  # index -> pieces of [id, name, arguments]
        self._logprobs: list[tuple[str, float]] | None = []  # None once a piece came without
        self._finish: object = None
        self._usage: Usage | None = None
        self._model: object = None
        self._response_id: object = None
        self.output_chars = 0
        self.is_over = False

    @property
    def is_complete(self) -> bool:
        """See Assembler."""
        return self._finish is not None or (self.is_over and self.output_chars > 0)

    def feed(self, data: str) -> str:
        """See Assembler."""
        if data.strip() == _DONE:
            self.is_over = True
            return ""
        document = load_object(data)
        if document.get("error"):
            _raise_complaint(document)
        self._model = document.get("model") or self._model
        self._response_id = document.get("id") or self._response_id
        self._usage = _usage(document.get("usage")) or self._usage
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices:
            return ""  # the usage chunk has none
        choice = choices[0]
        if not isinstance(choice, dict):
            raise UnreadableError("choice")
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        return self._add(delta, choice.get("logprobs")) if isinstance(delta, dict) else ""

    def answer(self) -> Answer:
        """See Assembler."""
        calls = []
        for number, index in enumerate(sorted(self._calls)):
            call_id, name, arguments = ("".join(pieces) for pieces in self._calls[index])
            if not name:
                raise UnreadableError("a tool call without a name")
            identity = call_id or made_up_id(self._response_id, number, name, arguments)
            calls.append(ToolCall(identity, name, arguments))
        return _answer(
            "".join(self._pieces),
            tuple(calls),
            finish=self._finish,
            usage=self._usage,
            model=self._model,
            refusal="".join(self._refusal),
            logprobs=tuple(self._logprobs or ()),
        )

    def _add(self, delta: dict[str, Any], logprobs: object) -> str:
        text = _text(delta.get("content"))
        refusal = delta.get("refusal")
        if isinstance(refusal, str):
            self._refusal.append(refusal)
            self.output_chars += len(refusal)
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise UnreadableError("tool_calls")
        for call in calls:
            self._add_call(call)
        self._add_logprobs(text, logprobs)
        self._pieces.append(text)
        # What reasoning servers (vLLM, DeepSeek, OpenRouter) show of their thinking is paid for, and no answer.
        hidden = delta.get("reasoning_content") or delta.get("reasoning")
        self.output_chars += len(text) + (len(hidden) if isinstance(hidden, str) else 0)
        return text

    def _add_logprobs(self, text: str, raw: object) -> None:
        if self._logprobs is None:
            return
        found = _logprobs(raw)
        if (found is None and text) or len(self._logprobs) + len(found or ()) > LOGPROBS_MAX:
            self._logprobs = None
        elif found:
            self._logprobs.extend(found)

    def _add_call(self, call: object) -> None:
        if not isinstance(call, dict):
            raise UnreadableError("tool_calls")
        index = call.get("index")
        if index is None:
            index = len(self._calls)  # Ollama and others send whole calls without an index
        function = call.get("function") or {}
        if not isinstance(index, int) or not 0 <= index < TOOL_CALLS_MAX or not isinstance(function, dict):
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
    text: str,
    calls: tuple[ToolCall, ...],
    *,
    finish: object,
    usage: Usage | None,
    model: object,
    refusal: str,
    logprobs: Logprobs,
) -> Answer:
    shown = text or refusal
    message = Message(Role.ASSISTANT, (TextPart(shown),) if shown else (), calls)
    reason = FinishReason.UNKNOWN
    if isinstance(finish, str):
        reason = _FINISH_REASONS.get(finish.lower(), FinishReason.UNKNOWN)
    if calls and reason in {FinishReason.STOP, FinishReason.UNKNOWN}:
        reason = FinishReason.TOOL_CALLS  # what OpenAI says of a named tool, and Ollama of any, is "stop"
    return Answer(message, reason, usage, model_name(model), refused=bool(refusal), logprobs=logprobs)


def _raise_complaint(document: Mapping[str, Any]) -> None:
    complaint = read_complaint(document)
    if complaint is not None:
        raise ComplaintError(complaint)


def _text(content: object) -> str:
    """Content as servers send it: a string, null, or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    raise UnreadableError("content")


def _tool_call(response_id: object, index: int, call: object) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnreadableError("a tool call")
    name, arguments, identity = function["name"], function.get("arguments"), call.get("id")
    if arguments is None:
        arguments = ""
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    if not isinstance(identity, str) or not identity:
        identity = made_up_id(response_id, index, name, arguments)
    return ToolCall(identity, name, arguments)


def _logprobs(raw: object) -> Logprobs | None:
    """The tokens of {"content": [{"token", "logprob"}]}; None when they are missing, odd or too many."""
    entries = raw.get("content") if isinstance(raw, dict) else None
    if not isinstance(entries, list) or len(entries) > LOGPROBS_MAX:
        return None
    tokens = []
    for entry in entries:
        token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
            return None
        if not _LOGPROB_MIN <= logprob <= 1.0:  # a little above 0 is rounding
            return None
        tokens.append((token[:_TOKEN_CHARS_MAX], min(float(logprob), 0.0)))
    return tuple(tokens)


def _usage(raw: object) -> Usage | None:
    """Token counts; None when they are missing or make no sense, so that they are estimated instead."""
    if not isinstance(raw, dict):
        return None
    read, written = token_count(raw.get("prompt_tokens")), token_count(raw.get("completion_tokens"))
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
    return (token_count(details.get(name)) or 0) if isinstance(details, dict) else 0
