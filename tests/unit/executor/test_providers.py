"""The wire format and its transport: bodies, answers, streams, statuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.failures import ComplaintError, outcome_of_response, read_complaint
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.openai_request import request_body
from services.executor.providers.openai_wire import LOGPROBS_MAX, StreamAssembler, parse_answer
from services.executor.providers.provider import ProviderCall
from services.executor.providers.sse import EventParser, EventTooLargeError
from services.executor.providers.wire import UnreadableError, encode_body, load_object
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
from spillway.routing import AnswerDelta
from tests.unit.executor.builders import chat

KEY = "sk-very-secret"


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


def response(message: object, **fields: object) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **fields}).encode()


def test_an_answer_is_read() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    read = parse_answer(response({"content": "hi"}, usage=usage, model="m-1"))
    assert read == Answer(Message.of(Role.ASSISTANT, "hi"), FinishReason.STOP, Usage(10, 5, 10, 2), "m-1")


def test_a_refusal_field_is_a_refusal() -> None:
    read = parse_answer(response({"content": None, "refusal": "No."}))
    assert (read.refused, read.message.text) == (True, "No.")


def test_odd_but_common_answers_are_read() -> None:
    assert parse_answer(response({"content": [{"type": "text", "text": "hi"}]})).message.text == "hi"
    called = parse_answer(response({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}))
    assert called.message.tool_calls == (ToolCall(called.message.tool_calls[0].id, "f", '{"a": 1}'),)
    assert called.message.tool_calls[0].id
    assert parse_answer(response({"content": "x"}, usage={"prompt_tokens": -1, "completion_tokens": 2})).usage is None
    assert parse_answer(response({"content": "x"}, usage=None)).usage is None


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


@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 7),
)
def test_events_are_the_same_however_they_are_cut(payloads: list[str], newline: str, size: int) -> None:
    raw = ("\ufeff: hi" + newline + newline).encode()
    raw += "".join(f"id: 1{newline}data: {payload}{newline}{newline}" for payload in payloads).encode()
    parser = EventParser(10_000)
    got = [event for start in range(0, len(raw), size) for event in parser.feed(raw[start : start + size])]
    assert [*got, *parser.end()] == payloads


def test_several_data_lines_are_one_event_and_a_missing_end_is_forgiven() -> None:
    parser = EventParser(100)
    assert list(parser.feed(b"data: a\ndata:b\n\ndata: c")) == ["a\nb"]
    assert list(parser.end()) == ["c"]


@pytest.mark.parametrize("raw", [b"x" * 200, b"data: 123456789\n" * 20])
def test_an_event_is_bounded(raw: bytes) -> None:
    with pytest.raises(EventTooLargeError):
        list(EventParser(100).feed(raw))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (429, FailureKind.THROTTLED, "PROVIDER_429"),
        (408, FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"),
        (409, FailureKind.ERROR, "PROVIDER_409"),
        (500, FailureKind.ERROR, "PROVIDER_5XX"),
        (529, FailureKind.ERROR, "PROVIDER_OVERLOADED"),
        (401, FailureKind.AUTH, "PROVIDER_AUTH"),
        (403, FailureKind.AUTH, "PROVIDER_AUTH"),
        (404, FailureKind.AUTH, "PROVIDER_NOT_FOUND"),
        (400, FailureKind.REJECTED, "PROVIDER_REJECTED"),
        (422, FailureKind.REJECTED, "PROVIDER_REJECTED"),
        (302, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
        (204, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
    ],
)
def test_a_status_has_its_meaning(status: int, kind: FailureKind, reason: str) -> None:
    failure = outcome_of_response(status, {}, None, 0.0)
    assert isinstance(failure, ProviderFailure)
    assert (failure.kind, failure.error_reason, failure.billable) == (kind, reason, False)


@asynccontextmanager
async def server(raw: bytes, heads: list[bytes]) -> AsyncIterator[str]:
    """Answers every request with `raw`; keeps the heads, one list entry per request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head + f"peer: {writer.get_extra_info('peername')[1]}".encode())
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(raw)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    finally:
        listening.close()


