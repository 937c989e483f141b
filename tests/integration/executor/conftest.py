"""A provider process for each file, and an executor over it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.executor_bench import Bench, executor_over, sandbox


@pytest.fixture(scope="module")
def provider_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sandbox(tmp_path_factory.mktemp("sandbox")) as url:
        yield url


@pytest.fixture
async def bench(provider_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with executor_over(provider_url, tmp_path) as bench:
        yield bench
