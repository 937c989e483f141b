"""The official `anthropic` SDK works against the sandbox as it does against Anthropic: the wire is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic
from anthropic.types import Message, MessageParam, ToolParam

from tests.contract.sandbox.conftest import Script

ASK: list[MessageParam] = [{"role": "user", "content": "Capital of France?"}]
TEXT = "The capital of France is Paris."
TOOLS: list[ToolParam] = [
    {
        "name": "look_up",
        "description": "Look a city up.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
INPUT = {"city": "Paris", "fields": ["population"]}


@pytest.fixture
def client(sandbox_url: str, script: Script) -> Iterator[Anthropic]:
    with Anthropic(base_url=sandbox_url, api_key="any", max_retries=0, timeout=20) as client:
        yield client


def ask(client: Anthropic, **fields: Any) -> Message:
    message = client.messages.create(**{"model": "big", "max_tokens": 100, "messages": ASK, **fields})
    assert isinstance(message, Message)
    return message


def stream(client: Anthropic, **fields: Any) -> list[Any]:
    fields = {"model": "big", "max_tokens": 100, "messages": ASK, "stream": True, **fields}
    return list(client.messages.create(**fields))


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_has_its_text_stop_reason_usage_and_request_id(client: Anthropic) -> None:
    message = ask(client)
    assert (text_of(message), message.role, message.model) == (TEXT, "assistant", "big")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (4, 7)
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 0)
    assert (message._request_id or "").startswith("req_")


@pytest.mark.parametrize("system", ["Say CONFIDENCE: N", [{"type": "text", "text": "Say CONFIDENCE: N"}]])
def test_a_system_prompt_is_text_or_blocks(client: Anthropic, script: Script, system: Any) -> None:
    script({"confidence": 3})
    message = ask(client, system=system)
    assert text_of(message) == f"{TEXT}\nCONFIDENCE: 3"
    assert message.usage.input_tokens > 4


def test_tokens_of_their_cache_are_told(client: Anthropic, script: Script) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "cached_tokens": 80, "cache_creation_tokens": 15}
    script({"usage": usage})
    start, *_, delta, _ = stream(client)
    for told in (ask(client).usage, start.message.usage, delta.usage):
        assert (told.input_tokens, told.cache_read_input_tokens, told.cache_creation_input_tokens) == (5, 80, 15)
    assert (start.message.usage.output_tokens, delta.usage.output_tokens) == (1, 50)


def test_the_events_of_a_stream_are_the_same_answer(client: Anthropic, script: Script) -> None:
    script({"chunk_chars": 5})
    events = stream(client)
    deltas = [event for event in events if event.type == "content_block_delta"]
    kinds = [event.type for event in events if event.type != "content_block_delta"]
    ends = ["content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert kinds == ["message_start", *ends]
    assert "".join(event.delta.text for event in deltas) == TEXT
    assert all(len(event.delta.text) <= 5 for event in deltas)
    assert events[-2].delta.stop_reason == "end_turn"


def test_the_wire_has_pings(sandbox_url: str, client: Anthropic) -> None:
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
    body = {"model": "big", "max_tokens": 9, "messages": ASK, "stream": True}
    response = httpx.post(f"{sandbox_url}/v1/messages", json=body, headers=headers, trust_env=False)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert 'event: ping\ndata: {"type":"ping"}\n\n' in response.text


def test_the_accumulating_stream_helper_understands_a_stream(client: Anthropic, script: Script) -> None:
    call = {"name": "look_up", "arguments": json.dumps(INPUT)}
    script({"text": "Looking.", "tool_calls": [call], "chunk_chars": 3})
    with client.messages.stream(model="big", max_tokens=100, messages=ASK, tools=TOOLS) as accumulating:
        assert "".join(accumulating.text_stream) == "Looking."
        message = accumulating.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[1].input == INPUT  # type: ignore[union-attr]
    assert message.stop_reason == "tool_use"


def test_tool_use_comes_whole_and_streamed(client: Anthropic, script: Script) -> None:
    script({"tool_calls": [{"name": "look_up", "arguments": json.dumps(INPUT)}, {"name": "now"}], "chunk_chars": 7})
    message = ask(client, tools=TOOLS)
    assert message.stop_reason == "tool_use"
    used = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert used == [("look_up", INPUT), ("now", {})]

    names, inputs = {}, {0: "", 1: ""}
    for event in stream(client, tools=TOOLS):
        if event.type == "content_block_start":
            names[event.index] = event.content_block.name
        elif event.type == "content_block_delta":
            inputs[event.index] += event.delta.partial_json
    assert names == {0: "look_up", 1: "now"}
    assert [json.loads(text) for text in inputs.values()] == [INPUT, {}]


def test_a_conversation_with_tool_results_and_pictures_is_accepted(client: Anthropic, script: Script) -> None:
    script({"text": "done"})
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    question: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}
    messages = [
        question,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look_up", "input": INPUT}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2.1 million"}]},
    ]
    with_picture = ask(client, messages=messages, tools=TOOLS).usage
    question["content"] = "What is it?"
    assert ask(client, messages=messages, tools=TOOLS).usage == with_picture  # pictures count nothing


def test_a_tool_result_that_belongs_to_no_call_is_refused(client: Anthropic) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "2.1 million"}
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        ask(client, messages=[{"role": "user", "content": [result]}])


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"finish_reason": "length"}, ("max_tokens", None)),
        ({"stop_sequence": "END"}, ("stop_sequence", "END")),
        ({"refusal": True, "finish_reason": "refusal"}, ("refusal", None)),
        ({"tool_calls": [{"name": "look_up"}]}, ("tool_use", None)),
        ({}, ("end_turn", None)),
    ],
)
def test_a_stop_reason_is_one_of_theirs(
    client: Anthropic, script: Script, step: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    script(step)
    message = ask(client)
    assert (message.stop_reason, message.stop_sequence) == expected
    delta = stream(client)[-2].delta
    assert (delta.stop_reason, delta.stop_sequence) == expected


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_is_raised_as_theirs(
    client: Anthropic, script: Script, status: int, error: type[anthropic.APIStatusError], kind: str, streamed: bool
) -> None:
    script({"status": status, "error_message": "because"})
    with pytest.raises(error) as caught:
        ask(client, stream=streamed)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"] == {"type": kind, "message": "because"}
    assert caught.value.request_id == caught.value.body["request_id"]


def test_throttling_says_when_to_come_back(client: Anthropic, script: Script) -> None:
    script({"status": 429, "retry_after_s": 7, "headers": {"anthropic-ratelimit-requests-remaining": "0"}})
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_an_error_after_200_is_raised_from_the_stream(client: Anthropic, script: Script) -> None:
    script({"stream_error_after_chunks": 2, "chunk_chars": 4, "error_type": "overloaded_error"})
    texts = []

    def read() -> None:
        for event in client.messages.create(model="big", max_tokens=9, messages=ASK, stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                texts.append(event.delta.text)  # noqa: PERF401 - what came before is wanted

    with pytest.raises(anthropic.APIStatusError) as caught:
        read()
    assert texts == ["The ", "capi"]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("step", [{"disconnect": True}, {"cut_after_bytes": 10}])
def test_a_broken_connection_is_a_connection_error(client: Anthropic, script: Script, step: dict[str, Any]) -> None:
    script(step)
    with pytest.raises(anthropic.APIConnectionError):
        ask(client)


def test_an_unknown_prompt_and_a_wrong_key_are_told(client: Anthropic, script: Script) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        ask(client, messages=[{"role": "user", "content": "Who?"}])
    assert isinstance(unknown.value.body, dict)
    assert unknown.value.body["error"]["details"] == {"error_code": "unknown_prompt"}
    script(api_key="right")
    with pytest.raises(anthropic.AuthenticationError):
        ask(client)
    assert text_of(ask(client.with_options(api_key="right"))) == TEXT


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}])
def test_sampling_parameters_are_for_the_older_version_only(client: Anthropic, headers: dict[str, str]) -> None:
    fields = {"extra_body": {"temperature": 0.5}, "extra_headers": headers}
    if headers:
        assert text_of(ask(client, **fields)) == TEXT
    else:
        with pytest.raises(anthropic.BadRequestError, match="temperature: Extra inputs are not permitted"):
            ask(client, **fields)


def test_a_wrong_version_or_role_is_a_bad_request(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="anthropic-version"):
        ask(client, extra_headers={"anthropic-version": "1999-01-01"})
    with pytest.raises(anthropic.BadRequestError, match="top-level `system`"):
        ask(client, messages=[{"role": "system", "content": "Be brief."}, *ASK])


def test_models_are_listed(client: Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["big"]


def test_what_is_not_there_is_told_in_their_shape(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.count_tokens(model="big", messages=ASK)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
