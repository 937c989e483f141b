"""GPTCache (PyPI) with sqlite and faiss, measured by itself: run by bench.cache in an environment of its own.

    PYTHON bench/cache_gptcache.py WORK.json     (prints one JSON line)

It gets the same vectors and questions as Spillway's cache; the embedding function only looks the vector up, so that
neither pays for embedding. Needs nothing of this repository.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from gptcache import Cache, Config
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    vectors = np.load(work["vectors"])
    queries = np.load(work["queries"])
    by_text = dict(zip(work["query_texts"], queries, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(work, vectors, by_text, folder)))


def measure(work: dict[str, Any], vectors: Any, by_text: dict[str, Any], folder: str) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    count, width = vectors.shape
    manager = get_data_manager(
        CacheBase("sqlite", sql_url=f"sqlite:///{folder}/sqlite.db"),
        VectorBase("faiss", dimension=width, index_path=f"{folder}/faiss.index"),
        max_size=2 * count,
    )
    rss_before = rss_bytes()
    began = time.perf_counter()
    for begin in range(0, count, 5_000):
        part = vectors[begin : begin + 5_000]
        names = [f"question {begin + at}" for at in range(len(part))]
        manager.import_data(names, [work["answer"]] * len(part), list(part), [None] * len(part))
    fill_s = time.perf_counter() - began
    rss = rss_bytes() - rss_before
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: by_text[text],
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=0.8),
    )
    figures: dict[str, Any] = {"fill_s": fill_s, "rss_bytes_per_entry": rss / count}
    for kind in ("hit", "miss"):
        texts = work[kind]
        found, timing = timed(lambda text: get(text, cache_obj=cache), texts)
        figures[kind] = {**timing, "answered": sum(answer is not None for answer in found) / len(texts)}
    _, figures["store"] = timed(lambda text: put(text, work["answer"], cache_obj=cache), work["miss"])
    return figures


def timed(call: Callable[[str], Any], texts: list[str]) -> tuple[list[Any], dict[str, float]]:
    found: list[Any] = []
    took: list[float] = []
    cpu = time.process_time()
    for text in texts:
        began = time.perf_counter()
        found.append(call(text))
        took.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    p50, p99 = (np.percentile(took, [50, 99]) * 1e3).tolist()
    return found, {"p50_ms": p50, "p99_ms": p99, "cpu_ms": cpu / len(texts) * 1e3, "n": len(texts)}


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
