"""Both APIs as the sandbox speaks them, which is as strict about requests as the real ones: the same outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.http_provider import HttpProvider
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.provider import ProviderCall
from spillway.chat import (
    ChatRequest,
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
from tests.support.processes import Process

APIS = {"openai": OpenAIChat, "anthropic": AnthropicMessages}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 60, "cache_creation_tokens": 20}
COUNTED = Usage(100, 10, 60)
TOOLS = (ToolDefinition("f", "does f", '{"type": "object"}'), ToolDefinition("g"))
# Everything that a request can hold.
FULL = ChatRequest(
    (
        Message.of(Role.SYSTEM, "Be brief."),
        Message(Role.USER, (TextPart("Look:"), ImagePart(data=b"\x89PNG", media_type="image/png"))),
        Message(
            Role.ASSISTANT, (TextPart("Let me see."),), (ToolCall("a1", "f", '{"x": 1}'), ToolCall("a2", "g", "{}"))
        ),
        Message(Role.TOOL, (TextPart("sunny"),), tool_call_id="a1"),
        Message(Role.TOOL, (TextPart("warm"),), tool_call_id="a2"),
        Message.of(Role.USER, "And?"),
        Message.of(Role.USER, "Well?"),
    ),
    GenerationParams(temperature=1.8, top_p=0.9, max_output_tokens=50, stop=("END",), seed=3, presence_penalty=0.1),
    TOOLS,
    ToolChoice(ToolChoiceMode.AUTO),
    ResponseFormat(FormatKind.JSON_SCHEMA, '{"type": "object"}'),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider, and its sandbox's script."""

    api: str
    provider: HttpProvider
    http: httpx.AsyncClient

    async def script(self, *steps: dict[str, Any]) -> None:
        (await self.http.put("/sandbox/script", json={"models": {"m": list(steps)}})).raise_for_status()
        await self.http.delete("/sandbox/calls")

    async def both(self, chat: ChatRequest = FULL) -> list[Answer | ProviderFailure]:
        """The outcomes of a whole and of a streamed call."""
        call = ProviderCall("m", chat, 20.0, want_logprobs=True)
        whole = await self.provider.complete(call)
        *deltas, end = [event async for event in self.provider.stream(call)]
        assert not isinstance(end, AnswerDelta)
        if isinstance(end, Answer) and not end.refused:
            assert "".join(delta.text for delta in deltas if isinstance(delta, AnswerDelta)) == end.message.text
        return [whole, end]


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = Process("services.sandbox", ["--port", "0"], {}, tmp_path_factory.mktemp("sandbox") / "log")
    try:
        yield str(process.ready()["url"])
    finally:
        process.stop()


@pytest.fixture(params=APIS)
async def subject(request: pytest.FixtureRequest, sandbox_url: str) -> AsyncIterator[Subject]:
    provider = APIS[request.param](
        f"{sandbox_url}/v1", api_key="k", connections_max=4, connect_timeout_s=5.0, answer_bytes_max=1_000_000
    )
    async with httpx.AsyncClient(base_url=sandbox_url, timeout=20, trust_env=False) as http:
        yield Subject(request.param, provider, http)
    await provider.close()


async def test_the_fullest_request_is_understood(subject: Subject) -> None:
    await subject.script({"text": '{"a": 1}', "usage": USAGE})
    for outcome in await subject.both():
        assert isinstance(outcome, Answer)
        assert (outcome.message.text, outcome.finish_reason) == ('{"a": 1}', FinishReason.STOP)
        assert (outcome.usage, outcome.model, outcome.refused) == (COUNTED, "m", False)


async def test_tool_calls_come_whole_from_both_ways(subject: Subject) -> None:
    wanted = [{"name": "f", "arguments": '{"city": "Oslo", "n": [1, 2]}', "id": "t_1"}, {"name": "g", "id": "t_2"}]
    await subject.script({"tool_calls": wanted, "usage": USAGE})
    for outcome in await subject.both():
        assert isinstance(outcome, Answer)
        assert [(call.id, call.name) for call in outcome.message.tool_calls] == [("t_1", "f"), ("t_2", "g")]
        assert outcome.message.tool_calls[0].arguments_json == '{"city": "Oslo", "n": [1, 2]}'
        assert outcome.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("said", "finish"),
    [("length", FinishReason.LENGTH), ("content_filter", FinishReason.CONTENT_FILTER)],
)
async def test_why_a_model_stopped(subject: Subject, said: str, finish: FinishReason) -> None:
    await subject.script({"text": "Once", "finish_reason": said})
    for outcome in await subject.both():
        assert isinstance(outcome, Answer)
        assert outcome.finish_reason is finish


async def test_logprobs_come_where_the_api_has_them(subject: Subject) -> None:
    await subject.script({"text": "one two", "logprobs": -0.25})
    for outcome in await subject.both():
        assert isinstance(outcome, Answer)
        assert {logprob for _, logprob in outcome.logprobs} == ({-0.25} if subject.api == "openai" else set())
        assert "".join(token for token, _ in outcome.logprobs) == ("one two" if subject.api == "openai" else "")


@pytest.mark.parametrize(
    ("step", "kind", "reason"),
    [
        ({"status": 400}, FailureKind.REJECTED, "PROVIDER_REJECTED"),
        ({"status": 401}, FailureKind.AUTH, "PROVIDER_AUTH"),
        ({"status": 404}, FailureKind.AUTH, "PROVIDER_NOT_FOUND"),
        ({"status": 429, "retry_after_s": 3}, FailureKind.THROTTLED, "PROVIDER_429"),
        ({"status": 429, "error_code": "insufficient_quota", "error_type": "billing_error"}, FailureKind.SPEND_CAP,
         "PROVIDER_SPEND_CAP"),
        ({"status": 500}, FailureKind.ERROR, "PROVIDER_5XX"),
        ({"status": 529}, FailureKind.ERROR, "PROVIDER_OVERLOADED"),
        ({"malformed_json": True}, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
        ({"garbage": True}, FailureKind.UNREADABLE, "PROVIDER_UNREADABLE"),
        ({"disconnect": True}, FailureKind.ERROR, "PROVIDER_INTERRUPTED"),
    ],
)  # fmt: skip
async def test_failures_have_the_same_names(
    subject: Subject, step: dict[str, Any], kind: FailureKind, reason: str
) -> None:
    await subject.script(step)
    outcome = await subject.provider.complete(ProviderCall("m", FULL, 20.0))
    assert isinstance(outcome, ProviderFailure)
    assert (outcome.kind, outcome.error_reason) == (kind, reason)
    assert outcome.retry_after_s == step.get("retry_after_s")


@pytest.mark.parametrize("step", [{"stream_error_after_chunks": 1}, {"stream_cut_after_chunks": 1}])
async def test_a_stream_that_breaks_says_how_far_it_came(subject: Subject, step: dict[str, Any]) -> None:
    await subject.script({"text": "one two three four", "chunk_chars": 4, **step})
    *deltas, end = [event async for event in subject.provider.stream(ProviderCall("m", FULL, 20.0))]
    assert isinstance(end, ProviderFailure)
    assert (end.kind, end.billable, end.output_chars) == (FailureKind.ERROR, True, 4)
    assert deltas == [AnswerDelta("one ")]
