"""The gate on form: a JSON answer against its schema, tool calls against their parameters.

Promises: no I/O (a `$ref` is never fetched); bounded in time, depth and length: what a check may cost is counted before
it is begun (see `schema_work`), and a document that may cost too much is not valid; nothing but InvalidSchemaError
leaves it. Dialect: JSON Schema draft 2020-12, whatever `$schema` says, without dynamic references; patterns are those
of the linear `regex` crate. Compiled schemas are kept, the least recently used leave first. Reasons name places in the
schema, never anything that the model wrote.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError

from services.executor.gates.final_answer import nesting_depth, unfenced
from services.executor.gates.schema_work import SchemaWork, UnboundedError
from spillway.chat import ChatRequest, FormatKind, Message
from spillway.routing import GateVerdict, Verdict

__all__ = ["GATE", "InvalidSchemaError", "Schemas", "applies", "bare"]

GATE: Final = "schema"
_COMPILED_MAX: Final = 256
_SCHEMA_CHARS_MAX: Final = 65_536
_SCHEMA_DEPTH_MAX: Final = 64
_DOCUMENT_DEPTH_MAX: Final = 64
_DOCUMENT_CHARS_MAX: Final = 2_000_000
_PLACE_CHARS_MAX: Final = 120
_UNITS_MAX: Final = 10_000_000  # of one check: a third of a second
_UNITS_EXPLAINED_MAX: Final = 20_000  # above it, errors inside alternatives are not collected to name a place
_PATTERN_BYTES_MAX: Final = 256 * 1024  # of one pattern's program
_AUTOMATA_BYTES_MAX: Final = 1024 * 1024
_EMPTY_PARAMETERS: Final = '{"type": "object"}'


class InvalidSchemaError(ValueError):
    """The text is no JSON Schema that can be used. The message is fit for the caller."""


def applies(chat: ChatRequest) -> bool:
    """Whether an answer to `chat` has a form to check."""
    form = chat.response_format
    return bool(chat.tools) or (form is not None and form.kind is not FormatKind.TEXT)


def bare(text: str, chat: ChatRequest) -> str:
    """What the caller gets of an answer that passed: when JSON was asked for, the JSON without a fence around it."""
    form = chat.response_format
    return text if form is None or form.kind is FormatKind.TEXT else unfenced(text)


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A schema, and what checking against it may cost. `work` is None for `true` and `false`."""

    validator: Draft202012Validator
    work: SchemaWork | None


class Schemas:
    """Compiled schemas, at most `_COMPILED_MAX` of them. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[str, CompiledSchema] = OrderedDict()

    def compile(self, schema_json: str) -> CompiledSchema:
        """A schema, ready to use. Raises InvalidSchemaError."""
        kept = self._compiled.get(schema_json)
        if kept is not None:
            self._compiled.move_to_end(schema_json)
            return kept
        compiled = _compile(schema_json)
        self._compiled[schema_json] = compiled
        if len(self._compiled) > _COMPILED_MAX:
            self._compiled.popitem(last=False)
        return compiled

    def check(self, answer: Message, chat: ChatRequest) -> GateVerdict:
        """PASS or FAIL; ask only when `applies(chat)`. Raises InvalidSchemaError for a schema that is none."""
        wrong = self._wrong_call(answer, chat) if answer.tool_calls else self._wrong_text(answer.text, chat)
        return GateVerdict(
            gate=GATE,
            verdict=Verdict.FAIL if wrong else Verdict.PASS,
            reason=wrong or "the form is right",
            score=0.0 if wrong else 1.0,
        )

    def _wrong_text(self, text: str, chat: ChatRequest) -> str:
        form = chat.response_format
        if form is None or form.kind is FormatKind.TEXT:
            return ""
        try:
            document = _parse(unfenced(text))
        except (ValueError, RecursionError):
            return "not valid JSON"
        if form.kind is FormatKind.JSON_OBJECT:
            return "" if isinstance(document, dict) else "not a JSON object"
        return _violation(self.compile(form.schema_json), document)

    def _wrong_call(self, answer: Message, chat: ChatRequest) -> str:
        schemas: Mapping[str, str] = {tool.name: tool.parameters_schema_json for tool in chat.tools}
        for index, call in enumerate(answer.tool_calls):
            if call.name not in schemas:
                return f"tool call {index} names no tool of the request"
            try:
                arguments = _parse(call.arguments_json or "{}")
            except (ValueError, RecursionError):
                return f"the arguments of tool call {index} are not valid JSON"
            wrong = _violation(self.compile(schemas[call.name] or _EMPTY_PARAMETERS), arguments)
            if wrong:
                return f"the arguments of tool call {index}: {wrong}"
        return ""


def _parse(text: str) -> object:
    if len(text) > _DOCUMENT_CHARS_MAX or nesting_depth(text) > _DOCUMENT_DEPTH_MAX:
        raise ValueError("too long or too deep")
    value: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _violation(schema: CompiledSchema, document: Any) -> str:
    """The first violation as a place in the schema; empty when there is none."""
    units = schema.work.units(document, _UNITS_MAX) if schema.work else 0
    if units > _UNITS_MAX:
        return "too much work to check"
    try:
        if schema.validator.is_valid(document):
            return ""
        if schema.work and schema.work.branches and units > _UNITS_EXPLAINED_MAX:
            return "violates the schema"
        schema.validator.validate(document)
    except ValidationError as error:
        place = "/".join(str(step) for step in error.schema_path)
        return f"violates #/{place[:_PLACE_CHARS_MAX]}"
    except ValueError:  # half of a surrogate pair is no text
        return "not valid JSON"
    return "violates the schema"


def _compile(schema_json: str) -> CompiledSchema:
    if len(schema_json) > _SCHEMA_CHARS_MAX or nesting_depth(schema_json) > _SCHEMA_DEPTH_MAX:
        raise InvalidSchemaError("the schema is too long or too deep")
    try:
        schema = json.loads(schema_json, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise InvalidSchemaError("the schema is not valid JSON") from None
    if not isinstance(schema, (dict, bool)):
        raise InvalidSchemaError("a schema is a JSON object")
    try:
        work = SchemaWork(schema) if isinstance(schema, dict) else None
    except UnboundedError as error:
        raise InvalidSchemaError(str(error)) from None
    if isinstance(schema, dict):
        schema = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
    try:
        validator = Draft202012Validator(
            schema,
            validate_formats=False,
            offline=True,
            pattern_options=RegexOptions(size_limit=_PATTERN_BYTES_MAX, dfa_size_limit=_AUTOMATA_BYTES_MAX),
        )
    except ValidationError as error:
        place = "/".join(str(step) for step in error.instance_path)
        raise InvalidSchemaError(f"not a JSON Schema (draft 2020-12) at #/{place[:_PLACE_CHARS_MAX]}") from None
    except (ReferencingError, ValueError):
        raise InvalidSchemaError("not a JSON Schema (draft 2020-12)") from None
    return CompiledSchema(validator, work)
