"""OpenAI's format: what a request becomes, and that any answer is an answer or one error."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.outcome import Answer
from services.executor.providers.failures import ComplaintError
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.openai_request import request_body
from services.executor.providers.openai_wire import LOGPROBS_MAX, StreamAssembler, parse_answer
from services.executor.providers.provider import ProviderCall
from services.executor.providers.wire import UnreadableError, encode_body
from spillway.chat import (
    FinishReason,
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
from tests.unit.executor.builders import chat, openai_response


def body(request: Any, **fields: Any) -> dict[str, Any]:
    call = ProviderCall("m", request, 1.0)
    return request_body(call, **{"stream": False, "output_limit_name": "max_tokens", **fields})


def test_what_is_not_set_is_not_sent() -> None:
    assert body(chat("hi")) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_everything_that_is_set_is_sent() -> None:
    request = chat(
        "hi",
        generation=GenerationParams(0.0, 1.0, 50, ("x",), 7, 0.5, -0.5),
        tools=(ToolDefinition("f", "does f", '{"type": "object"}', strict=True),),
        tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
        response_format=ResponseFormat(FormatKind.JSON_SCHEMA, '{"type": "object"}', "", strict=True),
    )
    sent = body(request, stream=True)
    assert sent["temperature"] == 0.0
    assert sent["max_tokens"] == 50
    assert sent["stop"] == ["x"]
    assert sent["tools"][0]["function"] == {
        "name": "f",
        "description": "does f",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert sent["response_format"]["json_schema"] == {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


def test_images_tools_and_results_are_sent() -> None:
    request = replace(
        chat(),
        messages=(
            Message(Role.USER, (TextPart("look"), ImagePart(url="https://x/y.png", detail="low"))),
            Message(Role.USER, (ImagePart(data=b"\x00", media_type="image/png"),)),
            Message(Role.ASSISTANT, (), (ToolCall("1", "f", "{}"),)),
            Message(Role.TOOL, (TextPart("42"),), tool_call_id="1"),
        ),
    )
    sent = body(request)["messages"]
    assert sent[0]["content"][1] == {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    assert sent[1]["content"][0]["image_url"]["url"] == "data:image/png;base64,AA=="
    assert sent[2]["content"] is None
    assert sent[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert sent[3] == {"role": "tool", "content": "42", "tool_call_id": "1"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
    ],
)
async def test_the_output_limit_has_the_name_that_the_server_knows(url: str, name: str) -> None:
    provider = OpenAIChat(url, api_key="", connections_max=1, connect_timeout_s=1, answer_bytes_max=1_000)
    request = provider._request(
        ProviderCall("m", chat(generation=GenerationParams(max_output_tokens=9)), 1), stream=False
    )
    assert json.loads(request.content)[name] == 9
    await provider.close()


def test_an_answer_is_read() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    read = parse_answer(openai_response({"content": "hi"}, usage=usage, model="m-1"))
    assert read == Answer(Message.of(Role.ASSISTANT, "hi"), FinishReason.STOP, Usage(10, 5, 10, 2), "m-1")


def test_a_refusal_field_is_a_refusal() -> None:
    read = parse_answer(openai_response({"content": None, "refusal": "No."}))
    assert (read.refused, read.message.text) == (True, "No.")


def test_odd_but_common_answers_are_read() -> None:
    assert parse_answer(openai_response({"content": [{"type": "text", "text": "hi"}]})).message.text == "hi"
    called = parse_answer(openai_response({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}))
    assert called.message.tool_calls == (ToolCall(called.message.tool_calls[0].id, "f", '{"a": 1}'),)
    assert called.message.tool_calls[0].id
    assert (
        parse_answer(openai_response({"content": "x"}, usage={"prompt_tokens": -1, "completion_tokens": 2})).usage
        is None
    )
    assert parse_answer(openai_response({"content": "x"}, usage=None)).usage is None


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": {"content": 3}}]}',
            b"[" * 200_000, b"\xff\xfe", b'{"choices": [{"message": {"tool_calls": [1]}}]}']
)  # fmt: skip
def test_what_cannot_be_read_is_one_error(raw: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_answer(raw)


NAMES = ["choices", "message", "content", "tool_calls", "function", "name", "delta", "usage", "index", "x"]
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
)


@given(DOCUMENTS)
def test_any_json_is_an_answer_or_one_error(document: object) -> None:
    for wrapped in (document, {"choices": [document]}, {"choices": [{"message": document, "delta": document}]}):
        with contextlib.suppress(UnreadableError, ComplaintError):
            parse_answer(json.dumps(wrapped).encode())
        with contextlib.suppress(UnreadableError, ComplaintError):
            StreamAssembler().feed(json.dumps(wrapped))


def test_a_stream_with_tool_calls_is_put_together() -> None:
    assembler = StreamAssembler()
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"content": "Let me see."},
        {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": '{"a"'}},
                {"index": 1, "id": "2", "function": {"name": "g"}},
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    text = "".join(assembler.feed(json.dumps({"choices": [{"delta": delta}]})) for delta in deltas)
    seen = [assembler.is_complete]
    assembler.feed(json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    assembler.feed(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
    assert [*seen, assembler.is_complete] == [False, True]
    whole = assembler.answer()
    assert whole.message.text == text == "Let me see."
    assert whole.message.tool_calls == (ToolCall("1", "f", '{"a": 1}'), ToolCall("2", "g", ""))
    assert (whole.finish_reason, whole.usage) == (FinishReason.TOOL_CALLS, Usage(3, 4))


def test_an_error_event_breaks_the_stream() -> None:
    with pytest.raises(ComplaintError):
        StreamAssembler().feed('{"error": {"message": "overloaded"}}')


def test_ids_are_made_up_alike_for_the_same_call_and_differ_between_responses() -> None:
    def ids(response_id: str) -> list[str]:
        calls = [{"function": {"name": "f", "arguments": "{}"}}, {"id": "", "function": {"name": "f"}}]
        return [
            call.id for call in parse_answer(openai_response({"tool_calls": calls}, id=response_id)).message.tool_calls
        ]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b")}) == 4


def logprobs(count: int, value: object = -0.5) -> dict[str, Any]:
    return {"content": [{"token": "t", "logprob": value}] * count}


def with_logprobs(raw: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "t"}, "logprobs": raw, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (logprobs(2), (("t", -0.5),) * 2),
        (logprobs(1, 0), (("t", 0.0),)),
        (logprobs(1, 1e-9), (("t", 0.0),)),
        (logprobs(1, -9999.0), (("t", -9999.0),)),
        (logprobs(LOGPROBS_MAX + 1), ()),
        (logprobs(1, None), ()),
        (logprobs(1, True), ()),
        (logprobs(1, 10**400), ()),
        (logprobs(1, float("nan")), ()),
        ({"content": [3]}, ()),
        ({"content": None}, ()),
        ([], ()),
        (None, ()),
    ],
)
def test_logprobs_are_whole_or_none(raw: object, read: tuple[tuple[str, float], ...]) -> None:
    assert parse_answer(with_logprobs(raw)).logprobs == read


def test_a_stream_with_a_piece_without_logprobs_has_none() -> None:
    for last, count in ((logprobs(1), 2), (None, 0)):
        assembler = StreamAssembler()
        for raw in (logprobs(1), last):
            assembler.feed(json.dumps({"choices": [{"delta": {"content": "t"}, "logprobs": raw}]}))
        assembler.feed(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop", "logprobs": None}]}))
        assert len(assembler.answer().logprobs) == count


def test_reasoning_that_is_shown_counts_as_written_and_is_no_part_of_the_answer() -> None:
    assembler = StreamAssembler()
    for delta in ({"reasoning_content": "Hm. "}, {"reasoning": "So: "}, {"content": "42"}):
        assembler.feed(json.dumps({"choices": [{"delta": delta}]}))
    assert (assembler.output_chars, assembler.answer().message.text) == (10, "42")


def test_a_request_with_a_lone_surrogate_in_a_schema_is_sent_as_it_was_written() -> None:
    request = chat("hé", tools=(ToolDefinition("f", "", r'{"description": "\ud800"}'),))
    sent = encode_body(body(request))
    assert rb'"description":"\ud800"' in sent
    assert "hé".encode() in sent
