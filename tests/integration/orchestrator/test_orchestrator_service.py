"""OrchestratorService over real sockets: hits, misses, streams, explanations and refusals."""

from __future__ import annotations

import asyncio
import struct

import grpc
import pytest

from services.orchestrator.disclosure import disclosed
from services.runtime.errors import from_rpc_error
from spillway import wire
from spillway.chat import ChatRequest, ImagePart, Message, Role, TextPart
from spillway.routing import CacheKind, CacheOutcome
from spillway.v1 import chat_pb2
from spillway.v1 import orchestrator_pb2 as api
from tests.integration.orchestrator.neighbours import EMBEDDING, TIMEOUT_S, Neighbourhood, asking, complete, hit, stored
from tests.unit.orchestrator.fakes import executed


async def test_a_miss_is_answered_by_the_executor_and_stored_with_its_embedding() -> None:
    async with Neighbourhood() as town:
        completion = await complete(town, asking(tenant="t", tags=("a",), cache_ttl_s=5.0))
        store = await stored(town)
    execution = executed()
    assert wire.message_from_proto(completion.message) == execution.message
    assert completion.cost.cost_nanousd == 4_350
    assert tuple(wire.attempt_from_proto(each) for each in completion.attempts) == execution.attempts
    assert [each.HasField("embedding") for each in town.cache.lookups] == [False, True]
    assert town.classifier.asked[0].want_embedding
    (asked,) = town.executor.asked
    assert [tier.name for tier in asked.plan.tiers] == ["simple", "medium", "complex"]
    assert asked.task_type == chat_pb2.TASK_TYPE_FACTUAL_QA
    assert (store.scope.tenant, list(store.tags), store.ttl.seconds) == ("t", ["a"], 5)
    assert wire.embedding_from_proto(store.embedding) == EMBEDDING
    assert store.answer.accepted


@pytest.mark.parametrize("kind", [CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT])
async def test_a_hit_calls_no_model(kind: CacheKind) -> None:
    async with Neighbourhood() as town:
        if kind is CacheKind.EXACT_HIT:
            town.cache.exact = hit(kind)
        else:
            town.cache.semantic = hit(kind)
        completion = await complete(town)
        *_, last = [event async for event in town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))]
    assert wire.cache_outcome_from_proto(completion.cache).kind is kind
    assert completion.message == last.completion.message
    assert (completion.cost.cost_nanousd, completion.tier) == (0, "simple")
    assert town.executor.asked == []


@pytest.mark.parametrize("kind", [CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT, CacheKind.MISS])
async def test_no_score_and_no_key_of_the_cache_leaves_to_callers(kind: CacheKind) -> None:
    secret = CacheOutcome(kind, "cosine 0.97 to another's question", 0.97, "key-of-an-entry", 12.0)
    found = hit(kind)
    found.outcome.CopyFrom(wire.cache_finding_to_proto(secret))
    async with Neighbourhood() as town:
        if kind is CacheKind.EXACT_HIT:
            town.cache.exact = found
        else:
            town.cache.semantic = found
        completion = await complete(town)
        *_, last = [
            event async for event in town.stub.StreamComplete(api.StreamCompleteRequest(request=asking(tenant="other")))
        ]
        explained = await town.stub.Explain(api.ExplainRequest(request=asking()), timeout=TIMEOUT_S)
    for answer in (completion, last, explained):
        sent = answer.SerializeToString()
        assert b"cosine" not in sent
        assert b"key-of-an-entry" not in sent
        assert struct.pack("<d", 0.97) not in sent
    for told in (completion.cache, last.completion.cache, explained.cache):
        assert wire.cache_outcome_from_proto(told) == disclosed(secret)
        assert told.reason


async def test_lookups_of_an_explanation_say_that_nothing_is_served() -> None:
    async with Neighbourhood() as town:
        await town.stub.Explain(api.ExplainRequest(request=asking()), timeout=TIMEOUT_S)
        await complete(town)
    assert [(lookup.peek, lookup.skip_exact) for lookup in town.cache.lookups] == [
        (True, False), (True, True), (False, False), (False, True)
    ]  # fmt: skip


