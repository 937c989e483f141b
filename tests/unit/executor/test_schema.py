"""The form of an answer: JSON, schemas, tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ('{"name": "' + "a" * 50_000 + '"}', Verdict.PASS),
        ('{"name": "a' + chr(92) + 'ud800"}', Verdict.FAIL),
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
        '{"pattern": "(?=a)b"}',
        '{"pattern": "("}',
        '{"patternProperties": {"(?<!a)b": {}}}',
        json.dumps({"pattern": "a" * 1_001}),
        json.dumps({"allOf": [{"pattern": f"\\pL{{9}}a{n}"} for n in range(2_000)]}),
        '{"maximum": 1e400}',
        '{"const": "\\ud800"}',
        '{"$dynamicRef": "#a", "$dynamicAnchor": "a"}',
        '{"$recursiveRef": "#"}',
        '{"$ref": "#"}',
        '{"anyOf": [{"$ref": "#"}, {"type": "string"}]}',
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}',
        '{"$ref": "#nowhere"}',
        '{"$ref": "#/$defs/nowhere"}',
        '{"title": "x", "$ref": "#/title"}',
        '{"foo": {"type": "wrong"}, "$ref": "#/foo"}',
        '{"allOf": [{}], "$ref": "#/allOf/x"}',
        '{"allOf": [{}], "$ref": "#/allOf/1"}',
        '{"$defs": {"a": {"$id": "urn:a", "$ref": "#/$defs/b"}, "b": {}}}',
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


def levels(count: int, more: Callable[[str], object], last: object) -> dict[str, Any]:
    """A schema of so many levels, each of which refers to the next."""
    parts = {f"l{n}": more(f"#/$defs/l{n + 1}") for n in range(count)}
    return {"$ref": "#/$defs/l0", "$defs": {**parts, f"l{count}": last}}


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


TWICE = {
    "allOf": lambda ref: {"allOf": [{"$ref": ref}, {"$ref": ref}]},
    "anyOf": lambda ref: {"anyOf": [{"$ref": ref}, {"$ref": ref}]},
    "if": lambda ref: {"if": {"$ref": ref}, "then": {"$ref": ref}},
    "not": lambda ref: {"not": {"$ref": ref}, "else": {"$ref": ref}},
    "unevaluated": lambda ref: {"allOf": [{"$ref": ref}], "unevaluatedProperties": False},
}


@pytest.mark.parametrize("kind", TWICE)
def test_references_that_double_at_every_level_are_refused(kind: str) -> None:
    with pytest.raises(InvalidSchemaError, match="expands"):
        Schemas().compile(json.dumps(levels(40, TWICE[kind], {"type": "integer"})))
    Schemas().compile(json.dumps(levels(4, TWICE[kind], {"type": "integer"})))


def test_a_long_chain_of_references_is_refused_before_it_can_overflow_the_stack() -> None:
    for more in (lambda ref: {"$ref": ref}, lambda ref: {"allOf": [{"$ref": ref}], "unevaluatedItems": False}):
        with pytest.raises(InvalidSchemaError):
            Schemas().compile(json.dumps(levels(900, more, {"type": "string"})))


# Each would hold up the event loop for seconds, for ever, or until memory ends, if it were simply checked. Those that
# can be decided in time are; the others are not valid.
LONG = {
    "optional letters": ({"type": "string", "pattern": "^" + "a?" * 40 + "b"}, "a" * 60, "pattern"),
    "groups in names": ({"patternProperties": {"^(x*)(x*)(x*)(x*)(x*)y": {}}}, {"x" * 1_000: 1}, ""),
    "bounded repeats": ({"pattern": "^" + "a{0,31}" * 20 + "$"}, "a" * 10_000 + "b", "pattern"),
    "alternatives": ({"pattern": "^" + "(?:a|aa)" * 40 + "$"}, "a" * 10_000 + "b", "pattern"),
    "a nested repeat": ({"pattern": "(a+)+$"}, "a" * 50_000 + "b", "pattern"),
    "states and text": ({"pattern": "a[ab]{900}x"}, "abbaab" * 100_000, "too much"),
    "unique objects": ({"uniqueItems": True}, [{"a": n} for n in range(20_000)], ""),
    "unique, again and again": ({"allOf": [{"uniqueItems": True}] * 2_000}, [{"a": n} for n in range(20_000)], "too"),
    "alternatives for each": ({"items": {"allOf": [{"type": "integer"}] * 3_000}}, list(range(5_000)), "too much"),
    "objects to compare": ({"items": {"enum": [{"a": n} for n in range(4_000)]}}, [{"a": 3_999}] * 99_999, "too much"),
    "divisions": ({"items": {"allOf": [{"multipleOf": 0.1**n} for n in range(1, 300)]}}, [1.5e300] * 9_999, "too much"),
    "branching": ({"type": "array", "items": {"anyOf": [{"$ref": "#"}] * 3}}, nested(25), "too much"),
    "branching, explained": ({"type": "array", "items": {"anyOf": [{"$ref": "#"}] * 3}}, nested(12), "violates"),
    "looking back": ({"allOf": [{"allOf": [{"items": {"$ref": "#"}}]}], "unevaluatedItems": False}, nested(60), "too"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", LONG)
def test_no_schema_holds_up_the_loop(name: str) -> None:
    schema, answer, reason = LONG[name]
    given = Schemas().check(Message.of(Role.ASSISTANT, json.dumps(answer)), wanting(schema))
    assert given.verdict is (Verdict.FAIL if reason else Verdict.PASS)
    assert reason in given.reason


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ("1" + "0" * 400, '{"multipleOf": 0.5}', Verdict.PASS),
        ("1", json.dumps({"multipleOf": 10**400}), Verdict.FAIL),
        ("1e400", '{"type": "number"}', Verdict.FAIL),
        ("-1e400", "true", Verdict.FAIL),
        ("9" * 5_000, "{}", Verdict.FAIL),
        ('"\\ud800"', '{"pattern": "a"}', Verdict.FAIL),
    ],
)
def test_numbers_and_text_beyond_all_bounds_are_a_verdict(text: str, schema: str, expected: Verdict) -> None:
    request = chat(response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema))
    assert verdict(text, request) is expected


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "integer"}}}, 1, "1"),
        ({"$ref": "#/$defs/a~1b~0%25", "$defs": {"a/b~%": {"type": "integer"}}}, 1, "1"),
        ({"$ref": "#/allOf/0", "allOf": [{"type": "integer"}]}, 1, "1"),
        ({"$id": "urn:x", "$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}, 1, "1"),
        ({"properties": {"$ref": {"type": "integer"}, "$id": {}, "pattern": {}}}, {"$ref": 1}, {"$ref": "1"}),
        ({"enum": [{"$ref": "https://example.com"}]}, {"$ref": "https://example.com"}, 1),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{"type": "integer"}]}, [1], ["1"]),
        (
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}},
            json.loads('{"a":' * 60 + "{}" + "}" * 60),
            {"a": 1},
        ),
        ({"properties": {"kind": {"type": "string"}, "parts": {"items": {"$ref": "#"}}}}, {"parts": [{}]}, {"kind": 1}),
    ],
)
def test_references_of_everyday_use_may_be_used(schema: object, right: object, wrong: object) -> None:
    assert verdict(json.dumps(right), wanting(schema)) is Verdict.PASS
    assert verdict(json.dumps(wrong), wanting(schema)) is Verdict.FAIL


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS = st.recursive(
    st.booleans()
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "array", "object", "wrong"]),
            "$ref": st.sampled_from(["#", "#/allOf/0", "#/$defs/a", "#/properties/a", "#x", "#/title", "other", "#/%"]),
            "multipleOf": st.integers(0, 10**400) | st.floats(),
            "pattern": st.text("a+*()[]{}\\?|^$1,", max_size=6),
            "enum": st.lists(JSON, max_size=3),
            "minimum": st.integers() | st.floats(),
            "$anchor": st.just("x"),
            "title": st.text(max_size=3),
            "uniqueItems": st.booleans(),
        },
    ),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(
                ["not", "items", "additionalProperties", "contains", "if", "unevaluatedProperties", "$ref"]
            ),
            inner,
            max_size=3,
        )
        | st.dictionaries(st.sampled_from(["allOf", "anyOf", "prefixItems"]), st.lists(inner, max_size=3), max_size=3)
        | st.dictionaries(
            st.sampled_from(["properties", "$defs", "patternProperties", "dependentSchemas"]),
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(SCHEMAS, JSON)
def test_a_schema_is_refused_or_gives_a_verdict(schema: object, answer: object) -> None:
    schemas = Schemas()
    with suppress(InvalidSchemaError):
        schemas.compile(json.dumps(schema))
        assert schemas.check(Message.of(Role.ASSISTANT, json.dumps(answer)), wanting(schema)).verdict in Verdict


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
