"""One replica of each service is killed (kill -9) under load: no request is lost, and the others take over at once."""

from __future__ import annotations

import asyncio
import os
import statistics
import time

import pytest

from services.orchestrator.replays.claims import LEASE_S
from tests.support.callers import Callers, calling, recovery_s
from tests.support.cluster import REPLICAS, SERVICES, Cluster
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

ROUNDS = int(os.environ.get("SPILLWAY_REPLICA_KILLS", "0"))
"""How often a replica of each service is killed; 0: one orchestrator, once, with less traffic around it."""
KILLED = SERVICES if ROUNDS else ("orchestrator",)
"""The others are killed, each with less beside it, in tests/fault/test_killed_processes.py and tests/fault/ledger."""
CALLERS = 50 if ROUNDS else 20
USUAL = (6 if ROUNDS else 1) * CALLERS
"""Requests before a kill, and as many after it: enough of them say what the usual rate is."""


ADDED_S_MAX = LEASE_S - 2.0
"""To a call, by a kill. Who waits for the lease of a dead owner to end loses `LEASE_S` before a model is asked."""
RECOVERY_S_MAX = 2.0


def check(what: str, callers: Callers, fault_at_s: float, ready_at_s: float) -> None:
    """No failure, nobody held up; with traffic enough to say so, served as before in time. Prints a line."""
    recovered = {
        since: recovery_s(callers.answered, at_s) if ROUNDS else None
        for since, at_s in (("fault", fault_at_s), ("ready", ready_at_s))
    }
    before_s = [each.took_s for each in callers.answered if each.at_s <= fault_at_s]
    after_s = [each.took_s for each in callers.answered if each.at_s > fault_at_s]
    print(
        f"{what}: {len(callers.answered)} answers, {len(callers.failures)} failures; the usual rate again "
        + ", ".join(f"{'?' if s is None else format(s, '.2f')} s after the {since}" for since, s in recovered.items())
        + f"; longest call {max(before_s):.2f} s before, {max(after_s):.2f} s after"
    )
    assert [str(failure) for failure in callers.failures] == []
    # Less the usual, which a busy machine makes longer.
    assert max(after_s) - statistics.median(before_s) < ADDED_S_MAX
    if ROUNDS:
        assert recovered["fault"] is not None
        assert recovered["fault"] <= RECOVERY_S_MAX


@pytest.mark.parametrize("service", KILLED)
async def test_a_killed_replica_loses_no_request(cluster: Cluster, service: str) -> None:
    for number in range(ROUNDS or 1):
        name = f"{service}-{number % REPLICAS + 1}"
        async with calling(cluster.target, CALLERS, name=f"kill {name} {number}") as callers:
            await callers.more(CALLERS + USUAL)
            cluster.processes[name].kill()
            killed_at_s = time.monotonic()
            await callers.more(CALLERS + USUAL)
            await asyncio.to_thread(cluster.restart, name)
            ready_at_s = time.monotonic()
            await callers.more(USUAL)
        check(f"kill -9 {name}", callers, killed_at_s, ready_at_s)


@pytest.mark.skipif(not ROUNDS, reason="of one process it is in tests/fault/test_killed_processes.py")
@pytest.mark.parametrize("service", ["classifier", "cache", "ledger"])
async def test_a_service_that_is_killed_with_all_its_replicas_fails_no_request(cluster: Cluster, service: str) -> None:
    names = cluster.replicas(service)
    repeats = service != "cache"  # what it answered a model has to answer then: the usual rate is that without it
    async with calling(cluster.target, CALLERS, name=f"kill all of {service}", repeats=repeats) as callers:
        await callers.more(CALLERS + USUAL)
        for name in names:
            cluster.processes[name].kill()
        killed_at_s = time.monotonic()
        await callers.more(USUAL)
        for name in names:
            await asyncio.to_thread(cluster.restart, name)
        ready_at_s = time.monotonic()
        await callers.more(CALLERS + USUAL)
    check(f"kill -9 of each {service}", callers, killed_at_s, ready_at_s)


@pytest.mark.skipif(not ROUNDS, reason="of one suite it is in tests/fault/test_killed_processes.py")
async def test_redis_that_is_killed_fails_no_request(cluster: Cluster, redis: RedisServer) -> None:
    async with calling(cluster.target, CALLERS, name="kill redis") as callers:
        await callers.more(CALLERS + USUAL)
        redis.kill()
        killed_at_s = time.monotonic()
        await callers.more(USUAL)
        await asyncio.to_thread(redis.start)
        ready_at_s = time.monotonic()
        await callers.more(CALLERS + USUAL)
    check("kill -9 redis", callers, killed_at_s, ready_at_s)
