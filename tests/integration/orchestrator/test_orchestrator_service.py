"""OrchestratorService over real sockets, with every kind of neighbour."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import Any

import grpc
import pytest

from services.orchestrator.background import Background
from services.orchestrator.disclosure import disclosed
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.run import Run
from services.runtime.errors import FailedPrecondition, Unavailable, from_rpc_error
from spillway import wire
from spillway.chat import ChatRequest, ImagePart, Message, Role, TextPart
from spillway.routing import CacheKind, CacheOutcome
from spillway.v1 import cache_pb2, chat_pb2, classifier_pb2
from spillway.v1 import orchestrator_pb2 as api
from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from tests.integration.orchestrator.neighbours import EMBEDDING, Neighbourhood, asking, hit
from tests.unit.orchestrator.fakes import executed
from tests.unit.orchestrator.ladder import judged

TIMEOUT_S = 30.0


async def forever() -> None:
    await asyncio.Event().wait()


async def refuse() -> None:
    raise ValueError("a text that nobody may see")


async def complete(town: Neighbourhood, request: api.CompleteRequest | None = None) -> api.Completion:
    response = await town.stub.Complete(request or asking(), timeout=TIMEOUT_S)
    return response.completion


async def stored(town: Neighbourhood) -> cache_pb2.StoreRequest:
    return await asyncio.wait_for(town.cache.stored.get(), TIMEOUT_S)


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


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("cache", {"exact": cache_pb2.LookupResponse()}),
    ("cache", {"exact": cache_pb2.LookupResponse(outcome=hit(CacheKind.EXACT_HIT).outcome)}),
    ("cache", {"before": refuse}),
    ("cache", {"before": forever}),
    ("classifier", {"says": classifier_pb2.ClassifyResponse()}),
    ("classifier", {"before": refuse}),
    ("classifier", {"before": forever}),
]


@pytest.mark.parametrize(
    ("name", "how"), BROKEN, ids=["no outcome", "no answer", "error", "hangs", "no judgement", "errs", "stalls"]
)
async def test_whatever_an_optional_neighbour_does_the_request_is_answered(name: str, how: dict[str, Any]) -> None:
    limits = {"cache_timeout_s": 0.05, "classifier_timeout_s": 0.05}
    async with Neighbourhood(orchestrator=limits) as town:
        for field, value in how.items():
            setattr(getattr(town, name), field, value)
        completion = await complete(town)
    assert wire.message_from_proto(completion.message).text == "Paris."
    assert list(completion.routing.degraded) == [name]


async def test_neighbours_that_are_gone_cost_no_request() -> None:
    async with Neighbourhood() as town:
        await complete(town)
        await town.stop("cache")
        await town.stop("classifier")
        completions = [await complete(town) for _ in range(3)]
    assert [list(each.routing.degraded) for each in completions] == [["cache", "classifier"]] * 3
    assert {each.routing.policy_step for each in completions} == {"confidence_bump"}


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5),
        FailedPrecondition("PROVIDER_REJECTED", "the provider refused the request"),
    ],
)
async def test_the_executors_error_reaches_the_caller_as_it_was_said(error: Unavailable | FailedPrecondition) -> None:
    async def fail() -> None:
        raise error

    async with Neighbourhood() as town:
        town.executor.before = fail
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await complete(town)
        with pytest.raises(grpc.aio.AioRpcError) as streamed:
            async for _ in town.stub.StreamComplete(api.StreamCompleteRequest(request=asking())):
                pass
        assert len(town.executor.asked) == 2
        assert town.cache.stored.empty()
    for raised in (unary, streamed):
        seen = from_rpc_error(raised.value)
        assert (seen.code, seen.reason, seen.public) == (error.code, error.reason, error.public)
        assert seen.retry_after_s == error.retry_after_s


async def test_an_executor_that_is_gone_is_unavailable_with_a_reason() -> None:
    async with Neighbourhood() as town:
        await town.stop("executor")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await complete(town)
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")


async def test_an_executor_whose_answer_makes_no_sense_is_an_internal_error_not_the_callers() -> None:
    async with Neighbourhood() as town:
        town.executor.spoil = True
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await complete(town)
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason, seen.public) == (grpc.StatusCode.INTERNAL, "INTERNAL", "internal error")


async def test_a_defect_behind_a_stream_is_internal_and_its_text_stays_there() -> None:
    async with Neighbourhood() as town:
        town.executor.before = refuse
        call: Any = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
        assert [(await call.read()).delta.text for _ in "12"] == ["Par", "is."]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "nobody may see" not in (raised.value.details() or "")


async def test_a_stream_whose_executor_goes_away_is_interrupted() -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        call: Any = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
        assert [(await call.read()).delta.text for _ in "12"] == ["Par", "is."]
        await town.break_off("executor")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    seen = from_rpc_error(raised.value)
    assert (seen.code, seen.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_INTERRUPTED")


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_that_leaves_ends_the_executors_work_and_nothing_is_stored(streaming: bool) -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        call: Any
        if streaming:
            call = town.stub.StreamComplete(api.StreamCompleteRequest(request=asking()))
            await call.read()
        else:
            call = town.stub.Complete(asking())
        await asyncio.wait_for(town.executor.working.wait(), TIMEOUT_S)
        call.cancel()
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)
    assert town.cache.stored.empty()


async def test_the_callers_deadline_ends_the_executors_work() -> None:
    async with Neighbourhood() as town:
        town.executor.before = forever
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await town.stub.Complete(asking(), timeout=0.3)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)


async def test_a_store_that_hangs_delays_neither_this_answer_nor_the_next() -> None:
    async with Neighbourhood() as town:
        gate = asyncio.Event()

        async def held() -> None:
            await gate.wait()

        town.cache.before_store = held
        await complete(town)
        await asyncio.wait_for(town.cache.storing.wait(), TIMEOUT_S)
        await complete(town)
        assert town.cache.stored.empty()
        gate.set()
        await stored(town)


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_caller_has_the_answer_before_the_request_is_finished(
    streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, finished = threading.Event(), asyncio.Event()
    in_time: list[bool] = []

    def finish(_self: Pipeline, _run: Run, *, context: object) -> None:
        # The loop stands still here: only what gRPC already has in its hands can reach the caller.
        in_time.append(answered.wait(10))
        finished.set()

    monkeypatch.setattr(Pipeline, "finish", finish)

    def call(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = OrchestratorServiceStub(channel)
            if streaming:
                *_, last = stub.StreamComplete(api.StreamCompleteRequest(request=asking()), timeout=TIMEOUT_S)
                assert last.HasField("completion")
            else:
                stub.Complete(asking(), timeout=TIMEOUT_S)
            answered.set()

    async with Neighbourhood() as town:
        await asyncio.to_thread(call, town.servers["orchestrator"].address)
        await asyncio.wait_for(finished.wait(), TIMEOUT_S)
    assert in_time == [True]


async def test_what_was_to_be_stored_and_recorded_is_so_before_the_service_ends(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, closing = tmp_path / "decisions.jsonl", asyncio.Event()
    close = Background.close

    async def noted(background: Background, timeout_s: float) -> int:
        closing.set()
        return await close(background, timeout_s)

    async def held() -> None:
        await closing.wait()

    monkeypatch.setattr(Background, "close", noted)
    async with Neighbourhood(orchestrator={"decision_log": str(path)}) as town:
        town.cache.before_store = held
        await asyncio.gather(*(complete(town, asking(f"What is {n}?")) for n in range(5)))
        await town.stop("orchestrator")
        assert town.cache.stored.qsize() == 5
    assert len(path.read_bytes().splitlines()) == 5


async def test_a_failed_and_a_cancelled_request_are_recorded_too(tmp_path: Any) -> None:
    path = tmp_path / "decisions.jsonl"
    async with Neighbourhood(orchestrator={"decision_log": str(path)}) as town:
        town.executor.before = forever
        call = town.stub.Complete(asking(request_id="left"))
        await asyncio.wait_for(town.executor.working.wait(), TIMEOUT_S)
        call.cancel()
        await asyncio.wait_for(town.executor.cancelled.wait(), TIMEOUT_S)
        with pytest.raises(grpc.aio.AioRpcError):
            await complete(town, asking(request_id="refused", pinned_target="nowhere"))
        await town.stop("orchestrator")
    text = path.read_text()
    assert '"left"' in text
    assert '"status_code": 1' in text
    assert '"error_reason": "NO_ELIGIBLE_TARGET"' in text


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
            assert seen.public == public


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


async def test_a_cache_that_says_unavailable_is_degraded_not_an_error() -> None:
    async with Neighbourhood() as town:
        outcome = CacheOutcome(CacheKind.UNAVAILABLE, reason="store_timeout")
        town.cache.exact = cache_pb2.LookupResponse(outcome=wire.cache_finding_to_proto(outcome))
        completion = await complete(town)
    assert list(completion.routing.degraded) == ["cache"]
    assert completion.cache.reason == "the cache did not answer in time"


def chosen_for_an_audit() -> cache_pb2.LookupResponse:
    found = hit(CacheKind.SEMANTIC_HIT)
    found.audit = True
    return found


@pytest.mark.parametrize("streams", [False, True])
async def test_an_audited_hit_is_answered_first_and_then_compared_with_a_model(streams: bool) -> None:
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        asked.set()
        await let_go.wait()

    async with Neighbourhood() as town:
        town.cache.semantic, town.executor.before = chosen_for_an_audit(), held
        request = asking(tenant="t", tags=("doc-B",), cache_ttl_s=5.0)
        if streams:
            call = town.stub.StreamComplete(api.StreamCompleteRequest(request=request), timeout=TIMEOUT_S)
            *_, last = [event async for event in call]
            completion = last.completion
        else:
            completion = await complete(town, request)
        await asyncio.wait_for(asked.wait(), TIMEOUT_S)
        let_go.set()
        evidence = await asyncio.wait_for(town.cache.evidence.get(), TIMEOUT_S)
    assert completion.cost.cost_nanousd == 0
    assert (evidence.scope.tenant, evidence.entry_key) == ("t", "k")
    assert wire.embedding_from_proto(evidence.embedding) == EMBEDDING
    assert wire.message_from_proto(evidence.fresh_answer.message) == executed().message
    assert (evidence.fresh_answer.cost_nanousd, evidence.fresh_answer.accepted) == (4_350, True)
    assert (list(evidence.tags), evidence.ttl.seconds) == (["doc-B"], 5)
    assert town.cache.stored.empty()


async def test_no_audit_begins_once_the_process_has_begun_to_stop() -> None:
    looking, draining = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        looking.set()
        await draining.wait()

    async with Neighbourhood() as town:
        town.cache.semantic, town.cache.before = chosen_for_an_audit(), held
        call = asyncio.ensure_future(complete(town))
        await asyncio.wait_for(looking.wait(), TIMEOUT_S)
        stopping = asyncio.create_task(town.stop("orchestrator"))
        await asyncio.sleep(0)  # it has begun: health says so, and the call under way has its grace
        draining.set()
        assert (await call).cost.cost_nanousd == 0
        await stopping
    assert town.executor.asked == []


async def test_the_classifier_is_told_how_the_tiers_did_at_the_latest_when_the_service_ends() -> None:
    judgement = wire.classification_to_proto(judged(cluster="c7"))
    async with Neighbourhood() as town:
        town.classifier.says = classifier_pb2.ClassifyResponse(classification=judgement)
        await complete(town)
        await town.stop("orchestrator")
        told = town.classifier.told.get_nowait()
    gates = classifier_pb2.TierOutcome.SOURCE_GATES
    assert [(each.cluster, each.tier, each.sufficed, each.source) for each in told.outcomes] == [
        ("c7", "simple", False, gates),
        ("c7", "medium", True, gates),
    ]


@pytest.mark.parametrize("gone", ["cache", "classifier"])
async def test_who_is_away_when_evidence_or_outcomes_are_told_hurts_nobody(gone: str) -> None:
    judgement = wire.classification_to_proto(judged(cluster="c7"))
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        asked.set()
        await let_go.wait()

    async with Neighbourhood() as town:
        town.classifier.says = classifier_pb2.ClassifyResponse(
            classification=judgement, embedding=wire.embedding_to_proto(EMBEDDING)
        )
        town.cache.semantic, town.executor.before = chosen_for_an_audit(), held
        await complete(town)
        await asyncio.wait_for(asked.wait(), TIMEOUT_S)
        await town.stop(gone)
        let_go.set()
        assert (await complete(town, asking("Another?"))).accepted


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
