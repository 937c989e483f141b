"""Fixtures for every kind of test, how tests are shared out among workers, and how many threads compute in each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.support.postgres import postgres_server, postgres_url
from tests.support.redis_server import redis_server

__all__ = ["postgres_server", "postgres_url", "redis_server"]

# As in every process of the suite: on several threads in several workers, small matrices take minutes.
# Said before numpy is imported, and inherited by the processes that tests start.
for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# How long an example takes, and how long it takes to draw one, is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What takes long comes first, so that nobody waits for it at the end.
FIRST = ("fault", "e2e", "security", "observability", "packaging", "deploy", "integration")
# Rooms whose files share what one of them starts.
SHARED = ("tests/observability/", "tests/fault/suite/")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests run in one worker, one after the other, so what they share is started once."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        return next((room for room in SHARED if path.startswith(room)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def _rank(item: pytest.Item) -> int:
    parts = item.path.relative_to(Path(__file__).parent).parts
    return FIRST.index(parts[0]) if parts[0] in FIRST else len(FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
