"""Anthropic's format: what a request becomes, and that any answer is an answer or one error."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.anthropic_request import OUTPUT_TOKENS_DEFAULT, request_body
from services.executor.providers.anthropic_wire import AnthropicWire, StreamAssembler, parse_answer
from services.executor.providers.failures import ComplaintError
from services.executor.providers.provider import ProviderCall
from services.executor.providers.wire import UnreadableError
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
    Usage,
)
from tests.unit.executor.builders import chat


def body(request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
    return request_body(ProviderCall("m", request, 1.0), stream=stream)


def talk(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(messages, **fields)


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


SYSTEM, USER, ASSISTANT, TOOL = Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL


def test_what_is_not_set_is_not_sent_but_the_output_limit() -> None:
    assert body(chat("hi")) == {
        "model": "m",
        "max_tokens": OUTPUT_TOKENS_DEFAULT,
        "messages": [{"role": "user", "content": [text("hi")]}],
    }


def test_parameters_are_sent_within_their_bounds() -> None:
    sent = body(chat("hi", generation=GenerationParams(1.7, 0.5, 50, ("x", "\n", "  "), 7, 0.5, -0.5)), stream=True)
    del sent["messages"]
    # No seed, no penalties, no white stop sequences; and of temperature and top_p the first alone.
    assert sent == {"model": "m", "max_tokens": 50, "temperature": 1.0, "stop_sequences": ["x"], "stream": True}
    assert body(chat("hi", generation=GenerationParams(top_p=0.5)))["top_p"] == 0.5


def test_system_messages_stand_apart_in_their_order() -> None:
    sent = body(talk(Message.of(SYSTEM, "one"), Message.of(USER, "hi"), Message.of(SYSTEM, "two")))
    assert sent["system"] == "one\n\ntwo"
    assert [turn["role"] for turn in sent["messages"]] == ["user"]


def test_messages_of_one_role_are_merged() -> None:
    sent = body(talk(*(Message.of(role, role.value) for role in (USER, USER, ASSISTANT, ASSISTANT, USER))))
    assert sent["messages"] == [
        {"role": "user", "content": [text("user"), text("user")]},
        {"role": "assistant", "content": [text("assistant"), text("assistant")]},
        {"role": "user", "content": [text("user")]},
    ]


def test_the_user_begins_and_white_space_ends_no_beginning_of_an_answer() -> None:
    sent = body(talk(Message.of(ASSISTANT, "Welcome."), Message.of(USER, "hi"), Message.of(ASSISTANT, "Well, \n")))
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user", "assistant"]
    assert sent["messages"][-1]["content"] == [text("Well,")]


def test_empty_texts_are_left_out() -> None:
    parts = (TextPart(""), TextPart("hi"), TextPart(" \n"))
    sent = body(talk(Message(USER, parts), Message.of(ASSISTANT, ""), Message.of(USER, "there")))
    assert sent["messages"] == [{"role": "user", "content": [text("hi"), text("there")]}]


def test_tool_calls_and_results_become_blocks_with_the_results_first() -> None:
    sent = body(
        talk(
            Message.of(USER, "weather?"),
            Message(ASSISTANT, (TextPart("Let me see."),), (ToolCall("a.b", "f", '{"x": 1}'), ToolCall("2", "g", ""))),
            Message.of(USER, "quick"),
            Message(TOOL, (TextPart("sunny"),), tool_call_id="a.b"),
            Message(TOOL, (TextPart(""),), tool_call_id="2"),
            tools=(ToolDefinition("f"), ToolDefinition("g")),
        )
    )
    assert sent["messages"][1]["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "a_b", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "2", "name": "g", "input": {}},
    ]
    assert sent["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a_b", "content": [text("sunny")]},
        {"type": "tool_result", "tool_use_id": "2", "content": [text("(no output)")]},
        text("quick"),
    ]


@pytest.mark.parametrize("arguments", ["{", "[1]", "3", "[" * 100_000])
def test_arguments_that_are_no_object_are_quoted_in_one(arguments: str) -> None:
    sent = body(talk(Message.of(USER, "hi"), Message(ASSISTANT, (), (ToolCall("1", "f", arguments),))))
    assert sent["messages"][1]["content"][0]["input"] == {"arguments": arguments}


def test_tools_of_the_history_are_declared_and_not_offered() -> None:
    sent = body(talk(Message.of(USER, "hi"), Message(ASSISTANT, (), (ToolCall("1", "f", "{}"),))))
    assert sent["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert sent["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(ToolChoiceMode.AUTO), {"type": "auto"}),
        (ToolChoice(ToolChoiceMode.NONE), {"type": "none"}),
        (ToolChoice(ToolChoiceMode.REQUIRED), {"type": "any"}),
        (ToolChoice(ToolChoiceMode.NAMED, "f"), {"type": "tool", "name": "f"}),
    ],
)
def test_tools_and_their_choice(choice: ToolChoice, sent: dict[str, str]) -> None:
    tools = (ToolDefinition("f", "does f", '{"properties": {"x": {"type": "number"}}}', strict=True),)
    got = body(chat("hi", tools=tools, tool_choice=choice))
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    assert got["tools"] == [{"name": "f", "description": "does f", "input_schema": schema}]
    assert got["tool_choice"] == sent
    assert "tool_choice" not in body(chat("hi", tool_choice=ToolChoice(ToolChoiceMode.NONE)))


def test_images_by_url_and_by_value() -> None:
    images = (ImagePart(url="https://x/y.png", detail="low"), ImagePart(data=b"\x00", media_type="image/png"))
    sent = body(talk(Message(USER, (TextPart("look"), *images))))
    assert sent["messages"][0]["content"][1:] == [
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
    ]


def test_the_form_of_the_answer_is_asked_for_in_words() -> None:
    schema = '{"type": "object", "required": ["a"]}'
    asked = body(chat("hi", response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema)))
    assert asked["system"].endswith(schema)
    given_system = replace(
        talk(Message.of(SYSTEM, "Be brief."), Message.of(USER, "hi")),
        response_format=ResponseFormat(FormatKind.JSON_OBJECT),
    )
    assert body(given_system)["system"].startswith("Be brief.\n\nWrite the answer as one JSON object")
    assert "system" not in body(chat("hi", response_format=ResponseFormat()))


def test_the_key_and_the_version_have_their_headers() -> None:
    assert AnthropicWire().headers("k") == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert AnthropicWire().headers("") == {"anthropic-version": "2023-06-01"}


MESSAGES = st.builds(
    Message,
    st.sampled_from([SYSTEM, USER, ASSISTANT, TOOL]),
    st.lists(st.builds(TextPart, st.text(max_size=3)), max_size=2).map(tuple),
    st.lists(st.builds(ToolCall, st.text(max_size=3), st.just("f"), st.text(max_size=3)), max_size=2).map(tuple),
    st.text(max_size=3),
)


@given(st.lists(MESSAGES, min_size=1, max_size=6))
def test_every_conversation_becomes_one_that_is_allowed(messages: list[Message]) -> None:
    turns = body(talk(*messages))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2)
    for turn in turns:
        assert turn["content"]
        kinds = [block["type"] for block in turn["content"]]
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result")
        assert all(block["text"].strip() for block in turn["content"] if block["type"] == "text")


NAMES = ["type", "content", "text", "usage", "delta", "index", "content_block", "message", "error", "input", "name"]
WORDS = ["text", "tool_use", "content_block_start", "content_block_delta", "message_start", "message_delta", "error",
         "input_json_delta", "text_delta", "message_stop"]  # fmt: skip
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)


@given(st.lists(DOCUMENTS, max_size=4))
def test_any_json_is_an_answer_or_one_error(documents: list[object]) -> None:
    assembler = StreamAssembler()
    for document in documents:
        for wrapped in (document, {"content": [document]}, {"content": [{"type": "tool_use", "input": document}]}):
            with contextlib.suppress(UnreadableError, ComplaintError):
                parse_answer(json.dumps(wrapped).encode())
        with contextlib.suppress(UnreadableError, ComplaintError):
            assembler.feed(json.dumps(document))
    with contextlib.suppress(UnreadableError):
        assembler.answer()


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"[" * 200_000, b'{"content": [{"type": "text"}]}',
    b'{"content": [{"type": "tool_use", "id": "1", "input": {}}]}'])  # fmt: skip
def test_what_cannot_be_read_is_one_error(raw: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_answer(raw)


def test_usage_that_makes_no_sense_is_none() -> None:
    def usage(raw: object) -> Usage | None:
        return parse_answer(json.dumps({"content": [], "usage": raw}).encode()).usage

    assert usage({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None}) == Usage(1, 2)
    assert usage({"input_tokens": 1}) is None
    assert usage({"input_tokens": -1, "output_tokens": 2}) is None
    assert usage(None) is None
