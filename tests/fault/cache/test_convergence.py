"""Three replicas, one Redis, writes, invalidations, partitions and restarts: never stale, and in the end the same.

SPILLWAY_CONVERGENCE_RUNS: how many schedules; `make test-convergence` has the long form.
"""

from __future__ import annotations

import os

import pytest

from services.cache.store import redis_listing, redis_sweep
from tests.support.cache_schedule import run_schedule
from tests.support.redis_server import RedisServer

RUNS = int(os.environ.get("SPILLWAY_CONVERGENCE_RUNS", "2"))
STEPS = 500


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(RUNS))
async def test_replicas_never_serve_what_is_invalid_and_converge(
    redis_server: RedisServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_listing, "ADMIN_TIMEOUT_S", 0.5)  # a partition costs each invalidation so much
    if seed % 2:  # the bodies of what is invalidated stay
        monkeypatch.setattr(redis_sweep, "SWEEPS_MAX", 0)
    report = await run_schedule(redis_server.port, seed=seed, steps=STEPS)
    counts = report.counts
    print(f"seed {seed}: {dict(counts)}")
    assert report.stale == []
    lookups, by_meaning = counts["lookup"], counts["semantic_hit"]
    assert counts["exact_hit"] + by_meaning >= lookups / 3
    assert by_meaning >= lookups / 20
    assert counts["removed"] >= lookups / 3
    assert counts["empty"] >= lookups / 20
    assert counts["overtaken"] > 0
    assert min(counts["invalidated"], counts["pass"], counts["cut"], counts["restart"]) > 0
