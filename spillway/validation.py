"""The ranges that the comments in protos/ promise, checked at the doors of the orchestrator and the executor.

Promises: pure; a check collects what is wrong (at most VIOLATIONS_MAX places) and raises one InvalidValue; its texts
are constant and never quote the request. Numbers that are NaN or infinite are out of every range. JSON is only read
here, in bounds; whether a schema is a schema is for who has a validator.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
from spillway.routing import (
    AgreementSpec,
    CompletionRequest,
    GateSpec,
    Plan,
    PlannedTier,
    RoutingOptions,
    RulesSpec,
    SelfConfidenceSpec,
)

__all__ = [
    "IMAGE_BYTES_MAX",
    "INVALID_FIELD",
    "INVALID_SCHEMA",
    "NAME_CHARS_MAX",
    "SCHEMA_BYTES_MAX",
    "SCHEMA_DEPTH_MAX",
    "TAGS_MAX",
    "TAG_CHARS_MAX",
    "TOOLS_MAX",
    "VIOLATIONS_MAX",
    "InvalidValue",
    "Violation",
    "check_chat_request",
    "check_completion_request",
    "check_messages",
    "check_plan",
    "check_tags",
]

INVALID_FIELD: Final = "INVALID_FIELD"
INVALID_SCHEMA: Final = "INVALID_SCHEMA"

# Who breaks more rules than this need not hear of all of them.
VIOLATIONS_MAX: Final = 50
IMAGE_BYTES_MAX: Final = 4 * 1024 * 1024
IMAGE_URL_CHARS_MAX: Final = 8_192
TOOLS_MAX: Final = 128
OUTPUT_TOKENS_MAX: Final = 1_000_000
STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 256
SCHEMA_BYTES_MAX: Final = 64 * 1024
SCHEMA_DEPTH_MAX: Final = 32
REQUEST_ID_CHARS_MAX: Final = 128
TENANT_CHARS_MAX: Final = 128
# End user, user tier, endpoint, namespace, template version.
LABEL_CHARS_MAX: Final = 256
# Tiers and targets.
NAME_CHARS_MAX: Final = 64
TAGS_MAX: Final = 16
TAG_CHARS_MAX: Final = 64
ESCALATIONS_MAX: Final = 2
CACHE_TTL_S_MAX: Final = 30 * 86_400.0
TIERS_MAX: Final = 8
TARGETS_MAX: Final = 16
GATES_MAX: Final = 16
ATTEMPT_TIMEOUT_S_MAX: Final = 86_400.0
PATTERNS_MAX: Final = 32
PATTERN_CHARS_MAX: Final = 1_000

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PRINTABLE_ASCII: Final = re.compile(r"[ -~]*")
_HTTPS_URL: Final = re.compile(r"https://[^\s/]\S*")
_MEDIA_TYPE: Final = re.compile(r"image/[a-z0-9.+-]{1,64}")
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with the field at `path`."""

    path: str
    message: str
    reason: str = INVALID_FIELD


