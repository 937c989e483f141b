"""Inverted lists beside the scan of all codes in a large partition: what searches and changes cost, what is found.

    python -m bench.cache_inverted EMBEDDINGS.npy [MORE.npy] [--rows 150000 1000000] [--queries 1000]

The files hold float32 rows (lab.embeddings keeps some). Distinct rows are shuffled (seed 1) and the queries set aside;
where there are fewer rows than asked for, the rest are copies of them at cosine similarities of .74 to .96, as crowds
of paraphrases would be; how many are real is said. Recall at 1 is over queries whose nearest row is at 0.8 and more,
held against an exact search; every kind compares its `LOOKS` best by code as vectors. CPU time on one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from services.cache.index.code_lists import CodeLists
from services.cache.index.partition_rows import CODES_CHUNK_ROWS, SECOND_LOOKS
from services.cache.index.sign_codes import SignCoder, nearest_codes

LOOKS: Final = SECOND_LOOKS
NEAR: Final = 8
WOULD_BE_HIT: Final = 0.8
TRAINED_ON: Final = 100_000
MANY_ROWS: Final = 500_000
CHANGES: Final = 2_000
SEED: Final = 1

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Kind:
    """`search` gives the rows of the best codes; `add` and `remove` change the index by rows that it numbers itself."""

    name: str
    search: Callable[[Vectors], npt.NDArray[np.int64]]
    build_s: float
    add: Callable[[Vectors], None] | None = None
    remove: Callable[[npt.NDArray[np.int64]], None] | None = None


def scan(rows: Vectors) -> Iterator[Kind]:
    began = time.process_time()
    coder = SignCoder(rows[:TRAINED_ON].mean(axis=0))
    codes = np.concatenate([coder.encode(rows[at : at + 50_000]) for at in range(0, len(rows), 50_000)])
    chunks = [codes[at : at + CODES_CHUNK_ROWS] for at in range(0, len(codes), CODES_CHUNK_ROWS)]
    yield Kind(
        "all codes",
        lambda query: np.array(nearest_codes(chunks, coder.encode(query), LOOKS)),
        time.process_time() - began,
    )


def lists_of_codes(rows: Vectors) -> Iterator[Kind]:
    coder = SignCoder(rows[:TRAINED_ON].mean(axis=0))
    codes = np.concatenate([coder.encode(rows[at : at + 50_000]) for at in range(0, len(rows), 50_000)])
    began = time.process_time()
    lists = CodeLists.built([codes])
    built_s = time.process_time() - began

    def search(query: Vectors) -> npt.NDArray[np.int64]:
        return np.array(lists.search(coder.encode(query), LOOKS))

    def add(vectors: Vectors) -> None:
        for at, vector in enumerate(vectors, len(lists)):
            lists.update([at], [at], coder.encode(vector)[np.newaxis])

    def remove(ids: npt.NDArray[np.int64]) -> None:
        for each in ids.tolist():
            lists.update([each], [], codes[:0])

    yield Kind("codes in 1,024 lists, 128 of them", search, built_s, add, remove)


def lists_of_rabitq(rows: Vectors) -> Iterator[Kind]:
    lists = 1_024 if len(rows) < MANY_ROWS else 2_048
    began = time.process_time()
    width = rows.shape[1]
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFRaBitQ(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(rows[:TRAINED_ON])
    index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
    index.add(rows)
    built_s = time.process_time() - began

    def search(query: Vectors) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = index.search(query[np.newaxis], LOOKS)[1][0]
        return found[found >= 0]

    def add(vectors: Vectors) -> None:
        for vector in vectors:
            index.add(vector[np.newaxis])

    def remove(ids: npt.NDArray[np.int64]) -> None:
        for each in ids:
            index.remove_ids(faiss.IDSelectorArray(np.array([each])))

    for share in (32, 16, 8):
        index.nprobe = lists // share
        last = share == 8
        name = f"RaBitQ in {lists:,} lists, {index.nprobe} of them"
        yield Kind(name, search, built_s, add if last else None, remove if last else None)


def drawn(rows: Vectors, count: int) -> Vectors:
    """`count` rows: these, and copies that differ from them."""
    if count <= len(rows):
        return np.ascontiguousarray(rows[:count])
    rng = np.random.default_rng(SEED)
    made = np.empty((count, rows.shape[1]), np.float32)
    made[: len(rows)] = rows
    for begin in range(len(rows), count, 50_000):
        part = made[begin : begin + 50_000]
        noise = rng.standard_normal(part.shape, dtype=np.float32)
        noise *= rng.uniform(0.3, 0.9, (len(part), 1)) / np.linalg.norm(noise, axis=1, keepdims=True)
        part[:] = rows[rng.integers(len(rows), size=len(part))] + noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    rng.shuffle(made)
    return made


def measure(kind: Kind, rows: Vectors, queries: Vectors, nearest: tuple[Vectors, npt.NDArray[np.int64]]) -> None:
    similarities, exact = nearest
    would_hit = np.flatnonzero(similarities[:, 0] >= WOULD_BE_HIT)
    right, near_found, near_all = 0, 0, 0
    cpu_s = 0.0
    for at in would_hit:
        query = queries[at]
        began = time.process_time()
        found = kind.search(query)
        values = rows[found] @ query
        cpu_s += time.process_time() - began
        right += bool(len(values) and values.max() >= similarities[at, 0] - 1e-4)
        near = exact[at][similarities[at] >= 0.6]
        near_found, near_all = near_found + int(np.isin(near, found).sum()), near_all + len(near)
    line = (
        f"  {kind.name:34} search {cpu_s / len(would_hit) * 1e6:6.0f} us   recall@1 {right / len(would_hit):.4f}"
        f"   of {NEAR} near {near_found / near_all:.4f}   build {kind.build_s:6.1f} s"
    )
    if kind.add is not None and kind.remove is not None:
        began = time.process_time()
        kind.add(rows[:CHANGES])
        line += f"   add {(time.process_time() - began) / CHANGES * 1e6:.0f} us"
        began = time.process_time()
        kind.remove(np.random.default_rng(SEED).permutation(len(rows))[:CHANGES])
        line += f"   remove {(time.process_time() - began) / CHANGES * 1e6:.0f} us"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cache_inverted")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[150_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=1_000)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    read: list[Any] = [np.load(path, allow_pickle=False) for path in arguments.files]
    together = np.concatenate([each.astype(np.float32) for each in read if each.ndim == 2])
    together = np.unique(together / np.linalg.norm(together, axis=1, keepdims=True), axis=0)
    np.random.default_rng(SEED).shuffle(together)
    queries, real = together[: arguments.queries], together[arguments.queries :]
    for count in arguments.rows:
        rows = drawn(real, count)
        nearest = faiss.knn(queries, rows, NEAR, metric=faiss.METRIC_INNER_PRODUCT)
        near = int((nearest[0][:, 0] >= WOULD_BE_HIT).sum())
        sys.stdout.write(
            f"{len(rows):,} rows, {min(count, len(real)):,} of them real; {near} queries might hit;"
            f" load {os.getloadavg()[0]:.1f}\n"
        )
        for kinds in (scan, lists_of_codes, lists_of_rabitq):
            for kind in kinds(rows):
                measure(kind, rows, queries, nearest)


if __name__ == "__main__":
    main()
