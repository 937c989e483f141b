"""The gate on form: a JSON answer against its schema, tool calls against their parameters.

Promises: no I/O (a `$ref` is never fetched), bounded depth and length, and no RecursionError leaves it. Dialect: JSON
Schema draft 2020-12, whatever `$schema` says; `pattern` and `patternProperties` are held to `patterns`, and a string
longer than its pattern may read is not valid. Compiled schemas are kept, the least recently used leave first. Reasons
name places in the schema, never anything that the model wrote.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as JsonSchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from services.executor.gates.final_answer import nesting_depth, unfenced
from spillway.chat import ChatRequest, FormatKind, Message
from spillway.patterns import PatternError, compile_pattern
from spillway.routing import GateVerdict, Verdict

__all__ = ["GATE", "InvalidSchemaError", "Schemas", "applies", "bare"]

GATE: Final = "schema"
_COMPILED_MAX: Final = 256
_SCHEMA_CHARS_MAX: Final = 65_536
_SCHEMA_DEPTH_MAX: Final = 64
_DOCUMENT_DEPTH_MAX: Final = 64
_DOCUMENT_CHARS_MAX: Final = 2_000_000
_PLACE_CHARS_MAX: Final = 120
_REFERENCES_MAX: Final = 20_000  # followed from one reference on, nested ones counted
_REFERENCE: Final = Draft202012Validator.VALIDATORS["$ref"]
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


class Schemas:
    """Compiled schemas, at most `_COMPILED_MAX` of them. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[str, Validator] = OrderedDict()

    def compile(self, schema_json: str) -> Validator:
        """The validator of a schema. Raises InvalidSchemaError."""
        kept = self._compiled.get(schema_json)
        if kept is not None:
            self._compiled.move_to_end(schema_json)
            return kept
        validator = _compile(schema_json)
        self._compiled[schema_json] = validator
        if len(self._compiled) > _COMPILED_MAX:
            self._compiled.popitem(last=False)
        return validator

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
    value: object = json.loads(text, parse_constant=_refuse_constant)
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _violation(validator: Validator, document: Any) -> str:
    """The first violation as a place in the schema; empty when there is none."""
    try:
        error = next(iter(validator.iter_errors(document)), None)
    except Unresolvable:
        return "a $ref points nowhere inside the schema"
    except (RecursionError, _TooMuchWorkError):
        return "too much work to check"
    if error is None:
        return ""
    place = "/".join(str(step) for step in error.absolute_schema_path)
    return f"violates #/{place[:_PLACE_CHARS_MAX]}"


def _compile(schema_json: str) -> Validator:
    if len(schema_json) > _SCHEMA_CHARS_MAX or nesting_depth(schema_json) > _SCHEMA_DEPTH_MAX:
        raise InvalidSchemaError("the schema is too long or too deep")
    try:
        schema = json.loads(schema_json, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidSchemaError("the schema is not valid JSON") from None
    if not isinstance(schema, (dict, bool)):
        raise InvalidSchemaError("a schema is a JSON object")
    try:
        Draft202012Validator.check_schema(schema)
    except JsonSchemaError as error:
        place = "/".join(str(step) for step in error.absolute_path)
        raise InvalidSchemaError(f"not a JSON Schema (draft 2020-12) at #/{place[:_PLACE_CHARS_MAX]}") from None
    except RecursionError:
        raise InvalidSchemaError("the schema is too deep") from None
    _check_parts(schema)
    # A registry that retrieves nothing: only the document itself can be referred to.
    registry: Registry[Any] = Registry()
    bounded = extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, validators={"pattern": _pattern, "$ref": _CountedReferences()}
    )
    validator: Validator = bounded(schema, registry=registry)
    return validator


class _TooMuchWorkError(Exception):
    pass


class _CountedReferences:
    """The keyword $ref, followed a bounded number of times per document: references can double at every level."""

    def __init__(self) -> None:
        self._depth = 0
        self._followed = 0

    def __call__(
        self, validator: Validator, reference: str, instance: object, schema: Mapping[str, object]
    ) -> Iterator[ValidationError]:
        self._followed = self._followed + 1 if self._depth else 1
        if self._followed > _REFERENCES_MAX:
            raise _TooMuchWorkError
        self._depth += 1
        try:
            yield from _REFERENCE(validator, reference, instance, schema)
        finally:
            self._depth -= 1


def _check_parts(part: object) -> None:
    """Refuses patterns that may take too long, and references that leave the document."""
    if isinstance(part, list):
        for item in part:
            _check_parts(item)
    if not isinstance(part, dict):
        return
    patterns = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    if isinstance(part.get("patternProperties"), dict):
        patterns.extend(part["patternProperties"])
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except PatternError as error:
            raise InvalidSchemaError(f"a pattern cannot be used: {error}") from None
    for keyword in ("$ref", "$dynamicRef"):
        reference = part.get(keyword)
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidSchemaError("a $ref must stay inside the schema")
    for item in part.values():
        _check_parts(item)


def _pattern(
    _validator: Validator, pattern: str, instance: object, _schema: Mapping[str, object]
) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    compiled = compile_pattern(pattern)
    if len(instance) > compiled.text_chars_max or not compiled.found_in(instance):
        yield ValidationError("the pattern is not found")
