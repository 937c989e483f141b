"""The index against a deliberately dumb model: a list that is searched from end to end."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.index.partition_rows import FAISS_ROWS_MIN
from services.cache.index.vector_index import VectorIndex
from tests.support.cache_parts import MODEL, vector

ENTRIES_MAX = 5
keys = st.sampled_from([f"k{number}" for number in range(9)])
partitions = st.sampled_from(["p", "q"])
steps = st.one_of(
    st.tuples(st.just("add"), keys, partitions, st.floats(1.0, 9.0)),
    st.tuples(st.just("remove"), keys, partitions, st.just(0.0)),
    st.tuples(st.just("wait"), keys, partitions, st.floats(0.1, 3.0)),
    st.tuples(st.just("search"), keys, partitions, st.just(0.0)),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=40))
def test_the_index_agrees_with_a_list_after_any_history(history: list[tuple[str, str, str, float]]) -> None:
    index = VectorIndex(entries_max=ENTRIES_MAX)
    model: dict[str, tuple[str, float]] = {}  # key: partition, expiry; the oldest first
    now = 0.0
    for step, key, partition, number in history:
        if step == "add":
            index.expire(now)
            model = {k: v for k, v in model.items() if v[1] > now and k != key}
            index.remove(key)
            if len(model) >= ENTRIES_MAX:
                del model[next(iter(model))]
            model[key] = (partition, now + number)
            index.add(key, partition=partition, model=MODEL, vector=vector(key), expires_at_unix_s=now + number)
        elif step == "remove":
            index.remove(key)
            model.pop(key, None)
        elif step == "wait":
            now += number
        query = vector(f"query {key}")
        found = asyncio.run(index.search(partition, query, count=3, now_unix_s=now))
        alive = [k for k, (where, expires_at) in model.items() if where == partition and expires_at > now]
        expected = sorted(alive, key=lambda k: -float(vector(k) @ query))[:3]
        assert [candidate.key for candidate in found] == expected
        assert np.allclose([candidate.similarity for candidate in found], [vector(k) @ query for k in expected])


@settings(max_examples=10)
@given(st.integers(FAISS_ROWS_MIN, FAISS_ROWS_MIN + 50), st.data())
def test_faiss_and_the_list_agree_on_large_partitions(size: int, data: st.DataObject) -> None:
    index = VectorIndex(entries_max=10_000)
    alive = [f"k{number}" for number in range(size + 20)]
    for key in alive:
        index.add(key, partition="p", model=MODEL, vector=vector(key), expires_at_unix_s=1.0)
    for key in data.draw(st.lists(st.sampled_from(alive), max_size=20, unique=True)):
        assert index.remove(key)
        alive.remove(key)
    query = vector("query")
    found = asyncio.run(index.search("p", query, count=4, now_unix_s=0.0))
    expected = sorted(alive, key=lambda k: -float(vector(k) @ query))[:4]
    assert [candidate.key for candidate in found] == expected
