"""Replicas tell each other of open breakers through a real Redis, and do without it when it is gone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from services.executor.__main__ import build
from services.executor.breaker import BreakerState, CallResult, Snapshot
from services.executor.lease import Lease
from services.executor.sharing import EXCHANGE_S_MAX, KEY, BreakerSharing, Opening, parse_opening
from services.executor.targets import TargetPool
from services.runtime.clock import SystemClock
from services.runtime.config import load
from services.runtime.server import start
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Plan, PlannedTier
from spillway.settings import Settings
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.wire import chat_request_to_proto, plan_to_proto
from tests.support.redis_server import RedisServer
from tests.support.redis_sites import Cluster, SentinelSite, cluster, sentinel_site
from tests.support.waiting import until
from tests.unit.executor.builders import target

OPEN_S = 40.0


def values(url: str = "") -> dict[str, Any]:
    return {
        "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}, "q": {"base_url": "http://127.0.0.1:1/v1"}},
        "tiers": [{"name": "simple", "targets": [target("a1"), target("a2")]}],
        "executor": {"breaker": {"calls_min": 1, "open_s": OPEN_S, "open_s_max": OPEN_S}, "share_redis_url": url},
    }


@dataclass
class Replica:
    """One process's breakers, and its part in the sharing."""

    pool: TargetPool
    sharing: BreakerSharing
    clock: SystemClock

    def open(self, name: str, for_s: float | None = None) -> None:
        lease = self.pool.take(name, self.clock.monotonic())
        assert isinstance(lease, Lease)
        self.pool.give_back(lease, CallResult.FAILURE, self.clock.monotonic(), for_s)

    def seen(self, name: str) -> Snapshot:
        states = self.pool.states(self.clock.monotonic())
        return next(state.breaker for state in states if state.target.name == name)

    def is_open(self, name: str) -> bool:
        return self.seen(name).state is BreakerState.OPEN


@asynccontextmanager
async def replica(
    server: RedisServer | SentinelSite | Cluster, changes: Callable[[dict[str, Any]], None] = lambda _: None
) -> AsyncIterator[Replica]:
    raw = values()
    changes(raw)
    clock = SystemClock()
    pool = TargetPool(Settings.model_validate(raw), random=random.random)
    sharing = BreakerSharing(server.url, password="", pool=pool, clock=clock)
    await sharing.start()
    try:
        yield Replica(pool, sharing, clock)
    finally:
        await sharing.close()