async def test_a_stream_sends_the_deltas_and_then_the_completion() -> None:
    async with Neighbourhood() as town:
        call = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()), timeout=TIMEOUT_S)
        events = [event async for event in call]
        await stored(town)
    assert [event.delta.text for event in events[:-1]] == ["Par", "is."]
    assert wire.message_from_proto(events[-1].completion.message).text == "Paris."


async def test_explain_calls_no_model_and_stores_nothing() -> None:
    policy = {"rules": [{"name": "vip", "when": {"user_tier": ["vip"]}, "then": {"start_tier": "complex"}}]}
    async with Neighbourhood(policy=policy) as town:
        explained = await town.stub.Explain(api.ExplainRequest(request=asking()), timeout=TIMEOUT_S)
    value = wire.explanation_from_proto(explained)
    assert value.routing.policy_step == "complexity"
    assert value.routing.plan is not None
    assert value.cache.kind is CacheKind.MISS
    assert [(trial.rule, trial.matched) for trial in value.rules] == [("vip", False)]
    assert town.executor.asked == []
    assert town.cache.stored.empty()


@pytest.mark.parametrize(
    ("options", "public"),
    [
        ({"tier_floor": "complex", "tier_ceiling": "simple"}, "the tier floor is above the tier ceiling"),
        ({"pinned_target": "nowhere"}, "there is no target of the name that was given"),
        ({"tier_floor": "nowhere"}, "there is no tier of the name that was given"),
    ],
)
async def test_a_request_that_leaves_no_target_is_a_failed_precondition(options: dict[str, str], public: str) -> None:
    async with Neighbourhood() as town:
        for call in (
            town.stub.Complete(asking(**options)),
            town.stub.Explain(api.ExplainRequest(request=asking(**options))),
            town.stub.StreamComplete(api.StreamCompleteRequest(request=asking(**options))).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            seen = from_rpc_error(raised.value)
            assert (seen.code, seen.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_ELIGIBLE_TARGET")
            assert seen.public.startswith(public)


async def test_a_wrong_request_is_refused_with_the_path_of_what_is_wrong() -> None:
    wrong = asking(confidence_min=7.0)
    unknown = asking()
    unknown.chat.messages[0].role = 99  # type: ignore[assignment]
    async with Neighbourhood() as town:
        seen = []
        for call in (
            town.stub.Complete(wrong),
            town.stub.Explain(api.ExplainRequest(request=wrong)),
            town.stub.Complete(unknown),
            town.stub.Complete(api.CompleteRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            seen.append(from_rpc_error(raised.value))
        assert town.cache.lookups == []
    assert {(each.code, each.reason) for each in seen} == {(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")}
    assert [each.violations[0][0] for each in seen[:3]] == [
        "options.confidence_min",
        "request.options.confidence_min",
        "chat.messages[0].role",
    ]


async def test_the_classifier_is_told_of_pictures_and_not_sent_them() -> None:
    picture = ImagePart(data=b"\x89PNG", media_type="image/png")
    chat = ChatRequest((Message(Role.USER, (TextPart("What is this?"), picture)),))
    async with Neighbourhood() as town:
        await complete(town, asking(chat=chat))
    (message,) = town.classifier.asked[0].messages
    assert [part.WhichOneof("part") for part in message.parts] == ["text", "image"]
    assert message.parts[1].image == chat_pb2.ImagePart(url="")
    assert town.executor.asked[0].chat.messages[0].parts[1].image.data == b"\x89PNG"


async def test_many_callers_of_one_miss_make_one_call() -> None:
    all_have_come = asyncio.Event()
    async with Neighbourhood() as town:

        async def counted() -> None:
            if sum(not each.skip_exact for each in town.cache.lookups) == 20:
                all_have_come.set()

        async def held() -> None:
            await all_have_come.wait()

        town.cache.before, town.executor.before = counted, held
        completions = await asyncio.gather(*(complete(town) for _ in range(20)))
        await stored(town)
    assert len(town.executor.asked) == 1
    assert sorted(each.cost.cost_nanousd for each in completions) == [0] * 19 + [4_350]
    assert {each.cache.kind for each in completions if not each.cost.cost_nanousd} == {
        chat_pb2.CacheOutcome.KIND_EXACT_HIT
    }
