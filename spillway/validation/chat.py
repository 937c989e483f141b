"""The ranges of what is asked of a model: messages, parameters, tools, form of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from spillway.chat import (
    ChatRequest,
    FormatKind,
    GenerationParams,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
)
from spillway.validation.violations import INVALID_SCHEMA, NAME_CHARS_MAX, Violation, between, chars, raise_if_any

__all__ = [
    "IMAGE_BYTES_MAX",
    "MESSAGES_MAX",
    "PARTS_MAX",
    "PIECES_MAX",
    "SCHEMA_BYTES_MAX",
    "SCHEMA_DEPTH_MAX",
    "STOPS_MAX",
    "TOOLS_MAX",
    "TOOL_CALLS_MAX",
    "chat_request",
    "check_chat_request",
]

# Every message, part and call takes time at every hop, on the event loop that all requests share.
MESSAGES_MAX: Final = 2_000
PARTS_MAX: Final = 256
TOOL_CALLS_MAX: Final = 128
# Parts and tool calls of a whole conversation.
PIECES_MAX: Final = 10_000
IMAGE_BYTES_MAX: Final = 4 * 1024 * 1024
IMAGE_URL_CHARS_MAX: Final = 8_192
TOOLS_MAX: Final = 128
OUTPUT_TOKENS_MAX: Final = 1_000_000
STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 256
SCHEMA_BYTES_MAX: Final = 64 * 1024
SCHEMA_DEPTH_MAX: Final = 32

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HTTPS_URL: Final = re.compile(r"https://[^\s/]\S*")
_MEDIA_TYPE: Final = re.compile(r"image/[a-z0-9.+-]{1,64}")
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def check_chat_request(value: ChatRequest, path: str = "chat") -> None:
    """Raises InvalidValue."""
    raise_if_any(chat_request(value, path))


def chat_request(value: ChatRequest, path: str) -> Iterator[Violation]:
    """What is wrong with a request, one by one."""
    yield from _messages(value.messages, f"{path}.messages")
    yield from _generation(value.generation, f"{path}.generation")
    yield from _tools(value.tools, f"{path}.tools")
    if value.tool_choice is not None:
        yield from _tool_choice(value.tool_choice, value.tools, f"{path}.tool_choice")
    if value.response_format is not None:
        yield from _response_format(value.response_format, f"{path}.response_format")


def _messages(values: Sequence[Message], path: str) -> Iterator[Violation]:
    if not values:
        yield Violation(path, "must have at least one message")
    elif all(message.role is Role.SYSTEM for message in values):
        yield Violation(path, "must have a message that is not the system's")
    if len(values) > MESSAGES_MAX:
        yield Violation(path, f"must be at most {MESSAGES_MAX:,}")
        return
    if sum(len(message.parts) + len(message.tool_calls) for message in values) > PIECES_MAX:
        yield Violation(path, f"must have at most {PIECES_MAX:,} parts and tool calls together")
        return
    for i, message in enumerate(values):
        yield from _message(message, f"{path}[{i}]")


def _message(value: Message, path: str) -> Iterator[Violation]:
    for name, pieces, count_max in (
        ("parts", value.parts, PARTS_MAX),
        ("tool_calls", value.tool_calls, TOOL_CALLS_MAX),
    ):
        if len(pieces) > count_max:
            yield Violation(f"{path}.{name}", f"must be at most {count_max}")
    if not value.parts and not (value.role is Role.ASSISTANT and value.tool_calls):
        yield Violation(f"{path}.parts", "must have at least one part")
    elif value.role is Role.USER and not any(isinstance(part, ImagePart) or part.text for part in value.parts):
        yield Violation(f"{path}.parts", "must not be empty")
    if value.tool_calls and value.role is not Role.ASSISTANT:
        yield Violation(f"{path}.tool_calls", "must be empty but in an assistant message")
    for i, call in enumerate(value.tool_calls):
        if not call.name:
            yield Violation(f"{path}.tool_calls[{i}].name", "must be set")
    if value.role is Role.TOOL and not value.tool_call_id:
        yield Violation(f"{path}.tool_call_id", "must be set in a tool message")
    if value.role is not Role.TOOL and value.tool_call_id:
        yield Violation(f"{path}.tool_call_id", "must be empty but in a tool message")
    for i, part in enumerate(value.parts):
        if not isinstance(part, TextPart):
            yield from _image(part, f"{path}.parts[{i}].image")


def _image(value: ImagePart, path: str) -> Iterator[Violation]:
    if value.data and value.url:
        yield Violation(path, "must have a url or data, not both")
    elif value.data:
        if len(value.data) > IMAGE_BYTES_MAX:
            yield Violation(f"{path}.data", "must have at most 4 MiB")
        if not _MEDIA_TYPE.fullmatch(value.media_type):
            yield Violation(f"{path}.media_type", "must be an image type, e.g. image/png")
    else:
        yield from chars(value.url, IMAGE_URL_CHARS_MAX, f"{path}.url")
        if not _HTTPS_URL.fullmatch(value.url):
            yield Violation(f"{path}.url", "must be an https URL")
        if value.media_type:
            yield Violation(f"{path}.media_type", "must be empty with a url")
    yield from chars(value.detail, NAME_CHARS_MAX, f"{path}.detail")


def _generation(value: GenerationParams, path: str) -> Iterator[Violation]:
    yield from between(value.temperature, 0, 2, f"{path}.temperature")
    if value.top_p is not None and not 0 < value.top_p <= 1:
        yield Violation(f"{path}.top_p", "must be above 0 and at most 1")
    if value.max_output_tokens is not None and not 1 <= value.max_output_tokens <= OUTPUT_TOKENS_MAX:
        yield Violation(f"{path}.max_output_tokens", "must be between 1 and 1,000,000")
    if len(value.stop) > STOPS_MAX:
        yield Violation(f"{path}.stop", f"must be at most {STOPS_MAX}")
    for i, stop in enumerate(value.stop[:STOPS_MAX]):
        if not 1 <= len(stop) <= STOP_CHARS_MAX:
            yield Violation(f"{path}.stop[{i}]", f"must have 1 to {STOP_CHARS_MAX} characters")
    yield from between(value.presence_penalty, -2, 2, f"{path}.presence_penalty")
    yield from between(value.frequency_penalty, -2, 2, f"{path}.frequency_penalty")


def _tools(values: Sequence[ToolDefinition], path: str) -> Iterator[Violation]:
    if len(values) > TOOLS_MAX:
        yield Violation(path, f"must be at most {TOOLS_MAX}")
    names: set[str] = set()
    for i, tool in enumerate(values[:TOOLS_MAX]):
        if not _TOOL_NAME.fullmatch(tool.name):
            yield Violation(f"{path}[{i}].name", "must be 1 to 64 characters of a-z, A-Z, 0-9, _ and -")
        if tool.name in names:
            yield Violation(f"{path}[{i}].name", "must be unique")
        names.add(tool.name)
        if tool.parameters_schema_json:
            yield from _schema(tool.parameters_schema_json, f"{path}[{i}].parameters_schema_json")


def _tool_choice(value: ToolChoice, tools: Sequence[ToolDefinition], path: str) -> Iterator[Violation]:
    if value.mode is ToolChoiceMode.NAMED:
        if all(tool.name != value.name for tool in tools):
            yield Violation(f"{path}.name", "must be one of the request's tools")
        return
    if value.name:
        yield Violation(f"{path}.name", "must be empty but with NAMED")
    if value.mode is ToolChoiceMode.REQUIRED and not tools:
        yield Violation(f"{path}.mode", "must not be REQUIRED without tools")


def _response_format(value: ResponseFormat, path: str) -> Iterator[Violation]:
    if value.kind is FormatKind.JSON_SCHEMA:
        yield from _schema(value.schema_json, f"{path}.schema_json")
    elif value.schema_json:
        yield Violation(f"{path}.schema_json", "must be empty but with JSON_SCHEMA")
    if value.name and not _TOOL_NAME.fullmatch(value.name):
        yield Violation(f"{path}.name", "must be 1 to 64 characters of a-z, A-Z, 0-9, _ and -")


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _schema(text: str, path: str) -> Iterator[Violation]:
    """Size, JSON, depth and references; not whether the keywords mean anything."""
    if len(text) > SCHEMA_BYTES_MAX or len(text.encode("utf-8", "replace")) > SCHEMA_BYTES_MAX:
        yield Violation(path, "must have at most 64 KiB", INVALID_SCHEMA)
        return
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        yield Violation(path, f"must be at most {SCHEMA_DEPTH_MAX} levels deep", INVALID_SCHEMA)
        return
    except ValueError:
        yield Violation(path, "must be valid JSON", INVALID_SCHEMA)
        return
    if not isinstance(schema, dict):
        yield Violation(path, "must be a JSON object", INVALID_SCHEMA)
        return
    level: list[object] = [schema]
    depth = 0
    remote = False
    while level:
        depth += 1
        if depth > SCHEMA_DEPTH_MAX:
            yield Violation(path, f"must be at most {SCHEMA_DEPTH_MAX} levels deep", INVALID_SCHEMA)
            return
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                remote = remote or any(
                    key in _REFERENCES and isinstance(value, str) and not value.startswith("#")
                    for key, value in node.items()
                )
                below.extend(value for value in node.values() if isinstance(value, dict | list))
            elif isinstance(node, list):
                below.extend(value for value in node if isinstance(value, dict | list))
        level = below
    if remote:
        yield Violation(path, "must not refer to anything outside of itself", INVALID_SCHEMA)
