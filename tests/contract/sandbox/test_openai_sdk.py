"""The official `openai` SDK works against the sandbox as it does against OpenAI: the wire is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from tests.contract.sandbox.conftest import Script

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Capital of France?"}]
TEXT = "The capital of France is Paris."
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a city up.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
ARGUMENTS = '{"city": "Paris", "fields": ["population"]}'


@pytest.fixture
def client(sandbox_url: str, script: Script) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{sandbox_url}/v1", api_key="any", max_retries=0, timeout=20) as client:
        yield client


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    completion = client.chat.completions.create(**{"model": "big", "messages": ASK, **fields})
    assert isinstance(completion, ChatCompletion)
    return completion


def stream(client: OpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(**{"model": "big", "messages": ASK, "stream": True, **fields}))


def test_a_completion_has_its_text_finish_reason_usage_and_request_id(client: OpenAI) -> None:
    completion = ask(client)
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason, choice.logprobs) == (TEXT, "stop", None)
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 7)
    assert (completion._request_id or "").startswith("req_")


def test_cached_and_reasoning_tokens_are_told(client: OpenAI, script: Script) -> None:
    script(
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "cached_tokens": 80,
                "reasoning_tokens": 40,
            }
        }
    )
    for usage in (ask(client).usage, stream(client, stream_options={"include_usage": True})[-1].usage):
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.completion_tokens_details is not None
        assert (usage.total_tokens, usage.prompt_tokens_details.cached_tokens) == (150, 80)
        assert usage.completion_tokens_details.reasoning_tokens == 40


def test_a_stream_is_the_same_answer(client: OpenAI, script: Script) -> None:
    script({"chunk_chars": 5})
    chunks = stream(client, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 11


def test_the_accumulating_stream_helper_understands_a_stream(client: OpenAI, script: Script) -> None:
    script({"text": "Looking.", "tool_calls": [{"name": "look_up", "arguments": ARGUMENTS}], "chunk_chars": 3})
    with client.chat.completions.stream(model="big", messages=ASK, tools=TOOLS) as accumulating:
        completion = accumulating.get_final_completion()
    message = completion.choices[0].message
    assert message.content == "Looking."
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == ARGUMENTS


def test_tool_calls_come_whole_and_streamed(client: OpenAI, script: Script) -> None:
    calls = [{"name": "look_up", "arguments": ARGUMENTS}, {"name": "now"}]
    script({"tool_calls": calls, "chunk_chars": 7})
    (choice,) = ask(client, tools=TOOLS).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    whole = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]  # type: ignore[union-attr]
    assert [(name, arguments) for _, name, arguments in whole] == [("look_up", ARGUMENTS), ("now", "{}")]

    names, arguments = {}, {0: "", 1: ""}
    for chunk in stream(client, tools=TOOLS):
        for part in chunk.choices[0].delta.tool_calls or ():
            assert part.function is not None
            if part.id is not None:
                names[part.index] = part.function.name
            arguments[part.index] += part.function.arguments or ""
    assert (names, arguments) == ({0: "look_up", 1: "now"}, {0: ARGUMENTS, 1: "{}"})


def test_a_conversation_with_tool_results_and_pictures_is_accepted(client: OpenAI, script: Script) -> None:
    script({"text": "done"})
    function = {"name": "look_up", "arguments": ARGUMENTS}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    question: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}
    messages = [
        {"role": "system", "content": "Be brief."},
        question,
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2.1 million"},
    ]
    with_picture = ask(client, messages=messages).usage
    question["content"] = "What is it?"
    assert ask(client, messages=messages).usage == with_picture  # pictures count nothing


def test_logprobs_come_when_asked_for_and_there_are_some(client: OpenAI, script: Script) -> None:
    recorded = ask(client, logprobs=True).choices[0].logprobs
    assert recorded is not None
    assert recorded.content is not None
    assert "".join(entry.token for entry in recorded.content) == TEXT
    assert {entry.logprob for entry in recorded.content} == {-0.125}

    script({"logprobs": [-0.5, -1.5], "chunk_chars": 4})
    chunks = stream(client, logprobs=True, top_logprobs=2)
    entries = [entry for chunk in chunks if (found := chunk.choices[0].logprobs) for entry in found.content or ()]
    assert "".join(entry.token for entry in entries) == TEXT
    assert [entry.logprob for entry in entries[:3]] == [-0.5, -1.5, -1.5]
    assert [(entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) for entry in entries[:1]] == [("The", -0.5)]
    assert all(chunk.choices[0].logprobs is None for chunk in stream(client))

    script({"text": "Nobody said how sure."})
    assert ask(client, logprobs=True).choices[0].logprobs is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_is_raised_as_theirs(
    client: OpenAI, script: Script, status: int, error: type[openai.APIStatusError], streamed: bool
) -> None:
    script({"status": status, "error_code": "why", "error_type": "kind", "error_message": "because"})
    with pytest.raises(error) as caught:
        ask(client, stream=streamed)
    assert (caught.value.code, caught.value.type) == ("why", "kind")
    assert "because" in caught.value.message
    assert (caught.value.request_id or "").startswith("req_")


def test_throttling_says_when_to_come_back(client: OpenAI, script: Script) -> None:
    script({"status": 429, "retry_after_s": 7, "headers": {"retry-after-ms": "7000"}})
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["retry-after-ms"] == "7000"
    assert caught.value.code == "rate_limit_exceeded"


def test_an_error_after_200_is_raised_from_the_stream(client: OpenAI, script: Script) -> None:
    script({"stream_error_after_chunks": 2, "chunk_chars": 4, "error_message": "went wrong", "error_code": "mid"})
    texts = []

    def read() -> None:
        for chunk in client.chat.completions.create(model="big", messages=ASK, stream=True):
            texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - what came before is wanted

    with pytest.raises(openai.APIError, match="went wrong") as caught:
        read()
    assert texts == ["", "The ", "capi"]
    assert caught.value.code == "mid"


@pytest.mark.parametrize("step", [{"disconnect": True}, {"cut_after_bytes": 10}])
def test_a_broken_connection_is_a_connection_error(client: OpenAI, script: Script, step: dict[str, Any]) -> None:
    script(step)
    with pytest.raises(openai.APIConnectionError):
        ask(client)


@pytest.mark.parametrize("n", [0, 2])
def test_more_than_one_choice_is_refused(client: OpenAI, n: int) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, n=n)
    assert caught.value.param == "n"


def test_an_unknown_prompt_and_a_wrong_key_are_told(client: OpenAI, script: Script) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, messages=[{"role": "user", "content": "Who?"}])
    assert unknown.value.code == "unknown_prompt"
    script(api_key="right")
    with pytest.raises(openai.AuthenticationError) as wrong:
        ask(client)
    assert wrong.value.code == "invalid_api_key"
    assert ask(client.with_options(api_key="right")).choices[0].message.content == TEXT


def test_a_schema_in_response_format_is_accepted_and_its_answer_parsed(client: OpenAI, script: Script) -> None:
    script({"text": '{"city": "Paris"}'})
    schema = {"name": "city", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    completion = ask(client, response_format={"type": "json_schema", "json_schema": schema})
    assert json.loads(completion.choices[0].message.content or "") == {"city": "Paris"}


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["big"]
