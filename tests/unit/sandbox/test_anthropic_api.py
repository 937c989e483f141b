"""Rules of Anthropic's wire format."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.anthropic_api import AnthropicWire
from services.sandbox.wire import MESSAGES_MAX, Answer, ApiError, Call, Message, Stage, ToolCall, Usage

WIRE = AnthropicWire()
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
CALL = Call("m", (), stream=True, tools_json="", parameters={})
USE = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image", "tool_use", "tool_result", "document"])},
        optional=dict.fromkeys(("text", "source", "id", "name", "input", "tool_use_id", "content"), JSON_VALUES),
    ),
    max_size=3,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": BLOCKS | st.text()}), max_size=4
)


def body(**fields: Any) -> bytes:
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    ).encode()


def refused(headers: dict[str, str], content: bytes) -> dict[str, Any]:
    """Parse what has to be refused; give the error's body with its status."""
    with pytest.raises(ApiError) as caught:
        WIRE.parse(headers, content)
    return {"status": caught.value.status, **WIRE.error_body(caught.value, "req_1")}


def events(answer: Answer, chunk_chars: int = 8) -> list[tuple[Stage, Any]]:
    """Decode the frames of a stream; the event's name has to be its type."""
    decoded = []
    for frame in WIRE.frames(answer, CALL, chunk_chars):
        name, data = frame.data.decode().removesuffix("\n\n").split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        decoded.append((frame.stage, value))
    return decoded


def test_texts_of_all_kinds_are_found_and_pictures_are_passed_over() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What "}, IMAGE, {"type": "text", "text": "is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, USE]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a cat"}, IMAGE]},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    for system in ("Be brief.", [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]):
        call = WIRE.parse(HEADERS, body(system=system, messages=messages))
        assert call.messages == (
            Message("system", "Be brief."),
            Message("user", "What is it?"),
            Message("assistant", "Let me see."),
            Message("tool", "a cat"),
            Message("user", "Well?"),
        )
        assert call.user_texts == ("What is it?", "Well?")


def test_what_the_sandbox_has_no_use_for_is_kept_as_parameters() -> None:
    call = WIRE.parse(HEADERS, body(temperature=0.5, stream=True, stop_sequences=["x"]))
    assert call.parameters == {"max_tokens": 9, "temperature": 0.5, "stop_sequences": ["x"]}
    assert call.stream


def test_without_a_key_it_is_a_401_before_anything_else() -> None:
    error = refused({"authorization": "Basic k"}, b"{")
    assert error == {
        "status": 401,
        "type": "error",
        "error": {"type": "authentication_error", "message": "x-api-key header is required"},
        "request_id": "req_1",
    }


def test_a_key_is_an_x_api_key_or_else_a_bearer_token() -> None:
    assert WIRE.api_key({"authorization": "Bearer a"}) == "a"
    assert WIRE.api_key({"authorization": "Bearer a", "x-api-key": "b"}) == "b"
    assert WIRE.api_key({"authorization": "Basic a"}) is None


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"temperature": 1}, "temperature"),
        ({"top_p": 1}, "top_p"),
        ({"top_k": 5}, "top_k"),
        ({"messages": [{"role": "assistant", "content": [{"type": "document"}]}]}, "messages.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]}]},
            "messages.0",
        ),
    ],
)
def test_what_the_newest_version_took_away_is_refused_there_only(fields: dict[str, Any], place: str) -> None:
    error = refused({**HEADERS, "anthropic-version": "2026-10-21"}, body(**fields))
    assert error["error"]["message"].startswith(f"{place}: ")
    assert WIRE.parse(HEADERS, body(**fields)).model == "m"


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "1999-01-01"}])
def test_without_a_version_it_is_a_400(version: dict[str, str]) -> None:
    error = refused({"x-api-key": "k", **version}, body())
    assert (error["status"], error["error"]["type"]) == (400, "invalid_request_error")
    assert error["error"]["message"].startswith("anthropic-version: ")


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b"[" * 200_000, b"\xff", b'{"model": "\\ud800"}'])
def test_what_is_not_json_is_a_400(bad: bytes) -> None:
    assert refused(HEADERS, bad)["status"] == 400


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"stop_sequences": [" "]}, "stop_sequences"),
        ({"system": 3}, "system"),
        ({"system": [IMAGE]}, "system"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}] * (MESSAGES_MAX + 1)}, "messages"),
        ({"messages": [{"role": "system", "content": "a"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        ({"messages": [{"role": "assistant", "content": [USE]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": [{**USE, "input": "{}"}]}]}, "messages.0"),
        ({"messages": [{"role": "assistant", "content": [USE]}, {"role": "user", "content": "a"}]}, "messages.1"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}]},
            "messages.0",
        ),
        ({"tools": [1]}, "tools"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "parameters": {}}]}, "tools.0.input_schema"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_its_place(fields: dict[str, Any], place: str) -> None:
    error = refused(HEADERS, body(**fields))
    assert (error["status"], error["error"]["type"]) == (400, "invalid_request_error")
    assert error["error"]["message"].startswith(f"{place}: ")


def test_a_final_assistant_message_may_be_empty_and_a_tool_of_theirs_needs_no_schema() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    tools = [{"type": "bash_20250124", "name": "bash"}]
    assert WIRE.parse(HEADERS, body(messages=messages, tools=tools)).tools_json == json.dumps(tools)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "messages": MESSAGES | JSON_VALUES,
            **dict.fromkeys(("model", "max_tokens", "system", "stream", "tools", "stop_sequences"), JSON_VALUES),
        },
    )
)
def test_no_body_raises_anything_but_an_api_error(fields: dict[str, Any]) -> None:
    for version in ("2023-06-01", "2026-10-21"):
        with suppress(ApiError):
            WIRE.parse({**HEADERS, "anthropic-version": version}, body(**fields))


