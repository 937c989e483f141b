"""Calls over real sockets: connections, keys, limits, and how streams flow and end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.provider import ProviderCall
from spillway.routing import AnswerDelta
from tests.unit.executor.builders import chat, openai_response

KEY = "sk-very-secret"


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
    async with server(http(openai_response({"content": "hi"})), heads) as url, openai(url) as provider:
        for _ in range(5):
            assert isinstance(await provider.complete(call()), Answer)
    assert len({head.rpartition(b"peer: ")[2] for head in heads}) == 1
    assert all(
        head.lower().count(b"authorization: bearer sk-very-secret") == head.count(KEY.encode()) == 1 for head in heads
    )


async def test_an_answer_that_is_too_large_is_given_up() -> None:
    async with server(http(openai_response({"content": "x" * 5_000})), []) as url, openai(url) as provider:
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
    async with server(http(openai_response({"content": "hi"})), []) as url, openai(url) as provider:
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


@pytest.mark.parametrize("key", ["sk-é", "sk-\nx: y", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_refused_at_the_start_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        OpenAIChat("http://127.0.0.1/v1", api_key=key, connections_max=1, connect_timeout_s=1, answer_bytes_max=1_000)
    assert "sk-" not in str(caught.value)


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
