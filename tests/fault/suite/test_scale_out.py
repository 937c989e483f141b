"""Executors and classifiers are added under load, behind names: each new one gets its share, and no call is lost."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from services.runtime.channel import RESOLVE_S_MIN
from tests.support.callers import Callers, calling
from tests.support.cluster import CONNECTION_AGE_S, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

IS_LONG = "SPILLWAY_SCALE_REQUESTS" in os.environ
REQUESTS = int(os.environ.get("SPILLWAY_SCALE_REQUESTS", "100"))
"""So many say what the shares are."""
CALLERS = 50 if IS_LONG else 20
SHARE_MIN = 0.15
KNOWN_S = CONNECTION_AGE_S * 1.1 + RESOLVE_S_MIN
"""By then every channel has looked the names up: gRPC spreads the age of connections by a tenth, and a channel that has
just looked waits before it does so again."""
SCALED = ("executor", "classifier")
ADDED = tuple(f"{service}-{number}" for service in SCALED for number in (3, 4))
METHODS = ("Execute", "Classify")


async def shares(cluster: Cluster, callers: Callers) -> dict[str, float]:
    """Replica -> its share of the calls of its service in the next `REQUESTS` requests."""
    before = [await asyncio.to_thread(cluster.served, service, *METHODS) for service in SCALED]
    await callers.more(REQUESTS)
    after = [await asyncio.to_thread(cluster.served, service, *METHODS) for service in SCALED]
    calls = [{name: now[name] - then[name] for name in now} for then, now in zip(before, after, strict=True)]
    return {name: count / sum(of_one.values()) for of_one in calls for name, count in of_one.items()}


async def test_a_new_replica_has_its_share_once_connections_were_renewed_and_no_call_is_lost(cluster: Cluster) -> None:
    async with calling(cluster.target, CALLERS, name="scale", repeats=False) as callers:
        await callers.more(CALLERS)
        await asyncio.to_thread(cluster.add, *ADDED)
        added_at_s = time.monotonic()
        while time.monotonic() < added_at_s + KNOWN_S:
            await callers.more(1)
        await callers.more(CALLERS)  # connections to them are made meanwhile, however slow the machine is
        began_s = time.monotonic() - added_at_s
        seen = await shares(cluster, callers)
        await asyncio.to_thread(cluster.remove, *ADDED)
        await callers.more(CALLERS)
    print(
        f"2 → 4: {', '.join(f'{name} {share:.0%}' for name, share in sorted(seen.items()))}, of {REQUESTS} requests "
        f"from {began_s:.1f} s after they were ready; connections live {CONNECTION_AGE_S:g} s; "
        f"{len(callers.answered)} answers, {len(callers.failures)} failures"
    )
    assert [str(failure) for failure in callers.failures] == []
    assert min(seen[name] for name in ADDED) >= SHARE_MIN, seen