def test_the_events_of_a_stream_come_in_their_order() -> None:
    calls = (ToolCall("t1", "look_up", '{"city": "Paris"}'), ToolCall("t2", "now", "{}"))
    answer = Answer("msg_1", 0, "m", "Let me look.", calls, "tool_calls", Usage(5, 7))
    decoded = events(answer)
    kinds = [value["type"].removeprefix("content_block_") for _, value in decoded]
    text, tool, last_tool = ["start", "delta", "delta", "stop"], ["start", *["delta"] * 4, "stop"], ["start"]
    last_tool += ["delta", "delta", "stop"]
    assert kinds == ["message_start", "ping", *text, *tool, *last_tool, "message_delta", "message_stop"]
    assert [value["index"] for _, value in decoded if "index" in value] == [0] * 4 + [1] * 6 + [2] * 4
    message = decoded[0][1]["message"]
    assert (message["content"], message["stop_reason"], message["usage"]["output_tokens"]) == ([], None, 1)
    assert decoded[-2][1]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert decoded[-2][1]["usage"]["output_tokens"] == 7


@given(st.text(max_size=200), st.text(max_size=50), st.integers(1, 40))
def test_the_deltas_of_a_stream_add_up_to_the_answer(text: str, arguments: str, chunk_chars: int) -> None:
    answer = Answer("id", 0, "m", text, (ToolCall("t1", "f", arguments),), "tool_calls", Usage(1, 1))
    collected = {"text": "", "partial_json": ""}
    for stage, value in events(answer, chunk_chars):
        if stage is Stage.CONTENT:
            (piece,) = [key for key in collected if key in value["delta"]]
            collected[piece] += value["delta"][piece]
            assert len(value["delta"][piece]) <= chunk_chars
    assert collected == {"text": text, "partial_json": arguments}


def test_an_empty_answer_has_no_content_whole_and_streamed() -> None:
    answer = Answer("id", 0, "m", "", (), "stop", Usage(1, 0))
    assert WIRE.answer_body(answer)["content"] == []
    assert [value["type"] for _, value in events(answer)] == ["message_start", "ping", "message_delta", "message_stop"]


def test_arguments_are_an_object_and_broken_ones_stay_the_text_they_are() -> None:
    calls = (ToolCall("t1", "f", '{"a": [1]}'), ToolCall("t2", "f", '{"a": '))
    content = WIRE.answer_body(Answer("id", 0, "m", None, calls, "tool_calls", Usage(1, 1)))["content"]
    assert [block["input"] for block in content] == [{"a": [1]}, '{"a": ']


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("refusal", "refusal"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_a_finish_reason_is_translated(said: str, expected: str) -> None:
    body = WIRE.answer_body(Answer("id", 0, "m", "a", (), said, Usage(1, 1)))
    assert (body["stop_reason"], body["stop_sequence"]) == (expected, None)


def test_a_stop_sequence_is_told() -> None:
    answer = Answer("id", 0, "m", "a", (), "stop_sequence", Usage(1, 1), stop_sequence="END")
    stop = {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert stop.items() <= WIRE.answer_body(answer).items()
    assert events(answer)[-2][1]["delta"] == stop


def test_what_went_through_the_cache_is_no_part_of_the_input() -> None:
    usage = Usage(100, 9, cached_tokens=60, cache_creation_tokens=30, reasoning_tokens=4)
    assert WIRE.answer_body(Answer("id", 0, "m", "a", (), "stop", usage))["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_errors_type_follows_from_its_status_unless_given(status: int, kind: str) -> None:
    body = WIRE.error_body(ApiError(status, "why"), "req_1")
    assert body == {"type": "error", "error": {"type": kind, "message": "why"}, "request_id": "req_1"}
    assert WIRE.error_body(ApiError(status, "why", kind="other"), "req_1")["error"]["type"] == "other"


def test_an_errors_code_is_among_its_details() -> None:
    error = WIRE.error_body(ApiError(404, "why", code="unknown_prompt"), "req_1")["error"]
    assert error["details"] == {"error_code": "unknown_prompt"}
