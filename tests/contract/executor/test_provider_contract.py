"""What every provider promises: the fake, and the adapters of both APIs against a real server on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.provider import FakeProvider, FakeStep, Provider, ProviderCall
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import AnswerDelta
from tests.support.waiting import until

CHAT = ChatRequest((Message.of(Role.USER, "Count to three."),))
TEXT = "one, two, three"
ANSWER = Answer(Message.of(Role.ASSISTANT, TEXT), FinishReason.STOP, Usage(5, 7), "m-1")
CHUNK_CHARS = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider, and how many of its calls the other side still works on."""

    provider: Provider
    in_flight: Callable[[], int]


Make = Callable[[FakeStep], Awaitable[Subject]]


def _call(timeout_s: float = 20.0) -> ProviderCall:
    return ProviderCall("m", CHAT, timeout_s)


@asynccontextmanager
async def _server(
    step: FakeStep, body_of: Callable[[Answer, FakeStep, bool], bytes]
) -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """A plain HTTP/1.1 server that plays `step` at every request."""
    open_calls: set[int] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = id(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length:")[1].split("\r\n")[0])
                request = json.loads(await reader.readexactly(length))
                open_calls.add(number)
                if step.hang:
                    await reader.read()  # until the client leaves
                    return
                stream = bool(request.get("stream"))
                status, body, kind = "503 Service Unavailable", b'{"error": {}}', "application/json"
                if isinstance(step.result, Answer):
                    status, body = "200 OK", body_of(step.result, step, stream)
                    kind = "text/event-stream" if stream else kind
                cut = step.cut_after is not None
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n"
                    f"content-length: {len(body) + (100 if cut else 0)}\r\n\r\n".encode()
                )
                writer.write(body)
                await writer.drain()
                open_calls.discard(number)
                if cut:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            open_calls.discard(number)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1", lambda: len(open_calls)
    finally:
        server.close()


def _openai_body(answer: Answer, step: FakeStep, stream: bool) -> bytes:
    text = answer.message.text
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    if not stream:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json.dumps({"model": "m-1", "choices": [choice], "usage": usage}).encode()
    chunks: list[object] = [{"model": "m-1", "choices": [{"delta": {"content": piece}}]} for piece in _pieces(step)]
    if step.cut_after is None:
        chunks += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
    lines = [f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks]
    end = "data: [DONE]\r\n\r\n" if step.cut_after is None else ""
    return (": hello\r\n\r\n" + "".join(lines) + end).encode()


def _anthropic_body(answer: Answer, step: FakeStep, stream: bool) -> bytes:
    message = {"type": "message", "model": "m-1", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}
    if not stream:
        content = [{"type": "text", "text": answer.message.text}]
        usage = {"input_tokens": 5, "output_tokens": 7}
        return json.dumps({**message, "content": content, "stop_reason": "end_turn", "usage": usage}).encode()
    deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(step)]
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
    ]
    if step.cut_after is None:
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
            {"type": "message_stop"},
        ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def _pieces(step: FakeStep) -> list[str]:
    """The text up to where the stream is cut."""
    assert isinstance(step.result, Answer)
    text = step.result.message.text
    return [text[i : i + step.chunk_chars] for i in range(0, len(text), step.chunk_chars)][: step.cut_after]


REAL = {"openai": (OpenAIChat, _openai_body), "anthropic": (AnthropicMessages, _anthropic_body)}


@pytest.fixture(params=["fake", *REAL])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    closers: list[Callable[[], Awaitable[object]]] = []

    async def fake(step: FakeStep) -> Subject:
        provider = FakeProvider({"m": [step]})
        return Subject(provider, lambda: provider.in_flight)

    async def real(step: FakeStep) -> Subject:
        kind, body_of = REAL[request.param]
        context = _server(step, body_of)
        url, in_flight = await context.__aenter__()
        provider = kind(url, api_key="k", connections_max=10, connect_timeout_s=5.0, answer_bytes_max=1_000_000)
        closers.append(provider.close)
        closers.append(lambda: context.__aexit__(None, None, None))
        return Subject(provider, in_flight)

    yield fake if request.param == "fake" else real
    for close in closers:
        await close()


async def test_a_call_gives_the_whole_answer(make: Make) -> None:
    subject = await make(FakeStep(ANSWER))
    assert await subject.provider.complete(_call()) == ANSWER


async def test_a_stream_gives_the_text_in_pieces_and_then_the_whole_answer(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, chunk_chars=CHUNK_CHARS))
    events = [event async for event in subject.provider.stream(_call())]
    assert events[-1] == ANSWER
    pieces = [event.text for event in events[:-1] if isinstance(event, AnswerDelta)]
    assert len(pieces) == len(events) - 1  # how many is a matter of time: what arrives together goes on together
    assert "".join(pieces) == TEXT
    assert all(pieces)


async def test_a_failure_is_a_value(make: Make) -> None:
    failure = ProviderFailure(FailureKind.ERROR, "PROVIDER_5XX", detail="HTTP 503")
    subject = await make(FakeStep(failure))
    assert await subject.provider.complete(_call()) == failure
    assert [event async for event in subject.provider.stream(_call())] == [failure]


async def test_the_time_of_a_call_is_bounded(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, hang=True))
    result = await subject.provider.complete(_call(0.05))
    assert isinstance(result, ProviderFailure)
    assert (result.kind, result.error_reason, result.billable) == (FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", True)
    events = [event async for event in subject.provider.stream(_call(0.05))]
    assert [event.kind for event in events if isinstance(event, ProviderFailure)] == [FailureKind.TIMEOUT]


async def test_a_stream_that_is_cut_ends_with_a_failure(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, cut_after=2, chunk_chars=CHUNK_CHARS))
    events = [event async for event in subject.provider.stream(_call())]
    failure = events[-1]
    assert isinstance(failure, ProviderFailure)
    assert failure.error_reason == "PROVIDER_INTERRUPTED"
    assert failure.billable
    assert failure.output_chars == 2 * CHUNK_CHARS
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)) == TEXT[: 2 * CHUNK_CHARS]


async def test_cancelling_ends_the_call_on_the_other_side(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, hang=True))
    task = asyncio.create_task(subject.provider.complete(_call()))
    await until(lambda: subject.in_flight() == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: subject.in_flight() == 0)


async def test_cancelling_a_stream_ends_the_call_on_the_other_side(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, hang=True))

    async def read() -> None:
        async with aclosing(subject.provider.stream(_call())) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(read())
    await until(lambda: subject.in_flight() == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: subject.in_flight() == 0)


async def test_a_stream_may_be_left_early(make: Make) -> None:
    subject = await make(FakeStep(ANSWER, chunk_chars=1))
    async with aclosing(subject.provider.stream(_call())) as events:
        first = await anext(events)
        assert isinstance(first, AnswerDelta)
        assert TEXT.startswith(first.text)
    assert await subject.provider.complete(_call()) == ANSWER


async def test_many_calls_at_once(make: Make) -> None:
    subject = await make(FakeStep(ANSWER))
    results = await asyncio.gather(*(subject.provider.complete(_call()) for _ in range(30)))
    assert results == [ANSWER] * 30
