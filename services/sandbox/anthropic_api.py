"""The Anthropic wire format of messages, both ways.

It is as strict as theirs where a caller's translation may go wrong: headers, roles, limits, what a version took away,
and tool results that belong to no call. What the sandbox has no use for it leaves alone. Everything wrong with a
request is an ApiError.
Pure: no sockets, no clock, no state.
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
    Usage,
    cut,
    encode_json,
    parse_object,
)

__all__ = ["AnthropicWire", "anthropic_models_body"]

_STRICT_VERSION: Final = "2026-10-21"
"""It refuses sampling parameters, documents that the assistant says and citations that the user says."""
_VERSIONS: Final = ("2023-01-01", "2023-06-01", _STRICT_VERSION)
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class AnthropicWire:
    """POST /v1/messages."""

    name = "anthropic"
    answer_id_prefix = "msg_sandbox_"
    tool_call_id_prefix = "toolu_"
    request_id_header = "request-id"
    broken_json = b'{"id":"msg_sandbox","type":"message","role":"assist'

    def parse(self, headers: Mapping[str, str], body: bytes) -> Call:
        """Read a request. Raises ApiError (400, 401)."""
        if not self.api_key(headers):
            raise ApiError(401, "x-api-key header is required")
        version = headers.get("anthropic-version")
        if not version:
            raise _invalid("anthropic-version", "header is required")
        if version not in _VERSIONS:
            raise _invalid("anthropic-version", "not a known version")
        value = parse_object(body)
        model = value.pop("model", None)
        if not isinstance(model, str) or not model:
            raise _invalid("model", "Field required")
        if type(value.get("max_tokens")) is not int or value["max_tokens"] < 1:
            raise _invalid("max_tokens", "Field required, a whole number of at least 1")
        is_strict = version == _STRICT_VERSION
        _check_sampling(value, is_strict=is_strict)
        stream = value.pop("stream", False)
        if not isinstance(stream, bool):
            raise _invalid("stream", "Input should be a valid boolean")
        sequences = value.get("stop_sequences", [])
        if not isinstance(sequences, list) or not all(isinstance(text, str) and text.strip() for text in sequences):
            raise _invalid("stop_sequences", "not an array of texts that are more than white space")
        if is_strict:
            _refuse_what_is_gone(value.get("messages"))
        messages = _parse_system(value.pop("system", None)) + _parse_messages(value.pop("messages", None))
        return Call(model, tuple(messages), stream, _parse_tools(value.get("tools", [])), value)

    def api_key(self, headers: Mapping[str, str]) -> str | None:
        """Find the key: the x-api-key, else the bearer token, which is what their SDKs send since version 2."""
        if "x-api-key" in headers:
            return headers["x-api-key"]
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" else None

    def error_body(self, error: ApiError, request_id: str) -> dict[str, Any]:
        """Render an error. Its code, if it has one, is among the details."""
        by_status = "api_error" if error.status >= 500 else "invalid_request_error"
        body: dict[str, Any] = {"type": error.kind or _TYPES.get(error.status, by_status), "message": error.message}
        if error.code is not None:
            body["details"] = {"error_code": error.code}
        return {"type": "error", "error": body, "request_id": request_id}

    def answer_body(self, answer: Answer) -> dict[str, Any]:
        """Render a whole answer."""
        content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _tool_input(call.arguments)}
            for call in answer.tool_calls
        ]
        return {**_message_body(answer, content), **_stop_body(answer), "usage": _usage_body(answer.usage)}

    def frames(self, answer: Answer, call: Call, chunk_chars: int) -> Iterator[Frame]:
        """Render the events, from message_start to message_stop."""
        # At the start only the prompt is known: the output is told as it is counted then, and in full at the end.
        started = _usage_body(answer.usage) | {"output_tokens": min(1, answer.usage.completion_tokens)}
        stop = {"stop_reason": None, "stop_sequence": None}
        message = {**_message_body(answer, []), **stop, "usage": started}
        yield _frame(Stage.LEAD, "message_start", message=message)
        yield _frame(Stage.LEAD, "ping")
        if answer.text:
            yield _frame(Stage.LEAD, "content_block_start", index=0, content_block={"type": "text", "text": ""})
            for text, _ in cut(answer.text, chunk_chars):
                delta = {"type": "text_delta", "text": text}
                yield _frame(Stage.CONTENT, "content_block_delta", index=0, delta=delta)
            yield _frame(Stage.LEAD, "content_block_stop", index=0)
        for index, tool_call in enumerate(answer.tool_calls, 1 if answer.text else 0):
            block = {"type": "tool_use", "id": tool_call.id, "name": tool_call.name, "input": {}}
            yield _frame(Stage.LEAD, "content_block_start", index=index, content_block=block)
            for piece in ("", *(piece for piece, _ in cut(tool_call.arguments, chunk_chars))):
                delta = {"type": "input_json_delta", "partial_json": piece}
                yield _frame(Stage.CONTENT, "content_block_delta", index=index, delta=delta)
            yield _frame(Stage.LEAD, "content_block_stop", index=index)
        yield _frame(Stage.END, "message_delta", delta=_stop_body(answer), usage=_usage_body(answer.usage))
        yield _frame(Stage.END, "message_stop")

    def error_frame(self, error: ApiError, request_id: str) -> bytes:
        """Render an error that comes in a stream."""
        return _event("error", encode_json(self.error_body(error, request_id)))

    def broken_stream(self) -> bytes:
        """Render a stream whose first event is no JSON."""
        return _event("message_start", self.broken_json) + _frame(Stage.END, "message_stop").data


def anthropic_models_body(models: Sequence[str]) -> dict[str, Any]:
    """Render the list of models."""
    entries = [
        {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"} for name in models
    ]
    ends = {"first_id": models[0] if models else None, "last_id": models[-1] if models else None}
    return {"data": entries, "has_more": False, **ends}


def _check_sampling(value: Mapping[str, Any], *, is_strict: bool) -> None:
    for name in _SAMPLING if is_strict else ():
        if name in value:
            raise _invalid(name, "Extra inputs are not permitted")
    temperature = value.get("temperature", 1)
    if type(temperature) not in (int, float) or not 0 <= temperature <= 1:
        raise _invalid("temperature", "range: 0..1")


def _refuse_what_is_gone(messages: object) -> None:
    """Refuse blocks that a strict version no longer takes; whatever else is wrong is found later."""
    for index, item in enumerate(messages if isinstance(messages, list) else ()):
        content = item.get("content") if isinstance(item, dict) else None
        for block in content if isinstance(content, list) else ():
            kind = (item.get("role"), block.get("type")) if isinstance(block, dict) else None
            if kind == ("assistant", "document"):
                raise _invalid(f"messages.{index}", "`document` blocks are not permitted in assistant messages")
            if kind == ("user", "text") and block.get("citations"):
                raise _invalid(f"messages.{index}", "`citations` are not permitted in user messages")


def _parse_system(value: object) -> list[Message]:
    if value is None:
        return []
    blocks = _blocks(value, "system")
    if any(block.get("type") != "text" for block in blocks):
        raise _invalid("system", "not a text or an array of text blocks")
    return [Message("system", _joined_text(blocks, "system"))]


def _parse_messages(value: object) -> list[Message]:
    """Read the messages; a tool's result becomes a message of its own, before what the user says beside it."""
    if not isinstance(value, list) or not value:
        raise _invalid("messages", "at least one message is required")
    if len(value) > MESSAGES_MAX:
        raise _invalid("messages", f"more than {MESSAGES_MAX} messages")
    messages: list[Message] = []
    open_ids: set[str] = set()  # tool calls of the message before, which this one has to answer
    for index, item in enumerate(value):
        place = f"messages.{index}"
        if not isinstance(item, dict):
            raise _invalid(place, "not an object")
        role = item.get("role")
        if role not in ("user", "assistant"):
            raise _invalid(place, f"Unexpected role {role!r}; instructions go into the top-level `system`")
        blocks = _blocks(item.get("content"), f"{place}.content")
        if not blocks and not (role == "assistant" and index == len(value) - 1):
            raise _invalid(
                place, "messages must have non-empty content except for the optional final assistant message"
            )
        results = [block for block in blocks if block.get("type") == "tool_result"]
        result_ids = {str(block.get("tool_use_id")) for block in results}
        if result_ids - open_ids:
            raise _invalid(place, "`tool_result` blocks without a `tool_use` block in the message before")
        if open_ids - result_ids:
            raise _invalid(place, "`tool_use` ids were found without `tool_result` blocks immediately after")
        messages += [
            Message("tool", _joined_text(_blocks(block.get("content") or [], place), place)) for block in results
        ]
        messages.append(Message(role, _joined_text(blocks, f"{place}.content")))
        open_ids = _tool_use_ids(blocks, place) if role == "assistant" else set()
    if open_ids:
        raise _invalid("messages", "`tool_use` ids were found without `tool_result` blocks immediately after")
    return messages


