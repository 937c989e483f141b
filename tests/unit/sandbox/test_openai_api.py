"""Rules of the wire format."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.openai_api import (
    MESSAGES_MAX,
    Answer,
    ApiError,
    ToolCall,
    Usage,
    answer_deltas,
    encode_json,
    parse_chat_call,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def test_text_parts_are_joined_and_pictures_are_passed_over() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {"url": "x"}}]
    parts.append({"type": "text", "text": "b"})
    call = parse_chat_call(body(messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": None}]))
    assert [message.text for message in call.messages] == ["a b", ""]
    assert call.user_texts == ("a b",)


def test_only_instructions_are_searched_for_a_marker() -> None:
    for role, expected in {"system": True, "developer": True, "user": False, "assistant": False}.items():
        call = parse_chat_call(body(messages=[{"role": role, "content": "end with CONFIDENCE: N"}]))
        assert call.system_says("CONFIDENCE:") is expected


def test_what_the_sandbox_has_no_use_for_is_kept_as_parameters() -> None:
    call = parse_chat_call(body(temperature=0.5, stream=True, stream_options={"include_usage": True}))
    assert call.parameters == {"temperature": 0.5, "stream_options": {"include_usage": True}}
    assert (call.stream, call.include_usage) == (True, True)


def test_usage_in_chunks_is_for_streams_only() -> None:
    assert not parse_chat_call(body(stream_options={"include_usage": True})).include_usage


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"\xff\xfe",
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": ' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_not_json_is_a_400(bad: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_chat_call(bad)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}] * (MESSAGES_MAX + 1)}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"n": 2}, "n"),
        ({"tools": [1]}, "tools"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_chat_call(body(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@given(st.dictionaries(st.sampled_from(["model", "messages", "stream", "stream_options", "tools", "n"]), JSON_VALUES))
def test_no_body_raises_anything_but_an_api_error(fields: dict[str, Any]) -> None:
    with suppress(ApiError):
        parse_chat_call(body(**fields))


@given(st.text(max_size=200), st.text(max_size=50), st.integers(1, 40))
def test_the_deltas_of_an_answer_add_up_to_it(text: str, arguments: str, chunk_chars: int) -> None:
    calls = (ToolCall("c1", "f", arguments), ToolCall("c2", "g", "{}"))
    answer = Answer("id", 0, "m", text, calls, "tool_calls", Usage(1, 1))
    content, collected = "", {0: "", 1: ""}
    for delta in answer_deltas(answer, chunk_chars):
        content += delta.get("content", "")
        for part in delta.get("tool_calls", []):
            collected[part["index"]] += part["function"]["arguments"]
        assert len(delta.get("content", "")) <= chunk_chars
    assert (content, collected) == (text, {0: arguments, 1: "{}"})


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "authentication_error", "invalid_api_key"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", "server_error"),
        (503, "server_error", "overloaded"),
    ],
)
def test_an_errors_type_and_code_follow_from_its_status(status: int, kind: str, code: str | None) -> None:
    error = ApiError(status, "why").body()["error"]
    assert error == {"message": "why", "type": kind, "param": None, "code": code}


def test_any_text_survives_the_encoding() -> None:
    assert json.loads(encode_json({"a": "\ud800 ü \n\n"})) == {"a": "\ud800 ü \n\n"}
