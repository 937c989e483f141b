"""Every range that the contracts promise, at its edges, with the path of what breaks it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from spillway.chat import (
    ChatRequest,
    FormatKind,
    GenerationParams,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
)
from spillway.routing import (
    AgreementSpec,
    CompletionRequest,
    Plan,
    PlannedTier,
    RoutingOptions,
    RulesSpec,
    SelfConfidenceSpec,
)
from spillway.validation import (
    IMAGE_BYTES_MAX,
    VIOLATIONS_MAX,
    InvalidValue,
    check_chat_request,
    check_completion_request,
    check_plan,
    check_tags,
)

HELLO = Message.of(Role.USER, "Hello")
CHAT = ChatRequest((HELLO,))
CALL = ToolCall("1", "look_up", "{}")
TOOL = ToolDefinition("look_up")
NAN, INF = float("nan"), float("inf")


def broken(value: CompletionRequest | ChatRequest | Plan) -> list[str]:
    """The paths of what is wrong."""
    try:
        match value:
            case CompletionRequest():
                check_completion_request(value)
            case ChatRequest():
                check_chat_request(value)
            case Plan():
                check_plan(value)
    except InvalidValue as error:
        return [violation.path for violation in error.violations]
    return []


def test_a_plain_question_is_fine() -> None:
    assert broken(CHAT) == []
    assert broken(CompletionRequest(CHAT)) == []


@pytest.mark.parametrize(
    ("messages", "paths"),
    [
        ((), ["chat.messages"]),
        ((Message.of(Role.SYSTEM, "Be brief."),), ["chat.messages"]),
        ((Message.of(Role.SYSTEM, ""), HELLO), []),
        ((Message(Role.USER),), ["chat.messages[0].parts"]),
        ((HELLO, Message.of(Role.USER, "")), ["chat.messages[1].parts"]),
        ((Message(Role.USER, (TextPart(""), ImagePart(url="https://a.b/c"))),), []),
        ((HELLO, Message(Role.ASSISTANT, tool_calls=(CALL,)), Message(Role.TOOL, (TextPart(""),), (), "1")), []),
        ((HELLO, Message(Role.ASSISTANT)), ["chat.messages[1].parts"]),
        ((HELLO, Message.of(Role.ASSISTANT, "")), []),
        ((replace(HELLO, tool_calls=(CALL,)),), ["chat.messages[0].tool_calls"]),
        (
            (HELLO, Message(Role.ASSISTANT, tool_calls=(replace(CALL, name=""),))),
            ["chat.messages[1].tool_calls[0].name"],
        ),
        ((HELLO, Message.of(Role.TOOL, "x")), ["chat.messages[1].tool_call_id"]),
        ((replace(HELLO, tool_call_id="1"),), ["chat.messages[0].tool_call_id"]),
    ],
)
def test_messages(messages: tuple[Message, ...], paths: list[str]) -> None:
    assert broken(ChatRequest(messages)) == paths


@pytest.mark.parametrize(
    ("image", "fields"),
    [
        (ImagePart(url="https://example.org/cat.png"), []),
        (ImagePart(url="http://example.org/cat.png"), ["url"]),
        (ImagePart(url="file:///etc/passwd"), ["url"]),
        (ImagePart(url="https://"), ["url"]),
        (ImagePart(url="https://a b"), ["url"]),
        (ImagePart(url="https://a\n"), ["url"]),
        (ImagePart(url="https://a/" + "x" * 8_192), ["url"]),
        (ImagePart(), ["url"]),
        (ImagePart(url="https://a/b", media_type="image/png"), ["media_type"]),
        (ImagePart(url="https://a/b", detail="low"), []),
        (ImagePart(url="https://a/b", detail="x" * 65), ["detail"]),
        (ImagePart(data=b"x" * IMAGE_BYTES_MAX, media_type="image/png"), []),
        (ImagePart(data=b"x" * (IMAGE_BYTES_MAX + 1), media_type="image/png"), ["data"]),
        (ImagePart(data=b"x"), ["media_type"]),
        (ImagePart(data=b"x", media_type="text/html"), ["media_type"]),
        (ImagePart(url="https://a/b", data=b"x", media_type="image/png"), [""]),
    ],
)
def test_images(image: ImagePart, fields: list[str]) -> None:
    place = "chat.messages[0].parts[0].image"
    paths = [f"{place}.{field}" if field else place for field in fields]
    assert broken(ChatRequest((Message(Role.USER, (image,)),))) == paths


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0, 2, 1.5], [-0.1, 2.1, NAN, INF, -INF]),
        ("top_p", [1e-9, 1], [0, -1, 1.01, NAN, INF]),
        ("max_output_tokens", [1, 1_000_000], [0, -1, 1_000_001]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1, NAN, INF]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1, NAN, INF]),
        ("seed", [0, -(2**63), 2**63 - 1], []),
        ("stop", [(), ("a",) * 4, ("x" * 256,)], [("a",) * 5]),
    ],
)
def test_generation(field: str, good: list[Any], bad: list[Any]) -> None:
    for values, paths in ((good, []), (bad, [f"chat.generation.{field}"])):
        for value in values:
            assert broken(replace(CHAT, generation=GenerationParams(**{field: value}))) == paths


def test_each_stop_text_has_a_length() -> None:
    chat = replace(CHAT, generation=GenerationParams(stop=("fine", "", "x" * 257)))
    assert broken(chat) == ["chat.generation.stop[1]", "chat.generation.stop[2]"]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 65, "a\n"])
def test_a_tool_has_a_plain_name(name: str) -> None:
    assert broken(replace(CHAT, tools=(ToolDefinition(name),))) == ["chat.tools[0].name"]


def test_tools_are_unique_and_at_most_128() -> None:
    assert broken(replace(CHAT, tools=(TOOL, TOOL))) == ["chat.tools[1].name"]
    many = tuple(ToolDefinition(f"t{i}") for i in range(129))
    assert broken(replace(CHAT, tools=many[:128])) == []
    assert broken(replace(CHAT, tools=many)) == ["chat.tools"]


@pytest.mark.parametrize(
    ("choice", "tools", "paths"),
    [
        (ToolChoice(), (), []),
        (ToolChoice(ToolChoiceMode.NAMED, "look_up"), (TOOL,), []),
        (ToolChoice(ToolChoiceMode.NAMED, "other"), (TOOL,), ["chat.tool_choice.name"]),
        (ToolChoice(ToolChoiceMode.NAMED), (), ["chat.tool_choice.name"]),
        (ToolChoice(ToolChoiceMode.AUTO, "look_up"), (TOOL,), ["chat.tool_choice.name"]),
        (ToolChoice(ToolChoiceMode.REQUIRED), (TOOL,), []),
        (ToolChoice(ToolChoiceMode.REQUIRED), (), ["chat.tool_choice.mode"]),
    ],
)
def test_tool_choice(choice: ToolChoice, tools: tuple[ToolDefinition, ...], paths: list[str]) -> None:
    assert broken(replace(CHAT, tool_choice=choice, tools=tools)) == paths


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


GOOD_SCHEMAS = [
    "{}",
    '{"type": "object", "properties": {"$ref": {"type": "string"}}}',
    '{"$defs": {"x": {"type": "string"}}, "$ref": "#/$defs/x"}',
    nested(32),
    json.dumps({"description": "x" * 65_000}),
]
BAD_SCHEMAS = [
    "",
    "{",
    "[]",
    "true",
    '"text"',
    "NaN",
    '{"maximum": Infinity}',
    nested(33),
    '{"a":' + "[" * 40 + "]" * 40 + "}",
    "[" * 30_000,
    '{"a":' * 13_000,
    '{"a": ' + "1" * 10_000 + "}",
    json.dumps({"description": "x" * 66_000}),
    '{"description": "' + "é" * 33_000 + '"}',
    '{"$ref": "https://example.org/schema"}',
    '{"$ref": "file:///etc/passwd"}',
    '{"items": [{"$dynamicRef": "other.json"}]}',
    '{"\ud800": 1, "$ref": "x"}',
]


@pytest.mark.parametrize("schema", GOOD_SCHEMAS, ids=lambda schema: schema[:20])
def test_a_schema_within_bounds_is_fine(schema: str) -> None:
    assert broken(replace(CHAT, response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema))) == []


@pytest.mark.parametrize("schema", BAD_SCHEMAS, ids=lambda schema: ascii(schema[:20]))
def test_a_schema_out_of_bounds_is_an_invalid_schema(schema: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_chat_request(replace(CHAT, response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema)))
    assert caught.value.reason == "INVALID_SCHEMA"
    assert [violation.path for violation in caught.value.violations] == ["chat.response_format.schema_json"]


def test_the_schema_of_a_tool_has_the_same_bounds_and_may_be_absent() -> None:
    assert broken(replace(CHAT, tools=(TOOL,))) == []
    chat = replace(CHAT, tools=(replace(TOOL, parameters_schema_json="[]"),))
    assert broken(chat) == ["chat.tools[0].parameters_schema_json"]


@pytest.mark.parametrize(
    ("form", "paths"),
    [
        (ResponseFormat(), []),
        (ResponseFormat(FormatKind.JSON_OBJECT, "{}"), ["chat.response_format.schema_json"]),
        (ResponseFormat(FormatKind.TEXT, "{}"), ["chat.response_format.schema_json"]),
        (ResponseFormat(FormatKind.JSON_SCHEMA, "{}", "an answer"), ["chat.response_format.name"]),
    ],
)
def test_response_format(form: ResponseFormat, paths: list[str]) -> None:
    assert broken(replace(CHAT, response_format=form)) == paths


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("request_id", ["", "a b-1~", "x" * 128], ["x" * 129, "é", "a\n", "a\x7f", "\x00"]),
        ("tenant", ["", "é" * 128], ["x" * 129]),
        ("end_user", ["x" * 256], ["x" * 257]),
        ("user_tier", ["x" * 256], ["x" * 257]),
        ("endpoint", ["x" * 256], ["x" * 257]),
        ("namespace", ["x" * 256], ["x" * 257]),
        ("template_version", ["x" * 256], ["x" * 257]),
        ("knowledge_version", ["x" * 256], ["x" * 257]),
        ("tags", [(), ("x" * 64,) * 16], [("x",) * 17]),
    ],
)
def test_labels(field: str, good: list[Any], bad: list[Any]) -> None:
    for values, paths in ((good, []), (bad, [field])):
        for value in values:
            assert broken(replace(CompletionRequest(CHAT), **{field: value})) == paths


def test_each_tag_has_a_length() -> None:
    assert broken(CompletionRequest(CHAT, tags=("", "x" * 65, "fine"))) == ["tags[0]", "tags[1]"]
    with pytest.raises(InvalidValue):
        check_tags(["x"] * 17)


@pytest.mark.parametrize(
    ("field", "path", "good", "bad"),
    [
        ("tier_floor", "tier_floor", ["", "x" * 64], ["x" * 65]),
        ("tier_ceiling", "tier_ceiling", ["x" * 64], ["x" * 65]),
        ("pinned_target", "pinned_target", ["x" * 64], ["x" * 65]),
        ("confidence_min", "confidence_min", [0, 1], [-0.01, 1.01, NAN, INF]),
        ("cost_nanousd_max", "cost_nanousd_max", [1, 2**62], [0, -1]),
        ("escalations_max", "escalations_max", [0, 2], [-1, 3]),
        ("cache_ttl_s", "cache_ttl", [1e-9, 30 * 86_400], [0, -1, 30 * 86_400 + 1, NAN, INF]),
    ],
)
def test_options(field: str, path: str, good: list[Any], bad: list[Any]) -> None:
    for values, paths in ((good, []), (bad, [f"options.{path}"])):
        for value in values:
            assert broken(CompletionRequest(CHAT, options=RoutingOptions(**{field: value}))) == paths


TIER = PlannedTier("simple", ("small-1",))
PLAN = Plan((TIER,))


@pytest.mark.parametrize(
    ("plan", "paths"),
    [
        (PLAN, []),
        (Plan(()), ["plan.tiers"]),
        (Plan((TIER, TIER)), ["plan.tiers[1].name"]),
        (Plan(tuple(replace(TIER, name=f"t{i}") for i in range(9))), ["plan.tiers"]),
        (replace(PLAN, escalations_max=3), ["plan.escalations_max"]),
        (replace(PLAN, escalations_max=-1), ["plan.escalations_max"]),
        (replace(PLAN, cost_nanousd_max=0), ["plan.cost_nanousd_max"]),
        (replace(PLAN, confidence_min=NAN), ["plan.confidence_min"]),
        (Plan((replace(TIER, name=""),)), ["plan.tiers[0].name"]),
        (Plan((replace(TIER, targets=()),)), ["plan.tiers[0].targets"]),
        (Plan((replace(TIER, targets=("a",) * 17),)), ["plan.tiers[0].targets"]),
        (Plan((replace(TIER, targets=("",)),)), ["plan.tiers[0].targets[0]"]),
        (Plan((replace(TIER, attempt_timeout_s=0),)), ["plan.tiers[0].attempt_timeout"]),
        (Plan((replace(TIER, attempt_timeout_s=NAN),)), ["plan.tiers[0].attempt_timeout"]),
        (Plan((replace(TIER, attempt_timeout_s=86_401),)), ["plan.tiers[0].attempt_timeout"]),
        (Plan((replace(TIER, gates=(SelfConfidenceSpec(),) * 17),)), ["plan.tiers[0].gates"]),
    ],
)
def test_plans(plan: Plan, paths: list[str]) -> None:
    assert broken(plan) == paths


@pytest.mark.parametrize(
    ("gate", "fields"),
    [
        (AgreementSpec("x" * 64), []),
        (AgreementSpec("x" * 65), ["agreement.second_target"]),
        (SelfConfidenceSpec(1), []),
        (SelfConfidenceSpec(0), ["self_confidence.threshold"]),
        (SelfConfidenceSpec(6), ["self_confidence.threshold"]),
        (RulesSpec(chars_min=5, chars_max=5, must_match=("^a",), number_min=1, number_max=1), []),
        (RulesSpec(chars_min=-1), ["rules.chars_min"]),
        (RulesSpec(chars_min=5, chars_max=4), ["rules.chars_max"]),
        (RulesSpec(chars_max=-1), ["rules.chars_max"]),
        (RulesSpec(number_min=NAN), ["rules.number_min"]),
        (RulesSpec(number_max=INF), ["rules.number_max"]),
        (RulesSpec(number_min=2, number_max=1), ["rules.number_max"]),
        (RulesSpec(must_match=("(",)), ["rules.must_match[0]"]),
        (RulesSpec(must_match=("(" * 500 + ")" * 500,)), ["rules.must_match[0]"]),
        (RulesSpec(must_not_match=("fine", "x" * 1_001)), ["rules.must_not_match[1]"]),
        (RulesSpec(must_not_match=("x",) * 33), ["rules.must_not_match"]),
        (RulesSpec(must_match=("a{99999999999}",)), ["rules.must_match[0]"]),
    ],
)
def test_gates(gate: Any, fields: list[str]) -> None:
    paths = [f"plan.tiers[0].gates[0].{field}" for field in fields]
    assert broken(Plan((replace(TIER, gates=(gate,)),))) == paths


def test_everything_that_is_wrong_is_said_at_once_and_not_endlessly() -> None:
    chat = ChatRequest((Message(Role.USER),), generation=GenerationParams(temperature=9, top_p=9), tools=(TOOL, TOOL))
    assert len(broken(chat)) == 4
    assert len(broken(ChatRequest((Message(Role.USER),) * 2_000))) == VIOLATIONS_MAX


@pytest.mark.parametrize(
    ("messages", "paths"),
    [
        ((Message.of(Role.USER, "x"),) * 2_000, []),
        ((Message.of(Role.USER, "x"),) * 2_001, ["chat.messages"]),
        ((Message(Role.USER, (TextPart("x"),) * 256),), []),
        ((Message(Role.USER, (TextPart("x"),) * 257),), ["chat.messages[0].parts"]),
        ((Message(Role.ASSISTANT, (), (ToolCall("1", "f", "{}"),) * 128),), []),
        ((Message(Role.ASSISTANT, (), (ToolCall("1", "f", "{}"),) * 129),), ["chat.messages[0].tool_calls"]),
        ((Message(Role.USER, (TextPart("x"),) * 250),) * 40, []),
        ((Message(Role.USER, (TextPart("x"),) * 251),) * 40, ["chat.messages"]),
    ],
)
def test_a_conversation_is_of_bounded_length(messages: tuple[Message, ...], paths: list[str]) -> None:
    assert broken(ChatRequest(messages)) == paths


def test_paths_start_where_the_message_stands() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_completion_request(CompletionRequest(ChatRequest(()), tags=("",)), "request")
    assert {v.path for v in caught.value.violations} == {"request.chat.messages", "request.tags[0]"}


def test_no_text_of_the_request_is_in_an_error() -> None:
    secret = "sesame"
    chat = ChatRequest(
        (Message(Role.USER, (ImagePart(url=secret),)), Message.of(Role.TOOL, secret)),
        tools=(ToolDefinition(f"{secret} !", parameters_schema_json=secret),),
        response_format=ResponseFormat(FormatKind.JSON_SCHEMA, secret),
    )
    with pytest.raises(InvalidValue) as caught:
        check_completion_request(CompletionRequest(chat, request_id=secret * 100, tags=(secret * 100,)))
    assert secret not in str(caught.value)
