"""What a client of the provider sees: replay, streams, usage, errors, examples."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from spillway.cli.show import SANDBOX_BEGINS
from spillway.cli.suite_notes import KEY_VARIABLE
from tests.integration.sandbox.conftest import Sandbox

CONFIDENCE_WANTED = {"role": "system", "content": 'End with a line "CONFIDENCE: N".'}


def events(text: str) -> list[Any]:
    """Decode a stream's events; the last one, [DONE], stays text."""
    blocks = [block for block in text.split("\n\n") if block]
    assert all(block.startswith("data: ") for block in blocks)
    return [data if (data := block[6:]) == "[DONE]" else json.loads(data) for block in blocks]


async def test_a_known_prompt_is_answered_with_the_recorded_text_and_counted_usage(
    sandbox: Sandbox, count_tokens: Callable[[str], int]
) -> None:
    response = await sandbox.ask()
    answer = response.json()
    assert response.status_code == 200
    assert (answer["object"], answer["model"], answer["created"]) == ("chat.completion", "big", 1_700_000_000)
    (choice,) = answer["choices"]
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "stop")
    assert choice["message"]["content"] == "The capital of France is Paris."
    prompt_tokens = count_tokens("Capital of France?")
    completion_tokens = count_tokens("The capital of France is Paris.")
    assert (prompt_tokens, completion_tokens) == (4, 7)
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 7, "total_tokens": 11}


async def test_messages_around_the_known_prompt_do_not_matter_but_are_counted(sandbox: Sandbox) -> None:
    messages = [
        {"role": "system", "content": "Be careful."},
        {"role": "user", "content": [{"type": "text", "text": "\nCapital of France? "}]},
        {"role": "assistant", "content": "London."},
        {"role": "user", "content": "That was wrong, try again."},
    ]
    answer = (await sandbox.ask(messages=messages)).json()
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["usage"]["prompt_tokens"] == 3 + 4 + 2 + 7


async def test_tool_definitions_are_counted_as_prompt(sandbox: Sandbox) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "description": "Look a city up."}}]
    answer = (await sandbox.ask(tools=tools)).json()
    assert answer["usage"]["prompt_tokens"] > 10


async def test_the_same_question_gets_the_same_answer(sandbox: Sandbox) -> None:
    first, second = (await sandbox.ask()).json(), (await sandbox.ask()).json()
    assert first.pop("id") != second.pop("id")
    assert first == second


async def test_an_unknown_prompt_is_a_404(sandbox: Sandbox) -> None:
    for stream in (False, True):
        response = await sandbox.ask("Who?", stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_prompt")


async def test_a_model_without_an_answer_is_a_404(sandbox: Sandbox) -> None:
    response = await sandbox.ask(model="other")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_an_empty_recorded_answer_is_an_answer(sandbox: Sandbox) -> None:
    answer = (await sandbox.ask(model="small")).json()
    assert (answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]) == ("", 0)


async def test_an_alias_answers_under_its_own_name_and_models_are_listed(sandbox: Sandbox) -> None:
    answer = (await sandbox.ask(model="house")).json()
    assert (answer["model"], answer["usage"]["completion_tokens"]) == ("house", 7)
    models = (await sandbox.http.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["big", "house", "small"]
    assert (await sandbox.http.get("/healthz")).json() == {"status": "ok", "prompts": 2}


async def test_a_stream_is_role_content_finish_usage_done(sandbox: Sandbox) -> None:
    await sandbox.script(big=[{"chunk_chars": 10}])
    response = await sandbox.ask(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    role, *contents, finish, usage, done = events(response.text)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in contents] == [
        "The capita",
        "l of Franc",
        "e is Paris",
        ".",
    ]
    assert {chunk["choices"][0]["finish_reason"] for chunk in (role, *contents)} == {None}
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 11)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in (role, *contents, finish, usage)} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in (role, *contents, finish, usage)}) == 1


async def test_a_stream_has_no_usage_unless_asked(sandbox: Sandbox) -> None:
    *chunks, done = events((await sandbox.ask(stream=True)).text)
    assert all("usage" not in chunk for chunk in chunks)
    assert (done, chunks[-1]["choices"][0]["finish_reason"]) == ("[DONE]", "stop")


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff", b"[]", b"{}", b'{"model": "big"}'])
async def test_a_malformed_body_is_a_400_in_the_apis_shape_and_no_call(sandbox: Sandbox, content: bytes) -> None:
    response = await sandbox.http.post("/v1/chat/completions", content=content)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert await sandbox.calls() == []


async def test_a_body_beyond_the_limit_is_a_413(sandbox: Sandbox) -> None:
    response = await sandbox.http.post("/v1/chat/completions", content=b" " * (16 * 1024 * 1024 + 1))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_wrong_path_or_method_is_told_in_the_apis_shape(sandbox: Sandbox) -> None:
    wrong_path = await sandbox.http.get("/v2/models")
    wrong_method = await sandbox.http.get("/v1/chat/completions")
    assert (wrong_path.status_code, wrong_path.json()["error"]["code"]) == (404, "not_found")
    assert (wrong_method.status_code, wrong_method.json()["error"]["type"]) == (405, "invalid_request_error")


async def test_a_replay_says_a_confidence_only_when_it_is_recorded_and_asked_for(sandbox: Sandbox) -> None:
    async def text(prompt: str, *instructions: dict[str, str]) -> str:
        messages = [*instructions, {"role": "user", "content": prompt}]
        content: str = (await sandbox.ask(messages=messages)).json()["choices"][0]["message"]["content"]
        return content

    assert await text("Sure?", CONFIDENCE_WANTED) == "Quite sure.\nCONFIDENCE: 2"
    assert await text("Sure?") == "Quite sure."
    assert await text("Capital of France?", CONFIDENCE_WANTED) == "The capital of France is Paris."


async def test_the_examples_answer_with_their_confidence_when_asked(examples: Sandbox) -> None:
    prompt = {"role": "user", "content": "How many positive integers n up to 1000 are divisible by neither 2, 3 nor 5?"}
    for model, ending in {"gpt-4.1-nano": "CONFIDENCE: 1", "gpt-4.1": "266.\nCONFIDENCE: 5"}.items():
        answer = (await examples.ask(model=model, messages=[CONFIDENCE_WANTED, prompt])).json()
        assert answer["choices"][0]["message"]["content"].endswith(ending)


async def test_an_example_is_found_by_its_words(examples: Sandbox) -> None:
    answer = (await examples.ask("what is the capital of france", "gpt-4.1-nano")).json()
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_its_address_alone_says_what_there_is(sandbox: Sandbox) -> None:
    response = await sandbox.http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert "/v1/chat/completions" in response.text.split()


async def test_among_examples_an_unknown_prompt_or_model_gets_the_canned_text(examples: Sandbox) -> None:
    for prompt, model in (("Something else", "gpt-4.1"), ("What is 17 + 26?", "elsewhere")):
        answer = (await examples.ask(prompt, model)).json()
        assert answer["choices"][0]["message"]["content"].startswith(SANDBOX_BEGINS)
        assert KEY_VARIABLE in answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] > 20
    messages = [CONFIDENCE_WANTED, {"role": "user", "content": "Something else"}]
    answer = (await examples.ask(messages=messages)).json()
    assert answer["choices"][0]["message"]["content"].endswith("\nCONFIDENCE: 4")
