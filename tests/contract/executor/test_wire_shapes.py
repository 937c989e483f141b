"""What the responses of both APIs mean: one vocabulary of outcomes, whole and streamed, and the fake speaks it too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.anthropic_messages import AnthropicMessages
from services.executor.providers.http_provider import HttpProvider
from services.executor.providers.openai_chat import OpenAIChat
from services.executor.providers.provider import FakeProvider, FakeStep, Provider, ProviderCall, StreamEvent
from spillway.chat import ChatRequest, FinishReason, Message, Role, TextPart, ToolCall, Usage
from spillway.routing import AnswerDelta
from tests.support.wire_shapes import KEY, ShapeServer, shape_names

CHAT = ChatRequest((Message.of(Role.USER, "A prompt that is nobody's business."),))
APIS = {"openai": OpenAIChat, "anthropic": AnthropicMessages}

GPT, MINI, CLAUDE = "gpt-4.1-2025-04-14", "gpt-4o-mini", "claude-sonnet-4-5-20250929"
HELLO = "Hello! How can I assist you today?"
COUNTED = Usage(19, 10)
COUNTED_STREAM = Usage(19, 10, 16)


def says(
    text: str,
    model: str = "",
    usage: Usage | None = None,
    finish: FinishReason = FinishReason.STOP,
    calls: tuple[ToolCall, ...] = (),
    *,
    refused: bool = False,
    logprobs: tuple[tuple[str, float], ...] = (),
) -> Answer:
    message = Message(Role.ASSISTANT, (TextPart(text),) if text else (), calls)
    return Answer(message, finish, usage, model, refused, logprobs)


def fails(kind: FailureKind, reason: str, wait_s: float | None = None) -> ProviderFailure:
    return ProviderFailure(kind, reason, wait_s)


def breaks(kind: FailureKind, reason: str, output_chars: int, *, billable: bool = True) -> ProviderFailure:
    return ProviderFailure(kind, reason, billable=billable, output_chars=output_chars)


FILTERED = says("", finish=FinishReason.CONTENT_FILTER, refused=True)
# The same for both: an error is known by its meaning, whoever says it.
ERRORS: Mapping[str, Answer | ProviderFailure] = {
    "error_400": fails(FailureKind.REJECTED, "PROVIDER_REJECTED"),
    "error_400_context": fails(FailureKind.UNSUITABLE, "PROVIDER_UNSUITABLE"),
    "error_401": fails(FailureKind.AUTH, "PROVIDER_AUTH"),
    "error_402": fails(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"),
    "error_403": fails(FailureKind.AUTH, "PROVIDER_AUTH"),
    "error_404": fails(FailureKind.AUTH, "PROVIDER_NOT_FOUND"),
    "error_408": fails(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"),
    "error_409": fails(FailureKind.ERROR, "PROVIDER_409"),
    "error_413": fails(FailureKind.REJECTED, "PROVIDER_REJECTED"),
    "error_429": fails(FailureKind.THROTTLED, "PROVIDER_429", 20.0),
    "error_429_spend": fails(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"),
    "error_500": fails(FailureKind.ERROR, "PROVIDER_5XX"),
    "error_503": fails(FailureKind.ERROR, "PROVIDER_5XX", 5.0),
    "error_529": fails(FailureKind.ERROR, "PROVIDER_OVERLOADED"),
}
BOSTON = '{\n"location": "Boston, MA"\n}'
MEANINGS: Mapping[str, Mapping[str, Answer | ProviderFailure]] = {
    "openai": {
        **ERRORS,
        "error_400_filter": FILTERED,
        "error_400_parameter": fails(FailureKind.UNSUITABLE, "PROVIDER_UNSUITABLE"),
        "error_422": fails(FailureKind.REJECTED, "PROVIDER_REJECTED"),
        "answer": says(HELLO, GPT, COUNTED),
        "answer_cached_and_reasoning": says("42", GPT, Usage(2006, 300, 1920, 256)),
        "answer_content_filter": says("", GPT, COUNTED, FinishReason.CONTENT_FILTER),
        "answer_length": says("Once upon a", GPT, COUNTED, FinishReason.LENGTH),
        "answer_logprobs": says("Hello!", GPT, COUNTED, logprobs=(("Hello", -0.31725305), ("!", -0.02380986))),
        "answer_refusal": says("I'm sorry, I cannot assist with that request.", GPT, COUNTED, refused=True),
        "answer_tools": says(
            "", GPT, COUNTED, FinishReason.TOOL_CALLS, (ToolCall("call_abc123", "get_current_weather", BOSTON),)
        ),
        "stream": says("Hello!", MINI, Usage(19, 10, 16, 4)),
        "stream_content_filter": says("Well", MINI, finish=FinishReason.CONTENT_FILTER),
        "stream_cut": breaks(FailureKind.ERROR, "PROVIDER_INTERRUPTED", 3),
        "stream_error": breaks(FailureKind.ERROR, "PROVIDER_5XX", 3),
        "stream_logprobs": says("Hello!", MINI, logprobs=(("Hello", -0.3), ("!", -0.02))),
        "stream_refusal": says("I'm sorry, I cannot.", MINI, refused=True),
        "stream_throttled": breaks(FailureKind.THROTTLED, "PROVIDER_429", 0, billable=False),
        "stream_tools": says(
            "",
            MINI,
            Usage(19, 10, 16, 4),
            FinishReason.TOOL_CALLS,
            (
                ToolCall("call_DdmO9pD3xa9XTPNJ32zg2hcA", "get_weather", '{"location":"Paris"}'),
                ToolCall("call_2", "get_time", "{}"),
            ),
        ),
        "odd_bom": says("Hello!", usage=Usage(3, 4)),
        "odd_eos": says("Hello!"),
        "odd_error_in_200": breaks(FailureKind.THROTTLED, "PROVIDER_429", 0, billable=False),
        "odd_error_text_in_200": breaks(FailureKind.ERROR, "PROVIDER_5XX", 0),
        "odd_no_finish": says("Hello!", finish=FinishReason.UNKNOWN),
        "odd_ollama_tools": says(
            "", "llama3.2", Usage(3, 4), FinishReason.TOOL_CALLS, (ToolCall("made up", "f", '{"a": 1}'),)
        ),
        "odd_surrogate": says(
            "a\ufffdb 😀", "m\ufffd", None, FinishReason.TOOL_CALLS, (ToolCall("\ufffd", "f", '{"a": "\ufffd"}'),)
        ),
        "odd_stream_keepalive": says("Hello!", MINI, finish=FinishReason.UNKNOWN),
        "odd_stream_not_streamed": says("Hello!", GPT, COUNTED),
        "odd_stream_ollama_tools": says(
            "", "llama3.2", finish=FinishReason.TOOL_CALLS, calls=(ToolCall("made up", "f", '{"a": 1}'),)
        ),
        "odd_stream_surrogate": says("a\ufffd"),
    },
    "anthropic": {
        **ERRORS,
        "error_400_spend": fails(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"),
        "answer": says(HELLO, CLAUDE, COUNTED),
        "answer_cached": says("42", CLAUDE, Usage(189_107, 393, 1_000)),
        "answer_length": says("Once upon a", CLAUDE, COUNTED, FinishReason.LENGTH),
        "answer_pause": says("I am searching", CLAUDE, COUNTED, FinishReason.LENGTH),
        "answer_refusal": says("", CLAUDE, COUNTED, FinishReason.CONTENT_FILTER, refused=True),
        "answer_stop_sequence": says("one, two", CLAUDE, COUNTED),
        "answer_thinking": says("Hello!", CLAUDE, COUNTED),
        "answer_tools": says(
            "Let me look.",
            CLAUDE,
            COUNTED,
            FinishReason.TOOL_CALLS,
            (ToolCall("toolu_01A09q90qw90lq917835lq9", "get_current_weather", '{"location": "Boston, MA"}'),),
        ),
        "answer_window": says("Once upon a", CLAUDE, COUNTED, FinishReason.LENGTH),
        "stream": says("Hello!", CLAUDE, COUNTED_STREAM),
        "stream_cut": breaks(FailureKind.ERROR, "PROVIDER_INTERRUPTED", 3),
        "stream_error": breaks(FailureKind.ERROR, "PROVIDER_OVERLOADED", 3),
        "stream_refusal": says("Well", CLAUDE, Usage(19, 2, 16), FinishReason.CONTENT_FILTER, refused=True),
        "stream_thinking": says("Hello!", CLAUDE, COUNTED_STREAM),
        "stream_throttled": breaks(FailureKind.THROTTLED, "PROVIDER_429", 0, billable=False),
        "stream_tools": says(
            "Okay.",
            CLAUDE,
            Usage(19, 89, 16),
            FinishReason.TOOL_CALLS,
            (
                ToolCall("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather", '{"location": "Paris"}'),
                ToolCall("toolu_2", "get_time", "{}"),
            ),
        ),
        "stream_unknown_events": says("Hello!", CLAUDE, COUNTED_STREAM),
        "odd_stream_surrogate": says("a\ufffd", finish=FinishReason.UNKNOWN),
    },
}
MADE_UP = re.compile(r"call_[0-9a-f]{24}")
REFUSALS_APART = {"stream_refusal"}  # OpenAI's refusals stand in a field of their own and do not flow
BREAKS = {"stream_cut", "stream_error"}  # the fake's, cut_after, is in test_provider_contract
CASES = [
    (api, name, is_fake)
    for api in MEANINGS
    for name in MEANINGS[api]
    for is_fake in (False, True)
    if not (is_fake and name in BREAKS)
]


@pytest.fixture
async def servers() -> AsyncIterator[Mapping[str, ShapeServer]]:
    async with ShapeServer("openai") as openai, ShapeServer("anthropic") as anthropic:
        yield {"openai": openai, "anthropic": anthropic}


def provider(api: str, url: str) -> HttpProvider:
    return APIS[api](url, api_key=KEY, connections_max=4, connect_timeout_s=5.0, answer_bytes_max=1_000_000)


def comparable(outcome: StreamEvent | None) -> StreamEvent | None:
    """Without what is for logs, and with ids that were made up replaced."""
    if isinstance(outcome, ProviderFailure):
        return replace(outcome, detail="")
    if isinstance(outcome, Answer):
        calls = tuple(replace(call, id=MADE_UP.sub("made up", call.id)) for call in outcome.message.tool_calls)
        return replace(outcome, message=replace(outcome.message, tool_calls=calls))
    return outcome


@pytest.mark.parametrize("api", APIS)
def test_every_shape_has_its_meaning(api: str) -> None:
    assert sorted(MEANINGS[api]) == shape_names(api)


@pytest.mark.parametrize(("api", "name", "is_fake"), CASES)
async def test_a_shape_has_one_meaning(servers: Mapping[str, ShapeServer], api: str, name: str, is_fake: bool) -> None:
    meaning = MEANINGS[api][name]
    subject: Provider = FakeProvider({name: [FakeStep(meaning)]}) if is_fake else provider(api, servers[api].base_url)
    call = ProviderCall(name, CHAT, 20.0, want_logprobs=True)
    try:
        if "stream" not in name:
            whole = await subject.complete(call)
            assert comparable(whole) == meaning
            assert_fit_for_protobuf(whole)
        if "stream" in name or name.startswith("error"):
            *deltas, end = [event async for event in subject.stream(call)]
            assert comparable(end) == meaning
            assert_fit_for_protobuf(end)
            flowed = "".join(delta.text for delta in deltas if isinstance(delta, AnswerDelta))
            if isinstance(end, Answer) and not (api == "openai" and name in REFUSALS_APART and not is_fake):
                assert flowed == end.message.text
            if isinstance(end, ProviderFailure):
                assert len(flowed) == end.output_chars
    finally:
        await subject.close()


def assert_fit_for_protobuf(outcome: StreamEvent) -> None:
    if isinstance(outcome, Answer):
        calls = outcome.message.tool_calls
        for text in (outcome.message.text, outcome.model, *(f"{c.id}{c.name}{c.arguments_json}" for c in calls)):
            text.encode()


@pytest.mark.parametrize("api", APIS)
async def test_a_failure_says_status_word_and_request_and_neither_key_nor_prompt_nor_the_servers_text(
    servers: Mapping[str, ShapeServer], api: str
) -> None:
    subject = provider(api, servers[api].base_url)
    details = {}
    for name in (name for name in MEANINGS[api] if name.startswith("error")):
        failure = await subject.complete(ProviderCall(name, CHAT, 20.0))
        assert KEY not in repr(failure)
        assert CHAT.last_user_text not in repr(failure)
        if isinstance(failure, ProviderFailure):
            details[name] = failure.detail
            assert failure.detail.startswith("HTTP ")
            assert len(failure.detail) < 150
    word = {"openai": "rate_limit_exceeded request req_0a1b2c3d4e5f", "anthropic": "rate_limit_error request req_018E"}
    assert details["error_429"].startswith(f"HTTP 429 {word[api]}")
    assert not any("organization" in detail or "limit of" in detail for detail in details.values())
    await subject.close()


@pytest.mark.parametrize("api", APIS)
async def test_one_connection_serves_one_call_after_another_errors_included(
    servers: Mapping[str, ShapeServer], api: str
) -> None:
    subject = provider(api, servers[api].base_url)
    for name in ("answer", "error_429", "answer", "error_500", "answer_tools"):
        await subject.complete(ProviderCall(name, CHAT, 20.0))
    assert isinstance([event async for event in subject.stream(ProviderCall("stream", CHAT, 20.0))][-1], Answer)
    assert servers[api].connections == 1
    await subject.close()


@pytest.mark.parametrize("api", APIS)
async def test_logprobs_are_asked_for_only_when_they_are_wanted_and_only_where_they_exist(
    servers: Mapping[str, ShapeServer], api: str
) -> None:
    subject = provider(api, servers[api].base_url)
    for want in (False, True):
        await subject.complete(ProviderCall("answer", CHAT, 20.0, want_logprobs=want))
    assert ["logprobs" in body for body in servers[api].bodies] == [False, api == "openai"]
    await subject.close()
