"""Fixtures for tests of the index and its lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.cache.index.code_lists import CodeLists


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each update of any lists was of."""
    sizes: list[int] = []
    update = CodeLists.update

    def counted(self: CodeLists, changed: Sequence[int], living: Sequence[int], codes: Any) -> None:
        sizes.append(len(changed))
        update(self, changed, living, codes)

    monkeypatch.setattr(CodeLists, "update", counted)
    return sizes
