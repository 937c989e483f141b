"""What is asked of a model, and what it answers: plain frozen values, shared by the client and every service.

Promises: no I/O, no protobuf (`spillway.wire` translates), no validation beyond types. The comments in
protos/spillway/v1/chat.proto state the ranges; a servicer checks them at the door.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "ChatRequest",
    "Embedding",
    "FinishReason",
    "FormatKind",
    "GenerationParams",
    "ImagePart",
    "Message",
    "Part",
    "ResponseFormat",
    "Role",
    "TextPart",
    "ToolCall",
    "ToolChoice",
    "ToolChoiceMode",
    "ToolDefinition",
    "Usage",
]


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why a model stopped writing."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class FormatKind(StrEnum):
    """The form that an answer must have."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class ToolChoiceMode(StrEnum):
    """Whether and which tool must be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture: an https URL that the provider fetches, or bytes with their media type."""

    url: str = ""
    data: bytes = b""
    media_type: str = ""
    detail: str = ""


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to call one tool; `arguments_json` is as the model wrote it and may be invalid."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The text parts joined by newlines."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @classmethod
    def of(cls, role: Role, text: str) -> Message:
        """A message of one text part."""
        return cls(role=role, parts=(TextPart(text),))


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the model may ask for; `parameters_schema_json` is JSON Schema, empty for no arguments."""

    name: str
    description: str = ""
    parameters_schema_json: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether and which tool must be called; `name` only with NAMED."""

    mode: ToolChoiceMode = ToolChoiceMode.AUTO
    name: str = ""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form that the answer must have; `schema_json` only with JSON_SCHEMA."""

    kind: FormatKind = FormatKind.TEXT
    schema_json: str = ""
    name: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """How to write. None is not sent to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything that is asked of a model; the last message is the turn to answer."""

    messages: tuple[Message, ...]
    generation: GenerationParams = field(default_factory=GenerationParams)
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None

    @property
    def last_user_text(self) -> str:
        """The text of the last user message; empty when there is none."""
        for message in reversed(self.messages):
            if message.role is Role.USER:
                return message.text
        return ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counted them. Cached and reasoning tokens are part of the first two."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text as a unit vector: little-endian float32 `values`, and the model and version that made it."""

    values: bytes
    model: str
