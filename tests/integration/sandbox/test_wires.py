"""Both wires play one script, replay one recording, fill one journal; what breaks a response breaks it on both."""

import asyncio
import json
import socket
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.conftest import ANTHROPIC_HEADERS, Sandbox
from tests.support.waiting import until

WAIT_S = 10.0
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
CONTENT = "The capital of France is Paris."
PIECES = ["The capita", "l of Franc", "e is Paris", "."]


@pytest.fixture(params=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest) -> str:
    """Run a test on each wire."""
    name: str = request.param
    return name


async def ask(sandbox: Sandbox, wire: str, **fields: Any) -> httpx.Response:
    return await (sandbox.ask if wire == "openai" else sandbox.ask_anthropic)(**fields)


def text_of(wire: str, response: httpx.Response) -> Any:
    body = response.json()
    return body["choices"][0]["message"]["content"] if wire == "openai" else body["content"][0]["text"]


def events_of(text: str) -> list[Any]:
    """Decode the events of a stream, [DONE] left out."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said(wire: str, events: list[Any]) -> list[str]:
    """Collect the pieces of content."""
    if wire == "anthropic":
        return [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    deltas = [event["choices"][0]["delta"] for event in events]
    return [delta["content"] for delta in deltas if delta["content"]]


async def read_broken(sandbox: Sandbox, wire: str, **fields: Any) -> bytes:
    """Read a body up to the break of its connection, which has to come."""
    pieces: list[bytes] = []

    async def read() -> None:
        body = {**sandbox.body(**fields), "max_tokens": 100}
        async with sandbox.http.stream("POST", PATHS[wire], json=body, headers=ANTHROPIC_HEADERS) as response:
            async for piece in response.aiter_raw():
                pieces.append(piece)  # noqa: PERF401 - what came before the break is wanted

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    return b"".join(pieces)


async def test_the_wires_share_recording_script_and_journal(sandbox: Sandbox) -> None:
    assert text_of("anthropic", await sandbox.ask_anthropic()) == CONTENT
    await sandbox.script(big=[{"text": "first"}, {"text": "second"}])
    assert text_of("openai", await sandbox.ask()) == "first"
    assert text_of("anthropic", await sandbox.ask_anthropic(system="S")) == "second"
    calls = await sandbox.calls()
    assert [(call["wire"], call["status"]) for call in calls] == [
        ("anthropic", 200),
        ("openai", 200),
        ("anthropic", 200),
    ]
    assert calls[2]["messages"] == [{"role": "system", "text": "S"}, {"role": "user", "text": "Capital of France?"}]
    assert calls[2]["parameters"] == {"max_tokens": 100}
    assert "x-api-key" not in calls[2]["headers"]


async def test_the_examples_answer_in_both_formats(examples: Sandbox) -> None:
    for wire in PATHS:
        response = await ask(examples, wire, prompt="Something else", model="gpt-4.1")
        assert "Spillway's sandbox" in text_of(wire, response)


async def test_what_is_no_call_is_not_in_the_journal(sandbox: Sandbox) -> None:
    for headers, status in (({}, 401), ({"x-api-key": "k"}, 400), (ANTHROPIC_HEADERS, 400)):
        response = await sandbox.http.post("/v1/messages", content=b"{", headers=headers)
        assert response.status_code == status
        assert response.json()["request_id"] == response.headers["request-id"]
    assert await sandbox.calls() == []


async def test_malformed_json_is_no_json(sandbox: Sandbox, wire: str) -> None:
    await sandbox.script(big=[{"malformed_json": True}])
    with pytest.raises(ValueError, match="Unterminated"):
        (await ask(sandbox, wire)).json()
    with pytest.raises(ValueError, match="Unterminated"):
        events_of((await ask(sandbox, wire, stream=True)).text)


@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_a_complete_200_that_is_no_text(sandbox: Sandbox, wire: str, stream: bool) -> None:
    await sandbox.script(big=[{"garbage": True}])
    response = await ask(sandbox, wire, stream=stream)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    with pytest.raises(UnicodeDecodeError):
        response.content.decode()


@pytest.mark.parametrize("after_chunks", [0, 2, 1_000])
async def test_garbage_in_a_stream_comes_after_its_chunks(sandbox: Sandbox, wire: str, after_chunks: int) -> None:
    await sandbox.script(big=[{"stream_garbage_after_chunks": after_chunks, "chunk_chars": 10}])
    content = (await ask(sandbox, wire, stream=True)).content
    good, _, garbage = content.rpartition(b"}\n\n\x00")
    assert garbage.startswith(b"\xff")
    assert said(wire, events_of((good + b"}").decode())) == PIECES[:after_chunks]
    assert b"[DONE]" not in content
    assert b"message_stop" not in content


@pytest.mark.parametrize("after_chunks", [0, 2, 1_000])
async def test_a_stream_that_breaks_has_its_chunks_and_no_end(sandbox: Sandbox, wire: str, after_chunks: int) -> None:
    await sandbox.script(big=[{"stream_cut_after_chunks": after_chunks, "chunk_chars": 10}])
    cut_text = (await read_broken(sandbox, wire, stream=True)).decode()
    await sandbox.script(big=[{"stream_error_after_chunks": after_chunks, "chunk_chars": 10}])
    *events, error = events_of((await ask(sandbox, wire, stream=True)).text)
    assert len(events_of(cut_text)) == len(events)
    assert "error" in error
    assert said(wire, events) == PIECES[:after_chunks]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_comes_after_its_bytes(sandbox: Sandbox, wire: str, stream: bool) -> None:
    await sandbox.script(big=[{"cut_after_bytes": 0}, {"cut_after_bytes": 40}, {"cut_after_bytes": 40, "drip": True}])
    whole_lengths = [len(await read_broken(sandbox, wire, stream=stream)) for _ in range(3)]
    assert whole_lengths == [0, 40, 40]
    assert [call["cancelled"] for call in await sandbox.calls()] == [False] * 3


async def test_a_cut_beyond_the_body_changes_nothing(sandbox: Sandbox, wire: str) -> None:
    await sandbox.script(big=[{"cut_after_bytes": 100_000}])
    assert text_of(wire, await ask(sandbox, wire)) == CONTENT


@pytest.mark.parametrize(
    ("step", "ending"),
    [
        ({"disconnect": True}, b""),
        ({"cut_after_bytes": 5}, b'\r\n\r\n{"id"'),
        ({"stream_cut_after_chunks": 1, "chunk_chars": 3}, b"\n\n\r\n"),
    ],
)
async def test_a_half_closed_connection_still_takes_what_the_client_sends(
    sandbox: Sandbox, wire: str, step: dict[str, Any], ending: bytes
) -> None:
    await sandbox.script(big=[{**step, "half_close": True}])
    body = json.dumps({**sandbox.body(stream="stream_cut_after_chunks" in step), "max_tokens": 9}).encode()
    headers = {**ANTHROPIC_HEADERS, "host": "sandbox", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    url = sandbox.http.base_url

    def talk() -> tuple[bytes, bool]:
        with closing(socket.create_connection((url.host, url.port or 0), timeout=WAIT_S)) as plain:
            plain.sendall(f"POST {PATHS[wire]} HTTP/1.1\r\n{head}\r\n".encode() + body)
            received = b""
            while data := plain.recv(65_536):
                received += data
            for _ in range(3):  # a socket that is closed on the other side would answer with an RST
                plain.sendall(b"x")
                plain.settimeout(0.02)
                try:
                    still_open = plain.recv(1) == b""
                except ConnectionError:
                    still_open = False
            return received, still_open

    received, still_open = await asyncio.to_thread(talk)
    assert received.endswith(ending)
    assert bool(received) == bool(ending)
    assert still_open


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_byte_may_be_late_though_the_head_is_not(sandbox: Sandbox, wire: str, stream: bool) -> None:
    await sandbox.script(big=[{"first_byte_delay_s": 3600}, {"first_byte_delay_s": 0.001}])
    body = {**sandbox.body(stream=stream), "max_tokens": 9}
    async with sandbox.http.stream("POST", PATHS[wire], json=body, headers=ANTHROPIC_HEADERS) as response:
        assert response.status_code == 200
        first_piece = asyncio.ensure_future(anext(aiter(response.aiter_raw())))
        assert text_of(wire, await ask(sandbox, wire)) == CONTENT
        assert not first_piece.done()
        first_piece.cancel()
        await asyncio.gather(first_piece, return_exceptions=True)

    async def is_cancelled() -> bool:
        return (await sandbox.calls())[0]["cancelled"] is True

    await until(is_cancelled)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_drip_has_its_rate(sandbox: Sandbox, wire: str, stream: bool) -> None:
    await sandbox.script(big=[{"drip_bytes_per_s": 0.001}, {"drip_bytes_per_s": 500}, {"drip_bytes_per_s": 1e6}])
    body = {**sandbox.body(stream=stream), "max_tokens": 9}
    for first_bytes in (1, 10):
        async with sandbox.http.stream("POST", PATHS[wire], json=body, headers=ANTHROPIC_HEADERS) as response:
            assert len(await anext(aiter(response.aiter_raw()))) == first_bytes
    assert (await ask(sandbox, wire, stream=stream)).content.rstrip().endswith((b"}", b"[DONE]"))


async def test_scripted_headers_come_with_answers_and_errors(sandbox: Sandbox, wire: str) -> None:
    headers = {"retry-after-ms": "1500", "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    await sandbox.script(big=[{"headers": headers}, {"status": 429, "headers": headers}])
    for status in (200, 429):
        response = await ask(sandbox, wire)
        assert response.status_code == status
        assert headers.items() <= dict(response.headers).items()


async def test_overload_has_its_own_status(sandbox: Sandbox, wire: str) -> None:
    await sandbox.script(big=[{"status": 529, "retry_after_s": 3}])
    response = await ask(sandbox, wire)
    assert (response.status_code, response.headers["retry-after"]) == (529, "3")
    kind = {"openai": "server_error", "anthropic": "overloaded_error"}[wire]
    assert response.json()["error"]["type"] == kind


async def test_a_client_that_leaves_cancels_its_call(sandbox: Sandbox, wire: str) -> None:
    await sandbox.script(big=[{"hang": True}])
    call = asyncio.create_task(ask(sandbox, wire))

    async def has_come() -> bool:
        return len(await sandbox.calls()) == 1

    async def is_cancelled() -> bool:
        return [record["cancelled"] for record in await sandbox.calls()] == [True]

    await until(has_come)
    call.cancel()
    await until(is_cancelled)


async def test_every_response_names_its_request(sandbox: Sandbox) -> None:
    responses = [await sandbox.ask(), await sandbox.ask("Who?"), await sandbox.http.get("/v2")]
    names = [response.headers["x-request-id"] for response in responses]
    anthropic = [await sandbox.ask_anthropic(), await sandbox.ask_anthropic("Who?")]
    anthropic.append(await sandbox.http.get("/v1/messages"))
    names += [response.headers["request-id"] for response in anthropic]
    assert len(set(names)) == 6
    assert [response.json()["type"] for response in anthropic] == ["message", "error", "error"]
