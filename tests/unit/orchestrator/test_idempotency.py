"""Request ids that are seen again: in one process, over several replicas with a real Redis, and without it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.orchestrator.replays.claims import ANSWER_BYTES_MAX, RELEASE_PAUSE_S, ReplayEvent
from services.orchestrator.replays.claims import LEASE_S as LEASE_DEFAULT_S
from services.orchestrator.replays.idempotency import Owner, Replayed, Replays, request_digest
from services.orchestrator.replays.replay_store import MemoryReplayStore, ReplayStoreError
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.runtime.clock import FakeClock, SystemClock
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from spillway.routing import Completion, RoutingOptions
from tests.support.jobs_parts import WELL_S, completion, redis_client, request
from tests.support.redis_server import RedisServer

DUPLICATES = 50
LEASE_S = 0.4
DIGEST = b"d" * 32


class Model:
    """Counts its calls; answers when it is let, and fails as often as it is told."""

    def __init__(self, *, failures: int = 0) -> None:
        self.calls = 0
        self.failures = failures
        self.may_answer = asyncio.Event()
        self.called = asyncio.Event()

    async def __call__(self) -> Completion:
        self.calls += 1
        self.called.set()
        call = self.calls
        await self.may_answer.wait()
        if call <= self.failures:
            raise Unavailable
        return completion(f"answer {call}")


class Replicas:
    """Some orchestrators with one Redis."""

    def __init__(self, url: str) -> None:
        self._clients = [redis_client(url) for _ in range(3)]
        self.events: Counter[ReplayEvent] = Counter()
        self.all = [self._replica(client) for client in self._clients]

    def _replica(self, client: object) -> Replays:
        store = RedisReplayStore(client, timeout_s=WELL_S, clock=SystemClock())  # type: ignore[arg-type]
        return Replays(store, window_s=600, clock=SystemClock(), lease_s=LEASE_S, on_event=self.count)

    def count(self, event: ReplayEvent) -> None:
        self.events[event] += 1

    async def close(self) -> None:
        for replica in self.all:
            await replica.close()
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[Replicas]:
    made = Replicas(redis_server.url)
    yield made
    await made.close()


def in_memory(clock: FakeClock | SystemClock | None = None) -> Replays:
    clock = clock or SystemClock()
    return Replays(MemoryReplayStore(clock), window_s=600, clock=clock)


async def started(model: Model) -> None:
    async with asyncio.timeout(WELL_S):
        await model.called.wait()


async def test_fifty_duplicates_over_three_replicas_are_one_call_and_one_answer(replicas: Replicas) -> None:
    model = Model()
    runs = [replicas.all[i % 3].run("acme", "r", DIGEST, model) for i in range(DUPLICATES)]
    tasks = [asyncio.create_task(run) for run in runs]
    await started(model)
    model.may_answer.set()
    answers = await asyncio.gather(*tasks)
    assert model.calls == 1
    assert set(answers) == {completion("answer 1")}
    assert replicas.events == {ReplayEvent.OWNED: 1, ReplayEvent.REPLAYED: DUPLICATES - 1}


async def test_fifty_duplicates_in_one_process_are_one_call(replicas: Replicas) -> None:
    model = Model()
    replays = in_memory()
    tasks = [asyncio.create_task(replays.run("acme", "r", DIGEST, model)) for _ in range(DUPLICATES)]
    await started(model)
    model.may_answer.set()
    assert set(await asyncio.gather(*tasks)) == {completion("answer 1")}
    assert model.calls == 1


async def test_an_answer_is_replayed_by_another_replica_after_its_owner_has_gone(replicas: Replicas) -> None:
    model = Model()
    model.may_answer.set()
    first = await replicas.all[0].run("acme", "r", DIGEST, model)
    await replicas.all[0].close()
    assert await replicas.all[1].run("acme", "r", DIGEST, model) == first
    assert model.calls == 1


async def test_an_answer_is_kept_before_it_is_returned(replicas: Replicas) -> None:
    owner = await replicas.all[0].begin("acme", "r", DIGEST)
    assert isinstance(owner, Owner)
    returned = await owner.finish(completion("kept"))
    assert await replicas.all[2].begin("acme", "r", DIGEST) == Replayed(returned)


async def test_an_owner_that_fell_silent_hands_over_to_a_waiting_replica(replicas: Replicas) -> None:
    dead = await replicas.all[0].begin("acme", "r", DIGEST)
    assert isinstance(dead, Owner)
    dead._renewal.cancel()  # as kill -9 would
    model = Model()
    model.may_answer.set()
    async with asyncio.timeout(WELL_S):
        assert (await replicas.all[1].run("acme", "r", DIGEST, model)).text == "answer 1"
    assert replicas.events[ReplayEvent.TAKEN_OVER] == 1
    late = await dead.finish(completion("late"))
    assert late.text == "answer 1", "the answer that was kept first counts, for a late owner too"


async def test_a_living_owner_keeps_it_far_beyond_its_lease(replicas: Replicas) -> None:
    owner = await replicas.all[0].begin("acme", "r", DIGEST)
    assert isinstance(owner, Owner)
    with pytest.raises(DeadlineExceeded):
        await replicas.all[1].begin("acme", "r", DIGEST, timeout_s=LEASE_S * 3)
    owner.abandon()


async def test_after_a_failure_the_next_duplicate_tries(replicas: Replicas) -> None:
    model = Model(failures=1)
    tasks = [asyncio.create_task(replicas.all[i % 3].run("acme", "r", DIGEST, model)) for i in range(9)]
    await started(model)
    model.may_answer.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 1
    assert {answer for answer in answers if not isinstance(answer, BaseException)} == {completion("answer 2")}
    assert model.calls == 2


async def test_a_cancelled_owner_hands_over_and_a_cancelled_waiter_harms_nobody() -> None:
    model = Model()
    replays = in_memory()
    owner, waiter, last = [asyncio.create_task(replays.run("acme", "r", DIGEST, model)) for _ in range(3)]
    await started(model)
    waiter.cancel()
    owner.cancel()
    model.may_answer.set()
    assert (await last).text == "answer 2"
    await replays.close()


class SlowStore(MemoryReplayStore):
    """Keeps an answer when it is let."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.keeping = asyncio.Event()
        self.may_keep = asyncio.Event()

    async def keep(self, key: str, digest: bytes, answer: bytes, *, window_s: float) -> bytes:
        self.keeping.set()
        await self.may_keep.wait()
        return await super().keep(key, digest, answer, window_s=window_s)


