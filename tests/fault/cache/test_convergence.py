"""Three replicas, one Redis, writes, invalidations, partitions and restarts: never stale, and in the end the same.

SPILLWAY_CONVERGENCE_RUNS: how many schedules; `make test-convergence` has the long form.
"""

from __future__ import annotations

import os

import pytest

from tests.support.cache_schedule import run_schedule
from tests.support.redis_server import RedisServer

RUNS = int(os.environ.get("SPILLWAY_CONVERGENCE_RUNS", "2"))
STEPS = 250


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(RUNS))
async def test_replicas_never_serve_what_is_invalid_and_converge(redis_server: RedisServer, seed: int) -> None:
    report = await run_schedule(redis_server.port, seed=seed, steps=STEPS)
    print(report)
    assert report.stale == []
    assert report.hits > 0
    assert report.invalidated > 0
    assert report.partitions > 0
