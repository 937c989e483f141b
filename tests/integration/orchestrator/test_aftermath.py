"""What follows an answer over real sockets: it keeps no caller waiting, and is done before the service ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest

from services.orchestrator.background import Background
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.run import Run
from spillway import wire
from spillway.routing import CacheKind
from spillway.v1 import cache_pb2, classifier_pb2
from spillway.v1 import orchestrator_pb2 as api
from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from tests.integration.orchestrator.neighbours import (
    EMBEDDING,
    TIMEOUT_S,
    Neighbourhood,
    asking,
    complete,
    forever,
    hit,
    stored,
)
from tests.unit.orchestrator.fakes import executed
from tests.unit.orchestrator.ladder import judged


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
