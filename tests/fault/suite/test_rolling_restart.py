"""Every service is restarted under load, one replica after the other, and no request fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.support.callers import calling
from tests.support.cluster import REPLICAS, SERVICES, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

ROUNDS = int(os.environ.get("SPILLWAY_ROLLING_ROUNDS", "0"))
"""How often every replica is restarted; 0: one replica of each service, once."""
REQUESTS_MIN = 10_000 if ROUNDS else 600
CALLERS = 50
STREAM_EVERY = 5


def restarts() -> Iterator[str]:
    for _ in range(ROUNDS or 1):
        for service in SERVICES:
            for number in range(REPLICAS if ROUNDS else 1):
                yield f"{service}-{number + 1}"


async def test_a_rolling_restart_of_every_service_fails_no_request(cluster: Cluster) -> None:
    """Answers are waited for with the client of the README alone, whose service config retries UNAVAILABLE."""
    restarted = 0
    async with calling(
        cluster.target, CALLERS, name="rolling", stream_every=STREAM_EVERY, repeats=bool(ROUNDS)
    ) as callers:
        await callers.more(CALLERS)
        for name in restarts():
            assert await asyncio.to_thread(cluster.processes[name].stop) == 0, cluster.processes[name].log()
            await asyncio.to_thread(cluster.restart, name)
            await callers.more(CALLERS)
            restarted += 1
        await callers.more(max(0, REQUESTS_MIN - callers.done))
    longest_s = max(each.took_s for each in callers.answered)
    print(f"{restarted} restarts, {len(callers.answered)} answers, {len(callers.failures)} failures, {longest_s:.2f} s")
    assert [str(failure) for failure in callers.failures] == []
    assert len(callers.answered) >= REQUESTS_MIN
