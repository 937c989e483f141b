"""Many callers who ask the same at once, through every service: one call of a model; none of what was invalidated."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from spillway import wire
from spillway.chat import ChatRequest, Message, Role
from spillway.client import AsyncClient
from spillway.routing import CacheKind, Completion, CompletionRequest
from spillway.v1 import cache_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from tests.support.suite import Suite
from tests.support.waiting import until

CALLERS = 100


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(tmp_path_factory.mktemp("suite")) as suite:
        yield suite


async def ask(client: AsyncClient, prompt: str, *, streams: bool) -> tuple[str, Completion]:
    if not streams:
        completion = await client.complete(prompt)
        return completion.text, completion
    *deltas, last = [event async for event in client.stream(prompt)]
    assert isinstance(last, Completion)
    return "".join(delta.text for delta in deltas if not isinstance(delta, Completion)), last


@pytest.mark.parametrize("streams", ["none", "all", "half"])
async def test_a_hundred_callers_of_one_miss_make_one_model_call(suite: Suite, streams: str) -> None:
    suite.script({"*": [{"text": "A fine answer.", "confidence": 5}]})
    prompt = f"Which river flows through Vienna? Streams: {streams}."
    async with AsyncClient(suite.target) as client:
        answers = await asyncio.gather(
            *(
                ask(client, prompt, streams=streams == "all" or (streams == "half" and n % 2 == 0))
                for n in range(CALLERS)
            )
        )
    completions = [completion for _, completion in answers]
    assert len(suite.calls()) == 1, Counter((each.cache.kind, each.cache.reason) for each in completions)
    assert {text for text, _ in answers} == {"A fine answer."}
    (paid,) = [each for each in completions if each.cost.cost_nanousd]
    assert paid.cache.kind is CacheKind.MISS
    # Whoever came late found the answer in the cache; the others got it from the one under way. All may come late on a
    # busy machine.
    hits = [each for each in completions if each is not paid]
    assert {each.cache.kind for each in hits} <= {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT}
    assert all(each.cost.flagship_cost_nanousd == paid.cost.flagship_cost_nanousd for each in hits)


async def test_tenants_who_ask_the_same_at_once_each_have_a_call_of_their_own(suite: Suite) -> None:
    suite.script({"*": [{"text": "A fine answer.", "confidence": 5}]})
    tenants = [f"tenant-{number}" for number in range(4)]
    clients = [AsyncClient(suite.target, tenant=tenant) for tenant in tenants]
    answers = await asyncio.gather(
        *(ask(client, "Which river flows through Linz?", streams=False) for client in clients for _ in range(10))
    )
    for client in clients:
        await client.close()
    assert len(suite.calls()) == len(tenants)
    assert sum(completion.cost.cost_nanousd > 0 for _, completion in answers) == len(tenants)


async def test_an_answer_that_was_invalidated_while_its_model_was_at_it_is_given_and_not_stored(suite: Suite) -> None:
    suite.script({"*": [{"text": "The old price.", "confidence": 5}]})
    chat = ChatRequest((Message.of(Role.USER, "Which river flows through Graz?"),))
    request = wire.completion_request_to_proto(CompletionRequest(chat, tenant="shop", namespace="prices"))
    async with (
        grpc.aio.insecure_channel(suite.target) as front,
        grpc.aio.insecure_channel(suite.addresses["cache"]) as channel,
    ):
        cache = CacheServiceStub(channel)

        async def completed() -> Completion:
            response = await OrchestratorServiceStub(front).Complete(request, timeout=30)
            return wire.completion_from_proto(response.completion)

        async def counts() -> cache_pb2.GetStatsResponse:
            return await cache.GetStats(cache_pb2.GetStatsRequest())

        async def has_looked() -> bool:
            return (await counts()).lookups > before.lookups

        async def is_overtaken() -> bool:
            return (await counts()).overtaken == before.overtaken + 1

        async def is_stored() -> bool:
            return (await counts()).stored == before.stored + 1

        before = await counts()
        provider = suite.processes["sandbox"]
        provider.signal(signal.SIGSTOP)
        try:
            asking = asyncio.create_task(completed())
            await until(has_looked, what="the cache is asked")
            await cache.Invalidate(cache_pb2.InvalidateRequest(tenant="shop", namespace="prices"))
        finally:
            provider.signal(signal.SIGCONT)
        assert (await asking).text == "The old price."
        await until(is_overtaken, what="the answer is turned away")
        assert (await counts()).stored == before.stored
        again = await completed()
        assert again.cache.kind is CacheKind.MISS
        await until(is_stored, what="the fresh answer is stored")
        assert (await counts()).overtaken == before.overtaken + 1
        assert (await completed()).cache.kind is CacheKind.EXACT_HIT
    assert len(suite.calls()) == 2
