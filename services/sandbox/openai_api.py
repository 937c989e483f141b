"""The OpenAI wire format of chat completions, both ways.

It accepts what official SDKs send and leaves alone what the sandbox has no use for. Everything wrong with a request is
an ApiError. Pure: no sockets, no clock, no state.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from services.sandbox.wire import (
    MESSAGES_MAX,
    Answer,
    ApiError,
    Call,
    Frame,
    Message,
    Stage,
    TokenLogprob,
    ToolCall,
    Usage,
    cut,
    encode_json,
    parse_object,
)

__all__ = ["OpenAIWire", "invalid_value", "models_body"]

TOP_LOGPROBS_MAX: Final = 20
"""Alternatives per token that may be asked for, as OpenAI has it."""

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded", 503: "overloaded"}
_FINISH_REASONS: Final = {"stop_sequence": "stop", "refusal": "content_filter"}
_DONE: Final = b"data: [DONE]\n\n"


class OpenAIWire:
    """POST /v1/chat/completions."""

    name = "openai"
    answer_id_prefix = "chatcmpl-sandbox-"
    tool_call_id_prefix = "call_"
    request_id_header = "x-request-id"
    broken_json = b'{"id":"chatcmpl-sandbox","choices":[{"index":0,"message":{"role":"assist'

    def parse(self, headers: Mapping[str, str], body: bytes) -> Call:
        """Read a request. Raises ApiError (400)."""
        value = parse_object(body)
        model = value.pop("model", None)
        if not isinstance(model, str) or not model:
            raise invalid_value("model", "you must provide a model")
        stream = _flag(value.pop("stream", None), "stream")
        options = value.get("stream_options") or {}
        if not isinstance(options, dict):
            raise invalid_value("stream_options", "not an object")
        if value.get("n") not in (None, 1):
            raise invalid_value("n", "the sandbox gives one choice per call")
        tools = value.get("tools") or []
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise invalid_value("tools", "not an array of objects")
        return Call(
            model=model,
            messages=_parse_messages(value.pop("messages", None)),
            stream=stream,
            tools_json=json.dumps(tools, ensure_ascii=False) if tools else "",
            parameters=value,
            include_usage=stream and options.get("include_usage") is True,
            top_logprobs=_parse_top_logprobs(value),
        )

    def api_key(self, headers: Mapping[str, str]) -> str | None:
        """Find the bearer token."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" else None

    def error_body(self, error: ApiError, request_id: str) -> dict[str, Any]:
        """Render an error."""
        by_status = "server_error" if error.status >= 500 else None
        kind = error.kind or _TYPES.get(error.status) or by_status or "invalid_request_error"
        code = error.code or _CODES.get(error.status, by_status)
        return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}

    def answer_body(self, answer: Answer) -> dict[str, Any]:
        """Render a whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message["tool_calls"] = [_tool_call_body(call, call.arguments) for call in answer.tool_calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
        if answer.logprobs is not None:
            choice["logprobs"] = _logprobs_body(answer.logprobs, answer.top_logprobs)
        return {**_head(answer, "chat.completion"), "choices": [choice], "usage": _usage_body(answer.usage)}

    def frames(self, answer: Answer, call: Call, chunk_chars: int) -> Iterator[Frame]:
        """Render the chunks: the role, content, the finish, the usage if asked for, and [DONE]."""

        def frame(stage: Stage, *choices: dict[str, Any]) -> Frame:
            body = {**_head(answer, "chat.completion.chunk"), "choices": choices}
            if call.include_usage:
                body["usage"] = None if choices else _usage_body(answer.usage)
            return Frame(stage, _event(encode_json(body)))

        def content(delta: Mapping[str, Any], logprobs: dict[str, Any] | None = None) -> Frame:
            return frame(Stage.CONTENT, _chunk_choice(delta, logprobs))

        yield frame(
            Stage.LEAD, _chunk_choice({"role": "assistant", "content": "" if answer.text is not None else None})
        )
        for chunk, ended in cut(answer.text or "", chunk_chars, answer.logprobs or ()):
            logprobs = None if answer.logprobs is None else _logprobs_body(ended, answer.top_logprobs)
            yield content({"content": chunk}, logprobs)
        for index, tool_call in enumerate(answer.tool_calls):
            yield content({"tool_calls": [{"index": index, **_tool_call_body(tool_call, "")}]})
            for piece, _ in cut(tool_call.arguments, chunk_chars):
                yield content({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield frame(Stage.END, _chunk_choice({}, finish_reason=_finish_reason(answer)))
        if call.include_usage:
            yield frame(Stage.END)
        yield Frame(Stage.END, _DONE)

    def error_frame(self, error: ApiError, request_id: str) -> bytes:
        """Render an error that comes in a stream."""
        return _event(encode_json(self.error_body(error, request_id)))

    def broken_stream(self) -> bytes:
        """Render a stream whose first event is no JSON."""
        return _event(self.broken_json) + _DONE


def models_body(models: Sequence[str]) -> dict[str, Any]:
    """Render the list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "spillway-sandbox"} for name in models],
    }


def _parse_messages(value: object) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise invalid_value("messages", "not an array with at least one message")
    if len(value) > MESSAGES_MAX:
        raise invalid_value("messages", f"more than {MESSAGES_MAX} messages")
    messages = []
    for index, item in enumerate(value):
        if not isinstance(item, dict) or not isinstance(item.get("role"), str):
            raise invalid_value(f"messages[{index}]", "not an object with a role")
        messages.append(Message(item["role"], _parse_text(item.get("content"), f"messages[{index}].content")))
    return tuple(messages)


def _parse_text(content: object, place: str) -> str:
    if content is None:  # an assistant message with tool calls only
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise invalid_value(place, "neither a text nor an array of parts")
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise invalid_value(place, "a text part without text")
    return "".join(texts)


def _parse_top_logprobs(value: Mapping[str, Any]) -> int | None:
    wanted = _flag(value.get("logprobs"), "logprobs")
    top = value.get("top_logprobs")
    if top is None:
        return 0 if wanted else None
    if type(top) is not int or not 0 <= top <= TOP_LOGPROBS_MAX:
        raise invalid_value("top_logprobs", f"not a whole number from 0 to {TOP_LOGPROBS_MAX}")
    if not wanted:
        raise invalid_value("top_logprobs", "needs 'logprobs' to be true")
    return top


def _flag(value: object, param: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid_value(param, "not a boolean")
    return value


def invalid_value(param: str, why: str) -> ApiError:
    """A parameter that cannot be taken, as OpenAI says it."""
    return ApiError(400, f"Invalid value for '{param}': {why}.", code="invalid_value", param=param)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": "fp_sandbox",
    }


def _chunk_choice(
    delta: Mapping[str, Any], logprobs: dict[str, Any] | None = None, *, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _finish_reason(answer: Answer) -> str:
    return _FINISH_REASONS.get(answer.finish_reason, answer.finish_reason)


def _tool_call_body(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _logprobs_body(logprobs: Sequence[TokenLogprob], top: int) -> dict[str, Any]:
    entries = []
    for entry in logprobs:
        one = {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.token.encode())}
        # Of the alternatives only the token that was taken is known.
        entries.append({**one, "top_logprobs": [one] if top > 0 else []})
    return {"content": entries, "refusal": None}


def _usage_body(usage: Usage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    of_prompt = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_creation_tokens}
    given = {name: tokens for name, tokens in of_prompt.items() if tokens is not None}
    if given:
        body["prompt_tokens_details"] = given
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body
