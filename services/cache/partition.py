"""Which answers may serve a request: the exact key, and the partition that a semantic search cannot leave.

Promises: pure; the encoding is injective, so two requests that differ in anything that changes the answer never share a
key (short of a SHA-256 collision), and two requests share a partition only when they differ in nothing but the text of
the last user turn. The encoding is versioned: a change of it is a change of every key, never a silent clash.

The encoding is a prefix code: every value is a one-byte type, and then a fixed-size number, or a length and that many
bytes, or a count and that many values. A reader needs no lookahead, so no two different values share an encoding.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from services.cache.entry import Scope
from spillway.chat import ChatRequest, GenerationParams, ImagePart, Message, Part, ResponseFormat, Role, ToolChoice

__all__ = ["BUCKET_DIGITS", "encode_request", "entry_key", "partition_id", "semantic_question", "tenant_bucket"]

KEY_DOMAIN = "spillway.cache.key/2"
PARTITION_DOMAIN = "spillway.cache.partition/2"
BUCKET_DOMAIN = b"spillway.cache.bucket/1\0"

BUCKET_DIGITS = 4
"""Hex digits of the tenant's bucket, the beginning of each of its keys: 65,536 buckets."""

_NONE = b"N"
_TRUE = b"T"
_FALSE = b"F"
_HOLE = b"H"  # stands for a text of the last user turn
_DOUBLE = struct.Struct(">cd")
_SIZED = struct.Struct(">cQ")

Value = str | bytes | int | float | bool | None


def entry_key(scope: Scope, chat: ChatRequest) -> str:
    """The exact key: the tenant's bucket, and SHA-256 over everything that changes the answer, 68 hex digits."""
    return (
        tenant_bucket(scope.tenant) + hashlib.sha256(encode_request(KEY_DOMAIN, scope, chat, hole_at=None)).hexdigest()
    )


def tenant_bucket(tenant: str) -> str:
    """The bucket of all keys of that tenant: what lies together in a store of several servers. Others may share it."""
    return hashlib.sha256(BUCKET_DOMAIN + tenant.encode("utf-8", "surrogatepass")).hexdigest()[:BUCKET_DIGITS]


def partition_id(scope: Scope, chat: ChatRequest, embedding_model: str) -> str:
    """The partition: SHA-256 over the same, the last user turn's text left out and the embedding model added.

    Pictures in the last user turn, and how its text is cut into parts, stay in: the embedding does not see them.
    """
    body = encode_request(PARTITION_DOMAIN, scope, chat, hole_at=_last_user_index(chat))
    return hashlib.sha256(body + _value(embedding_model)).hexdigest()


def semantic_question(chat: ChatRequest) -> str:
    """The text that the partition leaves out: of the last user turn; empty when there is none."""
    index = _last_user_index(chat)
    return "" if index is None else chat.messages[index].text


def encode_request(domain: str, scope: Scope, chat: ChatRequest, *, hole_at: int | None) -> bytes:
    """The request as bytes, with the texts of message `hole_at` left out."""
    return b"".join(
        (
            _value(domain),
            _values((scope.tenant, scope.namespace, scope.template_version, scope.knowledge_version)),
            _list(_message(message, hole=index == hole_at) for index, message in enumerate(chat.messages)),
            _generation(chat.generation),
            _list(
                _values((tool.name, tool.description, tool.parameters_schema_json, tool.strict)) for tool in chat.tools
            ),
            _tool_choice(chat.tool_choice),
            _response_format(chat.response_format),
        )
    )


def _last_user_index(chat: ChatRequest) -> int | None:
    users = (index for index in range(len(chat.messages) - 1, -1, -1) if chat.messages[index].role is Role.USER)
    return next(users, None)


def _message(message: Message, *, hole: bool) -> bytes:
    return b"".join(
        (
            _value(message.role.value),
            _list(_part(part, hole=hole) for part in message.parts),
            _list(_values((call.id, call.name, call.arguments_json)) for call in message.tool_calls),
            _value(message.tool_call_id),
            _value(message.name),
        )
    )


def _part(part: Part, *, hole: bool) -> bytes:
    if isinstance(part, ImagePart):
        return _values(("image", part.url, part.data, part.media_type, part.detail))
    return _HOLE if hole else _values(("text", part.text))


def _generation(params: GenerationParams) -> bytes:
    floats = (params.temperature, params.top_p, params.presence_penalty, params.frequency_penalty)
    return b"".join(
        (
            _values(None if number is None else float(number) for number in floats),
            _values((params.max_output_tokens, params.seed)),
            _values(params.stop),
        )
    )


def _tool_choice(choice: ToolChoice | None) -> bytes:
    return _NONE if choice is None else _values((choice.mode.value, choice.name))


def _response_format(form: ResponseFormat | None) -> bytes:
    return _NONE if form is None else _values((form.kind.value, form.schema_json, form.name, form.strict))


def _list(items: Iterable[bytes]) -> bytes:
    encoded = tuple(items)
    return _SIZED.pack(b"L", len(encoded)) + b"".join(encoded)


def _values(values: Iterable[Value]) -> bytes:
    return _list(_value(value) for value in values)


def _value(value: Value) -> bytes:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        digits = str(value).encode("ascii")
        return _SIZED.pack(b"I", len(digits)) + digits
    if isinstance(value, float):
        return _DOUBLE.pack(b"D", value + 0.0)  # adding 0.0 makes -0.0, which equals 0.0, the same bytes
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")  # protobuf lets no lone surrogate in; a caller in-process might
        return _SIZED.pack(b"S", len(data)) + data
    return _SIZED.pack(b"B", len(value)) + value