async def test_an_opening_is_known_to_the_others_with_the_time_that_remains(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one, replica(redis_server) as other:
        one.open("a1")
        await until(lambda: other.is_open("a1"))
        seen = other.seen("a1")
        assert seen.opened_by_peer
        assert seen.open_for_s <= one.seen("a1").open_for_s + EXCHANGE_S_MAX
        assert seen.open_for_s > OPEN_S - 20
        assert not one.seen("a1").opened_by_peer
        assert not other.is_open("a2")


async def test_a_replica_that_starts_later_learns_what_is_open(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one:
        one.open("a1")
        with redis_server.client() as client:
            await until(lambda: client.exists(KEY))
    async with replica(redis_server) as late:
        await until(lambda: late.is_open("a1"))


async def test_a_shorter_opening_shortens_nothing(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one, replica(redis_server) as other, replica(redis_server) as third:
        other.open("a2", 5.0)
        one.open("a1", 200.0)
        await until(lambda: other.is_open("a1") and third.is_open("a1") and one.is_open("a2"))
        third.pool.spend_cap("a1", third.clock.monotonic())  # 300 s, for every target of the provider
        await until(lambda: one.seen("a2").open_for_s > 250 and one.seen("a1").open_for_s > 250)
        assert other.seen("a1").open_for_s > 190


async def test_an_opening_is_taken_over_once(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one, replica(redis_server) as other:
        one.open("a1")
        await until(lambda: other.is_open("a1"))
        epoch = other.seen("a1").epoch
        one.open("a2")  # the other reads everything again
        await until(lambda: other.is_open("a2"))
        assert other.seen("a1").epoch == epoch


async def test_a_target_of_another_provider_here_is_left_alone(redis_server: RedisServer) -> None:
    def elsewhere(raw: dict[str, Any]) -> None:
        raw["tiers"][0]["targets"][0]["provider"] = "q"

    async with replica(redis_server) as one, replica(redis_server, elsewhere) as other:
        one.open("a1")
        one.open("a2")
        await until(lambda: other.is_open("a2"))
        assert not other.is_open("a1")


async def test_what_opened_while_redis_was_gone_is_told_when_it_is_back(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one, replica(redis_server) as other:
        redis_server.kill()
        one.open("a1")
        redis_server.start()
        await until(lambda: other.is_open("a1"))


async def test_a_redis_that_hung_for_a_while_is_spoken_to_again(redis_server: RedisServer) -> None:
    async with replica(redis_server) as one, replica(redis_server) as other:
        one.open("a1")
        await until(lambda: other.is_open("a1"))
        redis_server.freeze()
        one.open("a2", 90.0)
        await until(lambda: one.sharing._is_gone and other.sharing._is_gone)
        redis_server.thaw()
        await until(lambda: other.is_open("a2"))
        assert other.seen("a2").open_for_s > 60


async def test_rubbish_in_redis_disturbs_nothing(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.hset(KEY, mapping={"a1": b"\xff\xfe", "a2": "9" * 5_000, b"\xff": "99999999999999 1 x p"})
        async with replica(redis_server) as one, replica(redis_server) as other:
            one.open("a1")
            await until(lambda: other.is_open("a1"))
        client.delete(KEY)
        client.set(KEY, "of another type")
        async with replica(redis_server) as one:
            one.open("a1")
            assert one.is_open("a1")


def test_only_our_own_form_is_read() -> None:
    assert parse_opening(b"1700000000000 3 ab12 p") == Opening(1_700_000_000_000, 3, "ab12", "p")
    assert [parse_opening(raw) for raw in (b"", b"1 2 3", b"x 3 ab p", b"1 x ab p", b"\xff 1 a p")] == [None] * 5


def test_a_password_does_not_stand_in_the_url() -> None:
    pool = TargetPool(Settings.model_validate(values()), random=random.random)
    with pytest.raises(ValueError, match="password") as caught:
        BreakerSharing("redis://:hunter2@127.0.0.1:1/0", password="", pool=pool, clock=SystemClock())
    assert "hunter2" not in str(caught.value)


async def test_openings_are_told_through_the_successor_of_a_primary_that_is_gone(tmp_path: Path) -> None:
    with sentinel_site(tmp_path) as site:
        async with replica(site) as one, replica(site) as other:
            one.open("a1")
            await until(lambda: other.is_open("a1"))
            site.lose_primary()
            one.open("a2")
            await until(lambda: other.is_open("a2"))


async def test_openings_are_told_through_the_node_of_a_cluster_that_has_them(tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        async with replica(nodes) as one, replica(nodes) as other:
            one.open("a1")
            await until(lambda: other.is_open("a1"))


# Two executors, over gRPC.


def written(path: Path, url: str) -> Path:
    path.write_text(yaml.safe_dump({"version": 1, **values(url), "limits": {"drain_s": 0, "grace_s": 1}}))
    return path


@asynccontextmanager
async def executor(path: Path, url: str) -> AsyncIterator[Any]:
    loaded = load(written(path, url))
    server = await start(await build(loaded), loaded, "127.0.0.1:0")
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield executor_pb2_grpc.ExecutorServiceStub(channel)
    await server.stop()


def request() -> executor_pb2.ExecuteRequest:
    chat = ChatRequest((Message.of(Role.USER, "Hello?"),))
    plan = Plan((PlannedTier("simple", ("a1",), attempt_timeout_s=5.0),))
    return executor_pb2.ExecuteRequest(chat=chat_request_to_proto(chat), plan=plan_to_proto(plan))


async def ask(stub: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Execute(request(), timeout=10)
    code: grpc.StatusCode = caught.value.code()
    return code


async def status(stub: Any, name: str) -> executor_pb2.TargetStatus:
    listed: executor_pb2.ListTargetsResponse = await stub.ListTargets(executor_pb2.ListTargetsRequest(), timeout=10)
    return next(one for one in listed.targets if one.target == name)


async def test_what_one_executor_finds_out_the_other_does_not_have_to(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with (
        executor(tmp_path / "1.yaml", redis_server.url) as one,
        executor(tmp_path / "2.yaml", redis_server.url) as other,
    ):
        assert await ask(one) is grpc.StatusCode.UNAVAILABLE  # nobody listens at the provider's port

        async def is_told() -> bool:
            return (await status(other, "a1")).opened_by_peer

        await until(is_told)
        seen = await status(other, "a1")
        assert seen.breaker == executor_pb2.TargetStatus.BREAKER_STATE_OPEN
        assert seen.window_calls == 0
        assert not (await status(one, "a1")).opened_by_peer


@pytest.mark.parametrize("outage", ["kill", "freeze", "never there"])
async def test_without_redis_an_executor_works_as_if_there_were_none(
    redis_server: RedisServer, tmp_path: Path, outage: str
) -> None:
    url = redis_server.url if outage != "never there" else "redis://127.0.0.1:1/0"
    async with executor(tmp_path / "1.yaml", url) as stub:
        if outage == "kill":
            redis_server.kill()
        elif outage == "freeze":
            redis_server.freeze()
        try:
            assert await ask(stub) is grpc.StatusCode.UNAVAILABLE
            assert (await status(stub, "a1")).breaker == executor_pb2.TargetStatus.BREAKER_STATE_OPEN
        finally:
            if outage == "freeze":
                redis_server.thaw()
