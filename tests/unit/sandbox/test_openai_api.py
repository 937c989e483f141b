"""Rules of the wire format."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.logprobs import token_logprobs
from services.sandbox.openai_api import TOP_LOGPROBS_MAX, OpenAIWire
from services.sandbox.wire import (
    MESSAGES_MAX,
    Answer,
    ApiError,
    Call,
    Stage,
    TokenLogprob,
    ToolCall,
    Usage,
    encode_json,
)

WIRE = OpenAIWire()
FIELDS = st.sampled_from(["model", "messages", "stream", "stream_options", "tools", "n", "logprobs", "top_logprobs"])
CALL = Call("m", (), stream=True, tools_json="", parameters={})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def chunks(answer: Answer, chunk_chars: int, call: Call = CALL) -> list[tuple[Stage, Any]]:
    """Decode the frames of a stream; [DONE] is None."""
    frames = [(frame.stage, frame.data.decode()) for frame in WIRE.frames(answer, call, chunk_chars)]
    assert all(text.startswith("data: ") and text.endswith("\n\n") for _, text in frames)
    return [(stage, None if "[DONE]" in text else json.loads(text[6:])) for stage, text in frames]


def deltas(answer: Answer, chunk_chars: int) -> list[Any]:
    """Collect the content's deltas."""
    return [chunk["choices"][0]["delta"] for stage, chunk in chunks(answer, chunk_chars) if stage is Stage.CONTENT]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def test_text_parts_are_joined_and_pictures_are_passed_over() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {"url": "x"}}]
    parts.append({"type": "text", "text": "b"})
    call = WIRE.parse({}, body(messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": None}]))
    assert [message.text for message in call.messages] == ["a b", ""]
    assert call.user_texts == ("a b",)


def test_only_instructions_are_searched_for_a_marker() -> None:
    for role, expected in {"system": True, "developer": True, "user": False, "assistant": False}.items():
        call = WIRE.parse({}, body(messages=[{"role": role, "content": "end with CONFIDENCE: N"}]))
        assert call.system_says("CONFIDENCE:") is expected


def test_what_the_sandbox_has_no_use_for_is_kept_as_parameters() -> None:
    call = WIRE.parse({}, body(temperature=0.5, stream=True, stream_options={"include_usage": True}))
    assert call.parameters == {"temperature": 0.5, "stream_options": {"include_usage": True}}
    assert (call.stream, call.include_usage) == (True, True)


def test_usage_in_chunks_is_for_streams_only() -> None:
    assert not WIRE.parse({}, body(stream_options={"include_usage": True})).include_usage


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
        WIRE.parse({}, bad)
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
        ({"n": 0}, "n"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": TOP_LOGPROBS_MAX + 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"tools": [1]}, "tools"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        WIRE.parse({}, body(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@given(st.dictionaries(FIELDS, JSON_VALUES))
def test_no_body_raises_anything_but_an_api_error(fields: dict[str, Any]) -> None:
    with suppress(ApiError):
        WIRE.parse({}, body(**fields))


@given(st.text(max_size=200), st.text(max_size=50), st.integers(1, 40))
def test_the_deltas_of_an_answer_add_up_to_it(text: str, arguments: str, chunk_chars: int) -> None:
    calls = (ToolCall("c1", "f", arguments), ToolCall("c2", "g", "{}"))
    answer = Answer("id", 0, "m", text, calls, "tool_calls", Usage(1, 1))
    content, collected = "", {0: "", 1: ""}
    for delta in deltas(answer, chunk_chars):
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
    error = WIRE.error_body(ApiError(status, "why"), "req")["error"]
    assert error == {"message": "why", "type": kind, "param": None, "code": code}


def test_any_text_survives_the_encoding() -> None:
    assert json.loads(encode_json({"a": "\ud800 ü \n\n"})) == {"a": "\ud800 ü \n\n"}


def test_an_errors_type_and_code_may_be_given() -> None:
    error = WIRE.error_body(ApiError(429, "why", kind="insufficient_quota", code="insufficient_quota"), "req")["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")


def test_a_finish_reason_that_the_wire_has_no_word_for_is_translated() -> None:
    for said, expected in {"stop_sequence": "stop", "refusal": "content_filter", "length": "length"}.items():
        answer = Answer("id", 0, "m", "a", (), said, Usage(1, 1))
        assert WIRE.answer_body(answer)["choices"][0]["finish_reason"] == expected


def test_parts_of_usage_are_told_only_when_given() -> None:
    def usage(**parts: int) -> Any:
        return WIRE.answer_body(Answer("id", 0, "m", "a", (), "stop", Usage(9, 7, **parts)))["usage"]

    whole = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    assert usage() == whole
    told = usage(cached_tokens=0, reasoning_tokens=6)
    assert told["prompt_tokens_details"] == {"cached_tokens": 0}
    assert told["completion_tokens_details"] == {"reasoning_tokens": 6}
    assert usage(cache_creation_tokens=4)["prompt_tokens_details"] == {"cache_write_tokens": 4}


def test_logprobs_are_null_unless_the_answer_has_them() -> None:
    answer = Answer("id", 0, "m", "a b", (), "stop", Usage(1, 1))
    assert WIRE.answer_body(answer)["choices"][0]["logprobs"] is None
    assert {chunk["choices"][0]["logprobs"] for _, chunk in chunks(answer, 2) if chunk is not None} == {None}


def test_of_the_alternatives_only_the_token_that_was_taken_is_told_and_only_when_asked_for() -> None:
    for top, expected in ((0, []), (1, [{"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}])):
        logprobs = (TokenLogprob("é", -0.5),)
        answer = Answer("id", 0, "m", "é", (), "stop", Usage(1, 1), logprobs=logprobs, top_logprobs=top)
        (entry,) = WIRE.answer_body(answer)["choices"][0]["logprobs"]["content"]
        assert (entry["token"], entry["bytes"], entry["top_logprobs"]) == ("é", [0xC3, 0xA9], expected)


@given(st.text(max_size=200), st.integers(1, 40))
def test_the_logprobs_of_a_streams_chunks_are_those_of_the_whole_answer(text: str, chunk_chars: int) -> None:
    logprobs = token_logprobs(text, "pseudo")
    answer = Answer("id", 0, "m", text, (), "stop", Usage(1, 1), logprobs=logprobs)
    content = [chunk["choices"][0] for stage, chunk in chunks(answer, chunk_chars) if stage is Stage.CONTENT]
    streamed = [entry for choice in content for entry in choice["logprobs"]["content"]]
    assert streamed == WIRE.answer_body(answer)["choices"][0]["logprobs"]["content"]