class AwayStore(MemoryReplayStore):
    """Hears nothing that ends a claim while it is away."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.away = True
        self.tries = 0

    def _hear(self) -> None:
        self.tries += 1
        if self.away:
            raise ReplayStoreError("away")

    async def release(self, key: str, owner: str) -> None:
        self._hear()
        await super().release(key, owner)

    async def keep(self, key: str, digest: bytes, answer: bytes, *, window_s: float) -> bytes:
        self._hear()
        return await super().keep(key, digest, answer, window_s=window_s)


async def passing(clock: FakeClock, seconds: float) -> None:
    """In steps, in each of which everybody who is due has a turn."""
    for _ in range(round(seconds / 0.25)):
        clock.advance(0.25)
        for _ in range(5):
            await asyncio.sleep(0)


async def owned(replays: Replays) -> Owner:
    begun = await replays.begin("acme", "r", DIGEST)
    assert isinstance(begun, Owner)
    return begun


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_claim_that_the_store_did_not_hear_the_end_of_is_ended_when_it_is_back(is_answered: bool) -> None:
    clock = FakeClock()
    store = AwayStore(clock)
    replays = Replays(store, window_s=600, clock=clock)
    owner = await owned(replays)
    if is_answered:
        await owner.finish(completion())
    else:
        owner.abandon()
    await passing(clock, 2 * RELEASE_PAUSE_S)
    store.away = False
    retry = asyncio.create_task(owned(Replays(store, window_s=600, clock=clock)))
    await passing(clock, 2 * RELEASE_PAUSE_S)
    assert retry.done(), "its time is far from over"
    (await retry).abandon()
    await replays.close()


async def test_nobody_is_told_of_a_claim_whose_lease_is_over() -> None:
    clock = FakeClock()
    store = AwayStore(clock)
    replays = Replays(store, window_s=600, clock=clock)
    (await owned(replays)).abandon()
    await passing(clock, LEASE_DEFAULT_S + RELEASE_PAUSE_S)
    tries = store.tries
    await passing(clock, LEASE_DEFAULT_S)
    assert store.tries == tries > 1
    await replays.close()


async def test_an_answer_is_kept_even_if_its_caller_leaves_meanwhile() -> None:
    store, model = SlowStore(), Model()
    model.may_answer.set()
    replays = Replays(store, window_s=600, clock=SystemClock())
    caller = asyncio.create_task(replays.run("acme", "r", DIGEST, model))
    await asyncio.wait_for(store.keeping.wait(), WELL_S)
    duplicate = asyncio.create_task(replays.run("acme", "r", DIGEST, model))
    await asyncio.sleep(0)
    caller.cancel()
    assert (await duplicate).text == "answer 1", "the answer is there, whoever asked for it"
    store.may_keep.set()
    await replays.close()
    assert (await Replays(store, window_s=600, clock=SystemClock()).run("acme", "r", DIGEST, model)).text == "answer 1"
    assert model.calls == 1


async def test_another_body_under_the_same_id_is_a_conflict(replicas: Replicas) -> None:
    owner = await replicas.all[0].begin("acme", "r", request_digest(request("one")))
    assert isinstance(owner, Owner)
    for replica in replicas.all:  # the owner's own process, and others
        with pytest.raises(FailedPrecondition) as caught:
            await replica.begin("acme", "r", request_digest(request("two")))
        assert caught.value.reason == "IDEMPOTENCY_CONFLICT"
    await owner.finish(completion())
    with pytest.raises(FailedPrecondition):
        await replicas.all[1].begin("acme", "r", request_digest(request("two")))


async def test_tenants_do_not_share_request_ids() -> None:
    replays = in_memory()
    one = await replays.begin("acme", "r", DIGEST)
    other = await replays.begin("umbrella", "r", b"other")
    assert isinstance(one, Owner)
    assert isinstance(other, Owner)
    one.abandon()
    other.abandon()
    await replays.close()


async def test_a_redis_that_is_gone_fails_nobody_and_is_counted(replicas: Replicas, redis_server: RedisServer) -> None:
    redis_server.kill()
    model = Model()
    tasks = [asyncio.create_task(replicas.all[0].run("acme", "r", DIGEST, model)) for _ in range(5)]
    await started(model)
    model.may_answer.set()
    assert set(await asyncio.gather(*tasks)) == {completion("answer 1")}
    assert model.calls == 1, "duplicates in one process share even so"
    assert replicas.events[ReplayEvent.WITHOUT_STORE] == 1
    assert replicas.events[ReplayEvent.NOT_KEPT] == 1


async def test_an_answer_beyond_the_bound_is_returned_and_not_kept() -> None:
    events: list[ReplayEvent] = []
    clock = SystemClock()
    replays = Replays(MemoryReplayStore(clock), window_s=600, clock=clock, on_event=events.append)
    owner = await replays.begin("acme", "r", DIGEST)
    assert isinstance(owner, Owner)
    large = completion("x" * (ANSWER_BYTES_MAX + 1))
    assert await owner.finish(large) is large
    assert ReplayEvent.NOT_KEPT in events
    await replays.close()
    again = await replays.begin("acme", "r", DIGEST)
    assert isinstance(again, Owner)
    again.abandon()


async def test_an_answer_is_forgotten_after_its_window() -> None:
    clock = FakeClock()
    replays = in_memory(clock)
    owner = await replays.begin("acme", "r", DIGEST)
    assert isinstance(owner, Owner)
    await owner.finish(completion())
    clock.advance(599)
    assert isinstance(await replays.begin("acme", "r", DIGEST), Replayed)
    clock.advance(2)
    again = await replays.begin("acme", "r", b"another body")
    assert isinstance(again, Owner)
    again.abandon()
    await replays.close()


def test_the_digest_is_of_everything_but_the_id() -> None:
    base = request("one", request_id="a")
    assert request_digest(base) == request_digest(replace(base, request_id="b"))
    others = [
        request("two"),
        replace(base, end_user="x"),
        replace(base, tags=("x",)),
        replace(base, options=RoutingOptions(escalations_max=0)),
        replace(base, options=RoutingOptions(tier_floor="medium")),
        replace(base, knowledge_version="2"),
    ]
    assert len({request_digest(one) for one in [base, *others]}) == len(others) + 1


async def test_keys_in_redis_name_neither_tenant_nor_request(replicas: Replicas, redis_server: RedisServer) -> None:
    owner = await replicas.all[0].begin("acme-tenant", "request-77", DIGEST)
    assert isinstance(owner, Owner)
    owner.abandon()
    with redis_server.client() as client:
        names = b" ".join(client.keys("*"))
    assert b"acme" not in names
    assert b"request-77" not in names
    assert names.startswith(b"spillway:replay:1:{")
