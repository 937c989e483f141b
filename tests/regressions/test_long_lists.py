"""A list that is too long is refused at every door by its length alone: nothing in it is translated, nobody waits.

Behind the doors is nothing, and every item of a list would be refused for itself: an answer that names the
list shows that neither was reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.cache.semantic_cache import SemanticCache
from services.cache.servicer import CacheServicer
from services.classifier.servicer import ClassifierServicer
from services.executor.servicer import ExecutorServicer
from services.orchestrator.doorkeeper import Doorkeeper
from services.orchestrator.servicer import OrchestratorServicer
from spillway.v1 import cache_pb2, chat_pb2, classifier_pb2, executor_pb2, orchestrator_pb2
from spillway.validation import InvalidValue
from spillway.wire import WireError

NONE = cast("Any", None)
CACHE = CacheServicer(cast("SemanticCache", SimpleNamespace(lookup=None, store=None)))
CLASSIFIER = ClassifierServicer(NONE, memory=NONE, metrics=NONE, clock=NONE, deadline_s=1.0)
EXECUTOR = ExecutorServicer(NONE, NONE, deadline_s=1.0)
ORCHESTRATOR = OrchestratorServicer(NONE, NONE, doorkeeper=Doorkeeper(None), jobs=NONE, feedback=NONE)

NOBODY, NOTHING, UNNAMED = chat_pb2.ChatMessage(), chat_pb2.ContentPart(), chat_pb2.ToolCall()
USER = chat_pb2.ROLE_USER

CONVERSATIONS: list[tuple[str, list[chat_pb2.ChatMessage]]] = [
    ("messages", [NOBODY] * 2_001),
    ("messages", [chat_pb2.ChatMessage(parts=[NOTHING] * 200)] * 51),
    ("messages", [chat_pb2.ChatMessage(tool_calls=[UNNAMED] * 101)] * 100),
    ("messages[0].parts", [chat_pb2.ChatMessage(role=USER, parts=[NOTHING] * 257)]),
    ("messages[0].tool_calls", [chat_pb2.ChatMessage(role=USER, parts=[NOTHING], tool_calls=[UNNAMED] * 129)]),
]


async def streamed(events: Any) -> None:
    async for _ in events:
        pass


DOORS: dict[str, tuple[str, Callable[[chat_pb2.ChatRequest], Awaitable[Any]]]] = {
    "cache.Lookup": ("chat.", lambda chat: CACHE.Lookup(cache_pb2.LookupRequest(chat=chat), NONE)),
    "cache.Store": (
        "chat.",
        lambda chat: CACHE.Store(cache_pb2.StoreRequest(chat=chat, answer=cache_pb2.CachedAnswer()), NONE),
    ),
    "classifier.Classify": (
        "",
        lambda chat: CLASSIFIER.Classify(classifier_pb2.ClassifyRequest(messages=chat.messages), NONE),
    ),
    "executor.Execute": ("chat.", lambda chat: EXECUTOR.Execute(executor_pb2.ExecuteRequest(chat=chat), NONE)),
    "executor.StreamExecute": (
        "request.chat.",
        lambda chat: streamed(
            EXECUTOR.StreamExecute(
                executor_pb2.StreamExecuteRequest(request=executor_pb2.ExecuteRequest(chat=chat)), NONE
            )
        ),
    ),
    "orchestrator.Complete": (
        "chat.",
        lambda chat: ORCHESTRATOR.Complete(orchestrator_pb2.CompleteRequest(chat=chat), NONE),
    ),
    "orchestrator.SubmitJob": (
        "request.chat.",
        lambda chat: ORCHESTRATOR.SubmitJob(
            orchestrator_pb2.SubmitJobRequest(request=orchestrator_pb2.CompleteRequest(chat=chat)), NONE
        ),
    ),
    "orchestrator.SendFeedback": (
        "retry.chat.",
        lambda chat: ORCHESTRATOR.SendFeedback(
            orchestrator_pb2.SendFeedbackRequest(
                request_id="r",
                kind=orchestrator_pb2.SendFeedbackRequest.KIND_REGENERATED,
                retry=orchestrator_pb2.CompleteRequest(chat=chat),
            ),
            NONE,
        ),
    ),
    "orchestrator.StreamComplete": (
        "request.chat.",
        lambda chat: streamed(
            ORCHESTRATOR.StreamComplete(
                orchestrator_pb2.StreamCompleteRequest(request=orchestrator_pb2.CompleteRequest(chat=chat)), NONE
            )
        ),
    ),
    "orchestrator.Explain": (
        "request.chat.",
        lambda chat: ORCHESTRATOR.Explain(
            orchestrator_pb2.ExplainRequest(request=orchestrator_pb2.CompleteRequest(chat=chat)), NONE
        ),
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("field", "messages"), CONVERSATIONS)
async def test_a_conversation_that_is_too_long_is_refused(
    door: str, field: str, messages: list[chat_pb2.ChatMessage]
) -> None:
    prefix, call = DOORS[door]
    with pytest.raises(WireError) as refused:
        await call(chat_pb2.ChatRequest(messages=messages))
    assert refused.value.path == f"{prefix}{field}"


CHAT = chat_pb2.ChatRequest(messages=[chat_pb2.ChatMessage(role=USER, parts=[chat_pb2.ContentPart(text="Hi")])])


def executing(**tier: Any) -> Callable[[], Awaitable[Any]]:
    made = executor_pb2.PlannedTier(name="simple", targets=["t"])
    made.attempt_timeout.seconds = 1
    made.MergeFrom(executor_pb2.PlannedTier(**tier))
    return lambda: EXECUTOR.Execute(executor_pb2.ExecuteRequest(chat=CHAT, plan=executor_pb2.Plan(tiers=[made])), NONE)


def completing(**fields: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: ORCHESTRATOR.Complete(orchestrator_pb2.CompleteRequest(**fields), NONE)


LISTS: dict[str, Callable[[], Awaitable[Any]]] = {
    "chat.tools": completing(chat=chat_pb2.ChatRequest(tools=[chat_pb2.ToolDefinition()] * 129)),
    "chat.generation.stop": completing(
        chat=chat_pb2.ChatRequest(messages=CHAT.messages, generation=chat_pb2.GenerationParams(stop=[""] * 5))
    ),
    "tags": completing(chat=CHAT, tags=[""] * 17),
    "answer.message.parts": lambda: CACHE.Store(
        cache_pb2.StoreRequest(
            chat=CHAT,
            answer=cache_pb2.CachedAnswer(
                message=chat_pb2.ChatMessage(role=USER, parts=[NOTHING] * 257), finish_reason=cast("Any", 99)
            ),
        ),
        NONE,
    ),
    "plan.tiers": lambda: EXECUTOR.Execute(
        executor_pb2.ExecuteRequest(chat=CHAT, plan=executor_pb2.Plan(tiers=[executor_pb2.PlannedTier()] * 9)), NONE
    ),
    "plan.tiers[0].targets": executing(targets=[""] * 16),
    "plan.tiers[0].gates": executing(gates=[executor_pb2.GateSpec()] * 17),
    "plan.tiers[0].gates[0].rules.must_match": executing(gates=[{"rules": {"must_match": ["("] * 33}}]),
    "plan.tiers[0].gates[0].rules.must_not_match": executing(gates=[{"rules": {"must_not_match": ["("] * 33}}]),
    "plan.tiers[0].gates[0].agreement.further_targets": executing(gates=[{"agreement": {"further_targets": [""] * 5}}]),
}


@pytest.mark.parametrize("field", LISTS)
async def test_no_list_of_a_request_is_read_beyond_its_limit(field: str) -> None:
    with pytest.raises(WireError) as refused:
        await LISTS[field]()
    assert refused.value.path == field


async def test_only_the_first_of_too_many_tags_are_read() -> None:
    tags = ["fine"] * 16 + [""] * 1_000
    with pytest.raises(InvalidValue) as refused:
        await CACHE.Store(cache_pb2.StoreRequest(chat=CHAT, tags=tags), NONE)
    assert [violation.path for violation in refused.value.violations] == ["tags"]
