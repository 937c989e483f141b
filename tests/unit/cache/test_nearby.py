"""What is given of what is near: nothing of another scope, wherever it was found."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.entry import Scope
from services.cache.index.vector_index import VectorIndex
from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.nearby import Meaning, NearbyReader
from services.cache.matching.pair_features import IDF_BUCKETS
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.routing import TaskType
from tests.support.cache_parts import MODEL, entry, vector

ACME = Scope("acme")


@pytest.mark.parametrize(
    ("scope", "partition", "given"),
    [(ACME, "p1", True), (Scope("other"), "p1", False), (Scope("acme", "shop"), "p1", False), (ACME, "p2", False)],
)
async def test_an_entry_of_another_scope_or_partition_is_neither_given_nor_remembered_nor_forgotten(
    scope: Scope, partition: str, given: bool
) -> None:
    clock = FakeClock()
    store, index = MemoryStore(entries_max=10, clock=clock), VectorIndex(entries_max=10)
    known = KnownQuestions(np.ones(IDF_BUCKETS, np.float32), entries_max=10)
    kept = entry("router", scope=scope, partition=partition, now_unix_s=clock.unix())
    assert await store.put(kept)
    reader = NearbyReader(store, index, known, clock)
    meaning = Meaning("router", "p1", MODEL, vector("router"), TaskType.OTHER)
    assert await reader.read(ACME, meaning, [kept.key]) == [kept if given else None]
    assert (known.get(kept.key) is not None) is given
    assert await store.get_many([kept.key]) == [kept]
