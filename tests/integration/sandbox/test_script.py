"""What a client sees of each step of a script, and what the journal says of it."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.conftest import Sandbox
from tests.support.waiting import until

WAIT_S = 10.0
"""How long a condition may take before a test fails."""


def content(response: httpx.Response) -> Any:
    return response.json()["choices"][0]["message"]["content"]


async def read_until_broken(sandbox: Sandbox) -> str:
    """Read a stream up to the break of its connection, which has to come."""
    pieces: list[str] = []

    async def read() -> None:
        async with sandbox.http.stream("POST", "/v1/chat/completions", json=sandbox.body(stream=True)) as response:
            async for piece in response.aiter_text():
                pieces.append(piece)  # noqa: PERF401 - what came before the break is wanted

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    return "".join(pieces)


async def test_text_finish_reason_and_usage_are_answered_as_scripted(sandbox: Sandbox) -> None:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 5}
    await sandbox.script(big=[{"text": "cut sho", "finish_reason": "length", "usage": usage}])
    answer = (await sandbox.ask("never recorded")).json()
    assert answer["choices"][0]["message"]["content"] == "cut sho"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {**usage, "total_tokens": 1_005}


async def test_a_scripted_text_is_counted(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"text": "one two three"}])
    assert (await sandbox.ask()).json()["usage"]["completion_tokens"] == 3


async def test_a_scripted_confidence_is_said_only_when_asked_for(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"text": "Hm.", "confidence": 1, "times": 2}, {"confidence": 3, "times": 1}])
    wanted = [{"role": "system", "content": "CONFIDENCE: N"}, {"role": "user", "content": "Sure?"}]
    assert content(await sandbox.ask()) == "Hm."
    said = await sandbox.ask(messages=wanted)
    assert (content(said), said.json()["usage"]["completion_tokens"]) == ("Hm.\nCONFIDENCE: 1", 2 + 3)
    assert content(await sandbox.ask(messages=wanted)) == "Quite sure.\nCONFIDENCE: 3"
    assert content(await sandbox.ask(messages=wanted)) == "Quite sure.\nCONFIDENCE: 2"


async def test_a_refusal_and_an_empty_answer(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"refusal": True}, {"empty": True}])
    assert content(await sandbox.ask()) == "I'm sorry, but I can't help with that."
    empty = await sandbox.ask()
    assert (content(empty), empty.json()["usage"]["completion_tokens"]) == ("", 0)


async def test_tool_calls_are_answered_whole_and_streamed(sandbox: Sandbox) -> None:
    call = {"name": "look_up", "arguments": '{"city": "Paris"}', "id": "call_1"}
    await sandbox.script(big=[{"tool_calls": [call], "chunk_chars": 6}])
    (choice,) = (await sandbox.ask()).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    function = {"name": "look_up", "arguments": '{"city": "Paris"}'}
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]

    chunks = [json.loads(line[6:]) for line in (await sandbox.ask(stream=True)).text.splitlines() if "{" in line]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    first, *rest = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert (first["id"], first["function"]) == ("call_1", {"name": "look_up", "arguments": ""})
    assert "".join(part["function"]["arguments"] for part in rest) == function["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_throttling_says_when_to_come_back_and_then_lets_calls_through(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"status": 429, "retry_after_s": 2, "times": 2}, {"status": 429, "retry_after_s": 0.25}])
    for retry_after in ("2", "2", "0.25"):
        response = await sandbox.ask()
        assert (response.status_code, response.headers["retry-after"]) == (429, retry_after)
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
    await sandbox.script()
    assert (await sandbox.ask()).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_is_answered_with_its_error_code(sandbox: Sandbox, stream: bool) -> None:
    await sandbox.script(big=[{"status": 503, "error_code": "maintenance"}, {"status": 500}])
    for status, code in ((503, "maintenance"), (500, "server_error")):
        response = await sandbox.ask(stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert "retry-after" not in response.headers


@pytest.mark.parametrize(("step", "status"), [({}, 200), ({"status": 502}, 502)])
async def test_malformed_json_is_a_complete_response_that_is_no_json(
    sandbox: Sandbox, step: dict[str, Any], status: int
) -> None:
    await sandbox.script(big=[{"malformed_json": True, **step}])
    response = await sandbox.ask()
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    with pytest.raises(ValueError, match="Unterminated"):
        response.json()


async def test_malformed_json_in_a_stream_is_an_event_that_is_no_json(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"malformed_json": True}])
    first, done = (await sandbox.ask(stream=True)).text.split("\n\n")[:2]
    assert done == "data: [DONE]"
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(first.removeprefix("data: "))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_disconnect_closes_the_connection_without_a_response(sandbox: Sandbox, stream: bool) -> None:
    await sandbox.script(big=[{"disconnect": True, "times": 1}])
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await sandbox.ask(stream=stream)
    (call,) = await sandbox.calls()
    assert (call["status"], call["cancelled"]) == (None, False)
    assert (await sandbox.ask()).status_code == 200


@pytest.mark.parametrize("after_chunks", [0, 2, 1_000])
async def test_a_cut_stream_ends_after_its_chunks_without_done(sandbox: Sandbox, after_chunks: int) -> None:
    await sandbox.script(big=[{"stream_cut_after_chunks": after_chunks, "chunk_chars": 10}])
    text = await read_until_broken(sandbox)
    assert text.count("data: ") == 1 + min(after_chunks, 4)  # the role first
    assert "[DONE]" not in text
    assert "stop" not in text
    assert [call["cancelled"] for call in await sandbox.calls()] == [False]


@pytest.mark.parametrize("after_chunks", [0, 2, 1_000])
async def test_a_stream_error_is_an_event_after_its_chunks_and_then_the_end(
    sandbox: Sandbox, after_chunks: int
) -> None:
    await sandbox.script(big=[{"stream_error_after_chunks": after_chunks, "chunk_chars": 10}])
    response = await sandbox.ask(stream=True)
    *chunks, error = [json.loads(block[6:]) for block in response.text.split("\n\n") if block]
    assert len(chunks) == 1 + min(after_chunks, 4)
    assert error["error"]["type"] == "server_error"


async def test_what_happens_in_streams_only_leaves_a_whole_answer_alone(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"stream_cut_after_chunks": 0}, {"stream_error_after_chunks": 0}])
    for _ in range(2):
        assert content(await sandbox.ask()) == "The capital of France is Paris."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_drip_sends_a_few_bytes_at_a_time(sandbox: Sandbox, stream: bool) -> None:
    await sandbox.script(big=[{"drip": True, "chunk_delay_s": 3600}, {"drip": True, "chunk_delay_s": 0.0001}])
    body = sandbox.body(stream=stream)
    async with sandbox.http.stream("POST", "/v1/chat/completions", json=body) as response:
        first_piece = await anext(aiter(response.aiter_raw()))
    assert len(first_piece) == 16
    whole = (await sandbox.ask(stream=stream)).content
    assert whole.startswith(first_piece)
    assert whole.endswith(b"data: [DONE]\n\n" if stream else b"}")


@pytest.mark.parametrize(("step", "stream"), [({"latency_s": 3600}, False), ({"chunk_delay_s": 3600}, True)])
async def test_a_held_answer_holds_back_no_other(sandbox: Sandbox, step: dict[str, Any], stream: bool) -> None:
    await sandbox.script(big=[step], any=[{"latency_s": 0.01, "chunk_delay_s": 0.001, "text": "late"}])
    held = asyncio.create_task(sandbox.ask(stream=stream))

    async def has_come() -> bool:
        return len(await sandbox.calls()) == 1

    await until(has_come)
    assert "late" in (await sandbox.ask(model="other", stream=stream)).text
    assert not held.done()
    held.cancel()


@pytest.mark.parametrize(
    ("step", "stream", "status"),
    [
        ({"hang": True}, False, None),
        ({"hang": True}, True, None),
        ({"latency_s": 3600}, False, None),
        ({"chunk_delay_s": 3600}, True, 200),
        ({"drip": True, "chunk_delay_s": 3600}, False, 200),
    ],
)
async def test_a_client_that_leaves_cancels_its_call_and_the_journal_says_so(
    sandbox: Sandbox, step: dict[str, Any], stream: bool, status: int | None
) -> None:
    await sandbox.script(big=[step])
    call = asyncio.create_task(sandbox.ask(stream=stream))

    async def has_come() -> bool:
        return [record["status"] for record in await sandbox.calls()] == [status]

    async def is_cancelled() -> bool:
        return [record["cancelled"] for record in await sandbox.calls()] == [True]

    await until(has_come)
    assert not await is_cancelled()
    assert not call.done()
    call.cancel()
    await until(is_cancelled)


async def test_a_demanded_key_is_demanded_before_any_step_is_consumed(sandbox: Sandbox) -> None:
    script = {"api_key": "right", "models": {"big": [{"text": "first"}, {"text": "second"}]}}
    await sandbox.http.put("/sandbox/script", json=script)
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        response = await sandbox.http.post("/v1/chat/completions", json=sandbox.body(), headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    right = {"Authorization": "Bearer right"}
    response = await sandbox.http.post("/v1/chat/completions", json=sandbox.body(), headers=right)
    assert content(response) == "first"
    assert "right" not in json.dumps([call["headers"] for call in await sandbox.calls()])


async def test_without_a_demanded_key_any_key_will_do(sandbox: Sandbox) -> None:
    headers = {"Authorization": "Bearer anything"}
    response = await sandbox.http.post("/v1/chat/completions", json=sandbox.body(), headers=headers)
    assert response.status_code == 200


async def test_the_journal_has_the_calls_in_order_with_what_they_said(sandbox: Sandbox) -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Sure?"}]
    await sandbox.http.post(
        "/v1/chat/completions",
        json=sandbox.body(messages=messages, temperature=0.5),
        headers={"X-Trace": "t1", "Authorization": "Bearer secret", "API-Key": "secret"},
    )
    await sandbox.ask("unknown", "other", stream=True)
    first, second = await sandbox.calls()
    assert (first["model"], first["stream"], first["status"]) == ("big", False, 200)
    assert first["messages"] == [{"role": "system", "text": "S"}, {"role": "user", "text": "Sure?"}]
    assert first["parameters"] == {"temperature": 0.5}
    assert first["headers"]["x-trace"] == "t1"
    assert "secret" not in json.dumps(first)
    assert (second["model"], second["stream"], second["status"]) == ("other", True, 404)
    assert second["seq"] == first["seq"] + 1
    assert (await sandbox.http.delete("/sandbox/calls")).status_code == 204
    assert await sandbox.calls() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"models": {"m": [{"hangs": true}]}}', "invalid_script"),
        (b"[]", "invalid_script"),
    ],
)
async def test_a_wrong_script_is_refused_and_the_old_one_stays(sandbox: Sandbox, body: bytes, code: str) -> None:
    await sandbox.script(big=[{"text": "scripted"}])
    response = await sandbox.http.put("/sandbox/script", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert content(await sandbox.ask()) == "scripted"