def _tool_use_ids(blocks: Sequence[Mapping[str, Any]], place: str) -> set[str]:
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    for use in uses:
        if not all(isinstance(use.get(key), str) for key in ("id", "name")) or not isinstance(use.get("input"), dict):
            raise _invalid(place, "a `tool_use` block needs an id, a name and an object as its input")
    return {use["id"] for use in uses}


def _blocks(content: object, place: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _invalid(place, "neither a text nor an array of blocks")
    for index, block in enumerate(content):
        if not isinstance(block.get("type"), str):
            raise _invalid(f"{place}.{index}.type", "Field required")
        if block["type"] == "image" and not _is_image_source(block.get("source")):
            raise _invalid(f"{place}.{index}.source", "neither base64 with a media_type and data nor a url")
    return content


def _is_image_source(source: object) -> bool:
    keys = {"base64": ("media_type", "data"), "url": ("url",), "file": ("file_id",)}
    if not isinstance(source, dict):
        return False
    wanted = keys.get(str(source.get("type")))
    return wanted is not None and all(isinstance(source.get(key), str) for key in wanted)


def _joined_text(blocks: Sequence[Mapping[str, Any]], place: str) -> str:
    texts = [block.get("text") for block in blocks if block.get("type") == "text"]
    if not all(isinstance(text, str) and text for text in texts):
        raise _invalid(place, "text content blocks must be non-empty")
    return "".join(str(text) for text in texts)


def _parse_tools(value: object) -> str:
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise _invalid("tools", "not an array of objects")
    for index, tool in enumerate(value):
        if not isinstance(tool.get("name"), str):
            raise _invalid(f"tools.{index}.name", "Field required")
        # A tool with a type of its own is one of theirs, which they know the schema of.
        if tool.get("type", "custom") == "custom" and not isinstance(tool.get("input_schema"), dict):
            raise _invalid(f"tools.{index}.input_schema", "Field required")
    return json.dumps(value, ensure_ascii=False) if value else ""


def _invalid(place: str, why: str) -> ApiError:
    return ApiError(400, f"{place}: {why}")


def _tool_input(arguments: str) -> object:
    """Decode the arguments; what a script broke on purpose stays the text it is, which no tool takes for its input."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _message_body(answer: Answer, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "content": content}


def _stop_body(answer: Answer) -> dict[str, Any]:
    reason = _STOP_REASONS.get(answer.finish_reason, answer.finish_reason)
    return {"stop_reason": reason, "stop_sequence": answer.stop_sequence}


def _usage_body(usage: Usage) -> dict[str, Any]:
    cached, created = usage.cached_tokens or 0, usage.cache_creation_tokens or 0
    body: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - cached - created,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens is not None:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body


def _frame(stage: Stage, kind: str, **fields: object) -> Frame:
    return Frame(stage, _event(kind, encode_json({"type": kind, **fields})))


def _event(kind: str, data: bytes) -> bytes:
    return b"event: " + kind.encode("ascii") + b"\ndata: " + data + b"\n\n"