class InvalidValue(ValueError):  # noqa: N818 - it is the value that is invalid
    """Ranges are broken. `violations` is not empty; `reason` is INVALID_SCHEMA when nothing but schemas is wrong."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{violation.path} {violation.message}" for violation in violations))
        self.violations = tuple(violations)

    @property
    def reason(self) -> str:
        return INVALID_FIELD if any(v.reason == INVALID_FIELD for v in self.violations) else INVALID_SCHEMA


def check_completion_request(value: CompletionRequest, path: str = "") -> None:
    """Raises InvalidValue. `path` is "request" where a message wraps the request."""
    _raise_if_any(_completion_request(value, f"{path}." if path else ""))


def check_chat_request(value: ChatRequest, path: str = "chat") -> None:
    """Raises InvalidValue."""
    _raise_if_any(_chat_request(value, path))


def check_messages(values: Sequence[Message], path: str = "messages") -> None:
    """A conversation alone. Raises InvalidValue."""
    _raise_if_any(_messages(values, path))


def check_plan(value: Plan, path: str = "plan") -> None:
    """Raises InvalidValue."""
    _raise_if_any(_plan(value, path))


def check_tags(values: Sequence[str], path: str = "tags") -> None:
    """Raises InvalidValue."""
    _raise_if_any(_tags(values, path))


def _raise_if_any(violations: Iterator[Violation]) -> None:
    found = tuple(islice(violations, VIOLATIONS_MAX))
    if found:
        raise InvalidValue(found)


def _between(value: float | None, low: float, high: float, path: str) -> Iterator[Violation]:
    """Absent values are fine; NaN is not."""
    if value is not None and not low <= value <= high:
        yield Violation(path, f"must be between {low:g} and {high:g}")


def _chars(value: str, chars_max: int, path: str) -> Iterator[Violation]:
    if len(value) > chars_max:
        yield Violation(path, f"must have at most {chars_max} characters")


def _completion_request(value: CompletionRequest, prefix: str) -> Iterator[Violation]:
    yield from _chars(value.request_id, REQUEST_ID_CHARS_MAX, f"{prefix}request_id")
    if not _PRINTABLE_ASCII.fullmatch(value.request_id):
        yield Violation(f"{prefix}request_id", "must be printable ASCII")
    yield from _chars(value.tenant, TENANT_CHARS_MAX, f"{prefix}tenant")
    yield from _chars(value.end_user, LABEL_CHARS_MAX, f"{prefix}end_user")
    yield from _chars(value.user_tier, LABEL_CHARS_MAX, f"{prefix}user_tier")
    yield from _chars(value.endpoint, LABEL_CHARS_MAX, f"{prefix}endpoint")
    yield from _chars(value.namespace, LABEL_CHARS_MAX, f"{prefix}namespace")
    yield from _chars(value.template_version, LABEL_CHARS_MAX, f"{prefix}template_version")
    yield from _tags(value.tags, f"{prefix}tags")
    yield from _options(value.options, f"{prefix}options")
    yield from _chat_request(value.chat, f"{prefix}chat")


def _tags(values: Sequence[str], path: str) -> Iterator[Violation]:
    if len(values) > TAGS_MAX:
        yield Violation(path, f"must be at most {TAGS_MAX}")
    for i, tag in enumerate(values):
        if not 1 <= len(tag) <= TAG_CHARS_MAX:
            yield Violation(f"{path}[{i}]", f"must have 1 to {TAG_CHARS_MAX} characters")


def _options(value: RoutingOptions, path: str) -> Iterator[Violation]:
    yield from _chars(value.tier_floor, NAME_CHARS_MAX, f"{path}.tier_floor")
    yield from _chars(value.tier_ceiling, NAME_CHARS_MAX, f"{path}.tier_ceiling")
    yield from _chars(value.pinned_target, NAME_CHARS_MAX, f"{path}.pinned_target")
    yield from _between(value.confidence_min, 0, 1, f"{path}.confidence_min")
    yield from _between(value.escalations_max, 0, ESCALATIONS_MAX, f"{path}.escalations_max")
    if value.cost_nanousd_max is not None and value.cost_nanousd_max <= 0:
        yield Violation(f"{path}.cost_nanousd_max", "must be above 0")
    if value.cache_ttl_s is not None and not 0 < value.cache_ttl_s <= CACHE_TTL_S_MAX:
        yield Violation(f"{path}.cache_ttl", "must be above 0 and at most 30 days")


def _chat_request(value: ChatRequest, path: str) -> Iterator[Violation]:
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
    for i, message in enumerate(values):
        yield from _message(message, f"{path}[{i}]")


def _message(value: Message, path: str) -> Iterator[Violation]:
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
        yield from _chars(value.url, IMAGE_URL_CHARS_MAX, f"{path}.url")
        if not _HTTPS_URL.fullmatch(value.url):
            yield Violation(f"{path}.url", "must be an https URL")
        if value.media_type:
            yield Violation(f"{path}.media_type", "must be empty with a url")
    yield from _chars(value.detail, NAME_CHARS_MAX, f"{path}.detail")


def _generation(value: GenerationParams, path: str) -> Iterator[Violation]:
    yield from _between(value.temperature, 0, 2, f"{path}.temperature")
    if value.top_p is not None and not 0 < value.top_p <= 1:
        yield Violation(f"{path}.top_p", "must be above 0 and at most 1")
    if value.max_output_tokens is not None and not 1 <= value.max_output_tokens <= OUTPUT_TOKENS_MAX:
        yield Violation(f"{path}.max_output_tokens", "must be between 1 and 1,000,000")
    if len(value.stop) > STOPS_MAX:
        yield Violation(f"{path}.stop", f"must be at most {STOPS_MAX}")
    for i, stop in enumerate(value.stop):
        if not 1 <= len(stop) <= STOP_CHARS_MAX:
            yield Violation(f"{path}.stop[{i}]", f"must have 1 to {STOP_CHARS_MAX} characters")
    yield from _between(value.presence_penalty, -2, 2, f"{path}.presence_penalty")
    yield from _between(value.frequency_penalty, -2, 2, f"{path}.frequency_penalty")


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


def _plan(value: Plan, path: str) -> Iterator[Violation]:
    if not 1 <= len(value.tiers) <= TIERS_MAX:
        yield Violation(f"{path}.tiers", f"must be 1 to {TIERS_MAX}")
    names: set[str] = set()
    for i, tier in enumerate(value.tiers[:TIERS_MAX]):
        if tier.name in names:
            yield Violation(f"{path}.tiers[{i}].name", "must be unique")
        names.add(tier.name)
        yield from _tier(tier, f"{path}.tiers[{i}]")
    yield from _between(value.escalations_max, 0, ESCALATIONS_MAX, f"{path}.escalations_max")
    yield from _between(value.confidence_min, 0, 1, f"{path}.confidence_min")
    if value.cost_nanousd_max is not None and value.cost_nanousd_max <= 0:
        yield Violation(f"{path}.cost_nanousd_max", "must be above 0")


def _tier(value: PlannedTier, path: str) -> Iterator[Violation]:
    if not 1 <= len(value.name) <= NAME_CHARS_MAX:
        yield Violation(f"{path}.name", f"must have 1 to {NAME_CHARS_MAX} characters")
    if not 1 <= len(value.targets) <= TARGETS_MAX:
        yield Violation(f"{path}.targets", f"must be 1 to {TARGETS_MAX}")
    for i, target in enumerate(value.targets[:TARGETS_MAX]):
        if not 1 <= len(target) <= NAME_CHARS_MAX:
            yield Violation(f"{path}.targets[{i}]", f"must have 1 to {NAME_CHARS_MAX} characters")
    if len(value.gates) > GATES_MAX:
        yield Violation(f"{path}.gates", f"must be at most {GATES_MAX}")
    for i, gate in enumerate(value.gates[:GATES_MAX]):
        yield from _gate(gate, f"{path}.gates[{i}]")
    if not 0 < value.attempt_timeout_s <= ATTEMPT_TIMEOUT_S_MAX:
        yield Violation(f"{path}.attempt_timeout", "must be above 0 and at most a day")


def _gate(value: GateSpec, path: str) -> Iterator[Violation]:
    match value:
        case AgreementSpec():
            yield from _chars(value.second_target, NAME_CHARS_MAX, f"{path}.agreement.second_target")
        case SelfConfidenceSpec():
            yield from _between(value.threshold, 1, 5, f"{path}.self_confidence.threshold")
        case RulesSpec():
            yield from _rules(value, f"{path}.rules")


def _rules(value: RulesSpec, path: str) -> Iterator[Violation]:
    if value.chars_min < 0:
        yield Violation(f"{path}.chars_min", "must be at least 0")
    if value.chars_max < 0 or 0 < value.chars_max < value.chars_min:
        yield Violation(f"{path}.chars_max", "must be 0 or at least chars_min")
    for name, number in (("number_min", value.number_min), ("number_max", value.number_max)):
        if number is not None and not math.isfinite(number):
            yield Violation(f"{path}.{name}", "must be a finite number")
    if value.number_min is not None and value.number_max is not None and value.number_min > value.number_max:
        yield Violation(f"{path}.number_max", "must be at least number_min")
    for name, patterns in (("must_match", value.must_match), ("must_not_match", value.must_not_match)):
        if len(patterns) > PATTERNS_MAX:
            yield Violation(f"{path}.{name}", f"must be at most {PATTERNS_MAX}")
        for i, pattern in enumerate(patterns[:PATTERNS_MAX]):
            if len(pattern) > PATTERN_CHARS_MAX:
                yield Violation(f"{path}.{name}[{i}]", f"must have at most {PATTERN_CHARS_MAX} characters")
            elif not _compiles(pattern):
                yield Violation(f"{path}.{name}[{i}]", "must be a regular expression")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