def http(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@asynccontextmanager
async def openai(url: str, **fields: Any) -> AsyncIterator[OpenAIChat]:
    options = {"api_key": KEY, "connections_max": 4, "connect_timeout_s": 5.0, "answer_bytes_max": 2_000, **fields}
    provider = OpenAIChat(url, **options)
    try:
        yield provider
    finally:
        await provider.close()


def call(timeout_s: float = 20.0) -> ProviderCall:
    return ProviderCall("m", chat(), timeout_s)


async def test_connections_are_used_again_and_the_key_is_in_its_header_alone() -> None:
    heads: list[bytes] = []
    async with server(http(response({"content": "hi"})), heads) as url, openai(url) as provider:
        for _ in range(5):
            assert isinstance(await provider.complete(call()), Answer)
    assert len({head.rpartition(b"peer: ")[2] for head in heads}) == 1
    assert all(
        head.lower().count(b"authorization: bearer sk-very-secret") == head.count(KEY.encode()) == 1 for head in heads
    )


async def test_an_answer_that_is_too_large_is_given_up() -> None:
    async with server(http(response({"content": "x" * 5_000})), []) as url, openai(url) as provider:
        result = await provider.complete(call())
        streamed = [event async for event in provider.stream(call())]
    assert isinstance(result, ProviderFailure)
    assert result.kind is FailureKind.UNREADABLE
    assert isinstance(streamed[-1], ProviderFailure)


async def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    heads: list[bytes] = []
    raw = http(b"", "302 Found", "location: http://127.0.0.1:1/stolen", "set-cookie: a=b")
    async with server(raw, heads) as url, openai(url) as provider:
        results = [await provider.complete(call()) for _ in range(2)]
    assert [r.error_reason for r in results if isinstance(r, ProviderFailure)] == ["PROVIDER_UNREADABLE"] * 2
    assert all(b"cookie" not in head.lower() for head in heads)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with server(http(response({"content": "hi"})), []) as url, openai(url) as provider:
        assert isinstance(await provider.complete(call()), Answer)


async def test_no_connection_is_not_billed_and_a_lost_one_may_be() -> None:
    async with openai("http://127.0.0.1:1/v1") as provider:
        refused = await provider.complete(call())
    assert isinstance(refused, ProviderFailure)
    assert (refused.error_reason, refused.billable) == ("PROVIDER_CONNECT", False)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listening, openai(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1") as provider:
        lost = await provider.complete(call())
        streamed = [event async for event in provider.stream(call())]
    assert isinstance(lost, ProviderFailure)
    assert (lost.error_reason, lost.billable) == ("PROVIDER_INTERRUPTED", True)
    assert streamed == [lost]


@pytest.mark.parametrize("url", ["http://", "http://[::1", "ftp://127.0.0.1/v1"])
async def test_an_address_that_is_none_is_a_failure_not_an_error(url: str) -> None:
    try:
        context = openai(url)
        async with context as provider:
            result = await provider.complete(call(5.0))
    except ValueError:
        return  # refused when it is made, at the start of the process
    assert isinstance(result, ProviderFailure)


async def test_no_failure_shows_the_key_or_the_prompt() -> None:
    makers: list[Callable[[], bytes]] = [
        lambda: http(b"nonsense " + KEY.encode()),
        lambda: http(KEY.encode(), "401 Unauthorized"),
        lambda: b"HTTP/9.9 garbage " + KEY.encode() + b"\r\n\r\n",
        lambda: http(b"", "200 OK", "x-long: " + "x" * 20_000),
    ]
    for make in makers:
        async with server(make(), []) as url, openai(url) as provider:
            result = await provider.complete(call(5.0))
        assert isinstance(result, ProviderFailure)
        assert KEY not in repr(result)
        assert chat().last_user_text not in repr(result)


@pytest.mark.parametrize("size", range(1, 12))
def test_a_line_ending_that_is_cut_in_two_is_one_line_ending(size: int) -> None:
    raw = b"data: a\r\ndata: b\r\n\r\n"
    parser = EventParser(100)
    assert [event for start in range(0, len(raw), size) for event in parser.feed(raw[start : start + size])] == ["a\nb"]


def test_ids_are_made_up_alike_for_the_same_call_and_differ_between_responses() -> None:
    def ids(response_id: str) -> list[str]:
        calls = [{"function": {"name": "f", "arguments": "{}"}}, {"id": "", "function": {"name": "f"}}]
        return [call.id for call in parse_answer(response({"tool_calls": calls}, id=response_id)).message.tool_calls]

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


@given(st.text(), st.sampled_from(["\\ud800", "\\uDFFF", "\\ud83d\\ud83d", "\\ude00\\ud83d"]))
def test_no_surrogate_without_a_partner_gets_in(around: str, escape: str) -> None:
    quoted = json.dumps(around)[1:-1]
    raw = f'{{"{quoted}{escape}": ["{escape}{quoted}", {{"x": "{escape}"}}]}}'
    json.dumps(load_object(raw), ensure_ascii=False).encode()


def test_pairs_of_surrogates_and_quoted_escapes_stay_as_they_are() -> None:
    assert load_object(r'{"a": "\ud83d\ude00", "b": "\\ud800"}') == {"a": "😀", "b": r"\ud800"}
    assert load_object(b'\xef\xbb\xbf{"a": "\xed\xa0\x80"}')["a"].strip("\ufffd") == ""


def test_a_request_with_a_lone_surrogate_in_a_schema_is_sent_as_it_was_written() -> None:
    request = chat("hé", tools=(ToolDefinition("f", "", r'{"description": "\ud800"}'),))
    sent = encode_body(body(request))
    assert rb'"description":"\ud800"' in sent
    assert "hé".encode() in sent


@pytest.mark.parametrize("key", ["sk-é", "sk-\nx: y", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_refused_at_the_start_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        OpenAIChat("http://127.0.0.1/v1", api_key=key, connections_max=1, connect_timeout_s=1, answer_bytes_max=1_000)
    assert "sk-" not in str(caught.value)


COMPLAINTS = [
    ({"error": {"type": "insufficient_quota"}}, 429, FailureKind.SPEND_CAP),
    ({"error": {"code": "billing_hard_limit_reached"}}, 400, FailureKind.SPEND_CAP),
    ({"error": {"message": "You exceeded your current quota, please check"}}, 429, FailureKind.SPEND_CAP),
    ({"error": {"message": "'You exceeded your current quota' is what the prompt says"}}, 429, FailureKind.THROTTLED),
    ({"error": {"message": "messages.0: 'your credit balance is too low'"}}, 400, FailureKind.REJECTED),
    ({"error": {"type": "billing_error"}}, 500, FailureKind.ERROR),
    ({"error": {"code": "context_length_exceeded"}}, 400, FailureKind.UNSUITABLE),
    ({"object": "error", "message": "This model's maximum context length is 10", "code": 400}, 400,
     FailureKind.UNSUITABLE),
    ({"error": {"code": "context_length_exceeded"}}, 503, FailureKind.ERROR),
    ({"error": 3}, 400, FailureKind.REJECTED),
    ({"detail": "x"}, 400, FailureKind.REJECTED),
]  # fmt: skip


@pytest.mark.parametrize(("document", "status", "kind"), COMPLAINTS)
def test_a_complaints_words_count_and_its_text_only_at_the_beginning(
    document: dict[str, Any], status: int, kind: FailureKind
) -> None:
    failure = outcome_of_response(status, {}, read_complaint(document), 0.0)
    assert isinstance(failure, ProviderFailure)
    assert failure.kind is kind


def test_only_failures_of_the_target_say_when_to_ask_again() -> None:
    for status, wait_s in ((429, 3.0), (503, 3.0), (402, 3.0), (400, None), (401, None)):
        failure = outcome_of_response(status, {"retry-after": "3"}, None, 0.0)
        assert isinstance(failure, ProviderFailure)
        assert failure.retry_after_s == wait_s


@pytest.mark.parametrize(
    "body", [b"x" * 100_000, b"not json", b"[" * 50_000, b'{"error": "' + KEY.encode() + b'"}', b""]
)
async def test_the_status_stands_whatever_is_wrong_with_its_body(body: bytes) -> None:
    async with server(http(body, "429 Too Many Requests", "retry-after: 7"), []) as url, openai(url) as provider:
        results = [await provider.complete(call()), *[event async for event in provider.stream(call())]]
    assert results == [ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", 7.0, detail="HTTP 429")] * 2


async def test_a_server_that_echoes_the_key_as_its_request_id_is_not_repeated() -> None:
    raw = http(b"{}", "500 Internal Server Error", f"x-request-id: {KEY}")
    async with server(raw, []) as url, openai(url) as provider:
        assert KEY not in repr(await provider.complete(call()))


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (OpenAIChat, 'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'),
        (AnthropicMessages, 'data: {"type": "message_stop"}\n\n'),
    ],
)
async def test_a_stream_is_over_when_its_last_event_says_so_and_not_when_the_server_hangs_up(
    make: type[OpenAIChat | AnthropicMessages], end: str
) -> None:
    raw = http(b"", "200 OK", "content-type: text/event-stream").replace(b"content-length: 0", b"x: y") + end.encode()
    async with server(raw, []) as url:
        provider = make(url, api_key=KEY, connections_max=1, connect_timeout_s=5.0, answer_bytes_max=2_000)
        events = [event async for event in provider.stream(call())]
        await provider.close()
    assert isinstance(events[-1], Answer)


async def test_text_flows_as_soon_as_it_arrives_and_what_arrives_together_goes_on_together() -> None:
    was_read = asyncio.Event()

    def event(text: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + event("one "))
        await was_read.wait()
        writer.write(event("two ") + event("three") + b"data: {\n\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening, openai(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1") as provider:
        events = []
        async for got in provider.stream(call()):
            events.append(got)
            was_read.set()
    assert events[:-1] == [AnswerDelta("one "), AnswerDelta("two three")]
    assert isinstance(events[-1], ProviderFailure)
    assert (events[-1].error_reason, events[-1].output_chars) == ("PROVIDER_UNREADABLE", 13)
