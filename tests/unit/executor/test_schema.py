"""The form of an answer: JSON, schemas, tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.executor.gates.schema import InvalidSchemaError, Schemas, applies
from spillway.chat import ChatRequest, FormatKind, Message, ResponseFormat, Role, ToolCall, ToolDefinition
from spillway.routing import Verdict
from tests.unit.executor.builders import chat

PERSON = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, "child": {"$ref": "#"}},
}


def wanting(schema: object) -> ChatRequest:
    return chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, json.dumps(schema)))


def verdict(text: str, request: ChatRequest) -> Verdict:
    return Schemas().check(Message.of(Role.ASSISTANT, text), request).verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "ann"}', Verdict.PASS),
        ('```json\n{"name": "ann"}\n```', Verdict.PASS),
        ('  ```\n{"name": "ann", "child": {"name": "bob-jr"}}\n```  ', Verdict.PASS),
        ('{"name": "Ann"}', Verdict.FAIL),
        ('{"name": 1}', Verdict.FAIL),
        ("{}", Verdict.FAIL),
        ('{"name": "ann", "age": 3}', Verdict.FAIL),
        ('{"name": "ann"', Verdict.FAIL),
        ('Here you are: {"name": "ann"}', Verdict.FAIL),
        ("[" * 100_000, Verdict.FAIL),
        ('{"name": NaN}', Verdict.FAIL),
        ('{"name": "' + "a" * 50_000 + '"}', Verdict.FAIL),
    ],
)
def test_an_answer_is_held_to_its_schema(text: str, expected: Verdict) -> None:
    assert verdict(text, wanting(PERSON)) is expected


def test_a_reason_names_the_schema_and_never_the_answer() -> None:
    reason = Schemas().check(Message.of(Role.ASSISTANT, '{"name": "ann", "sEcret": 1}'), wanting(PERSON)).reason
    assert "additionalProperties" in reason
    assert "sEcret" not in reason


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": [1]}', Verdict.PASS), ("[1]", Verdict.FAIL), ("x", Verdict.FAIL)]
)
def test_json_object_wants_an_object(text: str, expected: Verdict) -> None:
    assert verdict(text, chat(response_format=ResponseFormat(FormatKind.JSON_OBJECT))) is expected


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "not json",
        "[]",
        '{"type": "nonsense"}',
        '{"properties": 3}',
        '{"$ref": "https://example.com/schema"}',
        '{"properties": {"a": {"$ref": "file:///etc/passwd"}}}',
        '{"pattern": "(a+)+$"}',
        '{"patternProperties": {"(x*)*": {}}}',
        '{"a": ' * 200 + "1" + "}" * 200,
        '{"description": "' + "x" * 70_000 + '"}',
    ],
)
def test_what_is_no_usable_schema_is_refused(schema: str) -> None:
    with pytest.raises(InvalidSchemaError):
        Schemas().compile(schema)


@pytest.mark.parametrize("schema", ["{}", "true", '{"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}'])
def test_small_schemas_are_schemas(schema: str) -> None:
    Schemas().compile(schema)


def test_references_that_double_at_every_level_end() -> None:
    levels: dict[str, Any] = {
        f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}, {"$ref": f"#/$defs/l{n + 1}"}]} for n in range(30)
    }
    levels["l30"] = {"type": "string"}
    request = wanting({"$ref": "#/$defs/l0", "$defs": levels})
    assert verdict('"x"', request) is Verdict.FAIL
    assert verdict('"x"', wanting({"$ref": "#"})) is Verdict.FAIL


def test_the_count_of_references_starts_anew_for_each_answer() -> None:
    schemas = Schemas()
    request = wanting({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "integer"}}})
    for _ in range(5):
        assert schemas.check(Message.of(Role.ASSISTANT, json.dumps([1] * 10_000)), request).verdict is Verdict.PASS


def test_the_least_recently_used_schema_leaves_first() -> None:
    schemas = Schemas()
    first = schemas.compile('{"title": "first"}')
    second = schemas.compile('{"title": "second"}')
    for number in range(255):
        assert schemas.compile('{"title": "first"}') is first
        schemas.compile(f'{{"title": "{number}"}}')
    assert schemas.compile('{"title": "first"}') is first
    assert schemas.compile('{"title": "second"}') is not second


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", '{"a": 1}', Verdict.PASS),
        ("add", '{"a": "1"}', Verdict.FAIL),
        ("add", "{", Verdict.FAIL),
        ("add", "[" * 50_000, Verdict.FAIL),
        ("other", "{}", Verdict.FAIL),
        ("none", "", Verdict.PASS),
        ("none", "[]", Verdict.FAIL),
    ],
)
def test_tool_calls_are_held_to_their_parameters(name: str, arguments: str, expected: Verdict) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    request = chat(tools=(ToolDefinition("add", "", schema), ToolDefinition("none")))
    message = Message(Role.ASSISTANT, (), (ToolCall("1", name, arguments),))
    assert Schemas().check(message, request).verdict is expected


def test_plain_text_has_no_form() -> None:
    assert not applies(chat())
    assert not applies(chat(response_format=ResponseFormat(FormatKind.TEXT)))
    assert applies(chat(response_format=ResponseFormat(FormatKind.JSON_OBJECT)))
