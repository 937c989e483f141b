"""What the two wire formats have in common: a call, an answer, an error, and what a wire does with them.

A `Wire` turns request bytes into a `Call`, and an `Answer` into a body or into the frames of a stream. What is answered
and what goes wrong is decided without knowing the wire. Pure: no sockets, no clock, no state.

Token counts follow OpenAI's sense everywhere: cached tokens are part of the prompt's, reasoning is part of the
completion's. Finish reasons are OpenAI's words; a wire translates what it has another word for.
"""

import enum
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = [
    "BODY_BYTES_MAX",
    "MESSAGES_MAX",
    "Answer",
    "ApiError",
    "Call",
    "Frame",
    "Message",
    "Stage",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "Wire",
    "cut",
    "encode_json",
    "parse_object",
]

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of a request: a few pictures of 4 MiB as base64."""
MESSAGES_MAX: Final = 2_000
"""Messages of a request."""


class ApiError(Exception):
    """An error answer. A wire fills in a type and a code that are not given from the status, as it has them."""

    def __init__(
        self, status: int, message: str, *, kind: str | None = None, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        """The error's type on the wire."""
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a request, its text parts joined. An instruction has the role system, a tool's result tool."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request for an answer."""

    model: str
    messages: tuple[Message, ...]
    stream: bool
    tools_json: str
    """The tool definitions as JSON, empty without tools: the provider counts them as prompt tokens."""
    parameters: Mapping[str, Any]
    """Everything else in the body, as it came."""
    include_usage: bool = False
    """Whether a stream ends with its usage; for a wire that leaves the choice to the caller."""
    top_logprobs: int | None = None
    """How many alternatives per token are asked for; None when no log-probabilities are."""

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
    """JSON, unless a script wants it broken."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A piece of the answer's text and the natural logarithm of its probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; None is a count that nobody gave."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    """Of the prompt's, read from the provider's cache."""
    cache_creation_tokens: int | None = None
    """Of the prompt's, written to the provider's cache."""
    reasoning_tokens: int | None = None
    """Of the completion's, thought and not said."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, ready to be rendered whole or as frames."""

    id: str
    created: int
    """Unix time, seconds."""
    model: str
    text: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Their tokens joined are the text; None when there are none or none are asked for."""
    top_logprobs: int = 0
    """Alternatives per token that are asked for."""
    stop_sequence: str | None = None
    """The sequence that ended the answer."""


class Stage(enum.Enum):
    """Where in a stream a frame stands."""

    LEAD = enum.auto()
    """Comes before or between content."""
    CONTENT = enum.auto()
    """Counted by scripts that break a stream."""
    END = enum.auto()
    """Says that the answer is complete."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream, as bytes."""

    stage: Stage
    data: bytes


class Wire(Protocol):
    """A wire format. Stateless, so that one instance serves every call."""

    name: str
    answer_id_prefix: str
    tool_call_id_prefix: str
    request_id_header: str
    broken_json: bytes
    """The beginning of an answer's body."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> Call:
        """Read a request; header names are in lower case. Raises ApiError."""
        ...

    def api_key(self, headers: Mapping[str, str]) -> str | None:
        """Find the key that the caller presents."""
        ...

    def error_body(self, error: ApiError, request_id: str) -> dict[str, Any]:
        """Render an error."""
        ...

    def answer_body(self, answer: Answer) -> dict[str, Any]:
        """Render a whole answer."""
        ...

    def frames(self, answer: Answer, call: Call, chunk_chars: int) -> Iterator[Frame]:
        """Render an answer as a stream with at most `chunk_chars` characters of content in a frame."""
        ...

    def error_frame(self, error: ApiError, request_id: str) -> bytes:
        """Render an error that comes in a stream."""
        ...

    def broken_stream(self) -> bytes:
        """Render a stream whose first event is no JSON."""
        ...


def parse_object(body: bytes) -> dict[str, Any]:
    """Decode a body that has to be a JSON object. Raises ApiError (400)."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
        # A lone surrogate is legal JSON and no legal text: neither a tokenizer nor UTF-8 takes it.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise ApiError(400, "The body is not a JSON object.", code="invalid_json")
    return value


def encode_json(value: object) -> bytes:
    """Encode as ASCII JSON, which any text survives."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def cut(text: str, chunk_chars: int, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[tuple[str, list[TokenLogprob]]]:
    """Cut a text into chunks, each with the log-probabilities of the tokens that end in it."""
    tokens = _with_ends(logprobs)
    pending = next(tokens, None)
    for start in range(0, len(text), chunk_chars):
        chunk = text[start : start + chunk_chars]
        ended = []
        while pending is not None and pending[0] <= start + len(chunk):
            ended.append(pending[1])
            pending = next(tokens, None)
        yield chunk, ended


def _with_ends(logprobs: Iterable[TokenLogprob]) -> Iterator[tuple[int, TokenLogprob]]:
    end = 0
    for entry in logprobs:
        end += len(entry.token)
        yield end, entry


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
