"""What a wire format must say, and what all of them share: reading JSON that strangers wrote, and writing ours.

Promises: pure. Whatever a server sends becomes text that protobuf can carry: bytes that are no UTF-8 and surrogates
without a partner become U+FFFD here, at the edge. What cannot be read raises UnreadableError and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from services.executor.outcome import Answer
from services.executor.providers.provider import ProviderCall

__all__ = [
    "TOOL_CALLS_MAX",
    "Assembler",
    "UnreadableError",
    "Wire",
    "encode_body",
    "load_object",
    "made_up_id",
    "model_name",
    "token_count",
]

TOOL_CALLS_MAX: Final = 128  # as many as a message may have
"""Tool calls of one answer; with more it is unreadable."""
_TOKENS_MAX: Final = 1_000_000_000
_MODEL_CHARS_MAX: Final = 200
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class UnreadableError(ValueError):
    """The server's answer is none."""


class Assembler(Protocol):
    """Puts the events of one stream together."""

    output_chars: int
    """Characters written so far, hidden reasoning included: what a provider would charge for."""

    @property
    def is_complete(self) -> bool:
        """Whether the model has said that it is done."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come: the rest of the response need not be read."""
        ...

    def feed(self, data: str) -> str:
        """The text that one event adds. Raises UnreadableError, ComplaintError."""
        ...

    def answer(self) -> Answer:
        """Everything so far. Raises UnreadableError."""
        ...


class Wire(Protocol):
    """A wire format, both ways."""

    @property
    def path(self) -> str:
        """What follows the base URL."""
        ...

    def headers(self, api_key: str) -> Mapping[str, str]:
        """The headers of the format, the key among them when there is one."""
        ...

    def request_body(self, call: ProviderCall, *, stream: bool) -> dict[str, Any]:
        """The JSON body of a request."""
        ...

    def parse_answer(self, body: bytes) -> Answer:
        """The answer in the body of a 200. Raises UnreadableError, ComplaintError."""
        ...

    def assembler(self) -> Assembler:
        """One for each stream."""
        ...


def encode_body(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON. Raises ValueError, RecursionError."""
    # A lone surrogate, which only a schema's text can hold, goes out as the JSON escape that it came in as.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def load_object(raw: bytes | str) -> dict[str, Any]:
    """The JSON object in `raw`, a byte order mark forgiven. Raises UnreadableError."""
    text = raw.decode("utf-8-sig", "replace") if isinstance(raw, bytes) else raw
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise UnreadableError("not an object")
        # The walk is for the few documents that may need it.
        return _clean(document) if _SURROGATE_ESCAPE.search(text) else document
    except UnreadableError:
        raise
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None


def token_count(raw: object) -> int | None:
    """A count of tokens, or None when it makes no sense."""
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= _TOKENS_MAX:
        return raw
    return None


def model_name(raw: object) -> str:
    """The model that answered, as the server calls it; empty when it does not say."""
    return raw[:_MODEL_CHARS_MAX] if isinstance(raw, str) else ""


def made_up_id(response_id: object, index: int, name: str, arguments: str) -> str:
    """An id for a tool call that came without one: the caller's tool result must name it.

    It depends on the response and the call, so that ids of different turns differ.
    """
    digest = hashlib.sha256(f"{response_id}\0{index}\0{name}\0{arguments}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
