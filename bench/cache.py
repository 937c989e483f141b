"""What a lookup and a store cost, over gRPC and in one process, by the number of entries, beside GPTCache.

    python -m bench.cache [--entries 10000 100000] [--lookups 2000] [--gptcache PYTHON] [--json FILE]

Questions, answers and embeddings are drawn (seeded, `bench.cache_workload`): twenty wordings of a topic share an
answer. Embedding itself is no part of the figures, for either side. An "exact hit" asks a stored question as it was;
"same words" with another capital, another space and a mark, and a vector of similarity about 0.99; a "paraphrase" is a
wording that is not stored, with a vector of its own, served or not by what its class learned from 1,000 lookups and
stores before, which are not counted; a "miss" asks something else about the same things. How many were answered stands
beside every figure.

The service is a process of its own with `store: file`, or with `--redis` and a Redis of its own, filled beforehand:
warm-up is the time from its start until it has every entry in its index. CPU time is that of the processes which serve,
the Redis among them. It does not count waiting for a busy machine, but caches are shared, so the load average is
printed too. "Again" is the same a second time: what was read of its neighbours is known by then, as far as there is
room for it. `--gptcache` names the interpreter of an environment with GPTCache, faiss-cpu and SQLAlchemy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import uvloop

from bench.cache_index_alone import index_alone
from bench.cache_service import over_grpc
from bench.cache_stores import FileSite, RedisSite
from bench.cache_workload import ANSWER_TEXT, Workload, draw


def beside_gptcache(python: str, folder: Path, work: Workload, lookups: int) -> dict[str, Any]:
    np.save(folder / "vectors.npy", work.vectors)
    asked = [*work.hit[:lookups], *work.miss[:lookups]]
    np.save(folder / "queries.npy", np.stack([vector for _, vector in asked]))
    (folder / "work.json").write_text(
        json.dumps(
            {
                "vectors": str(folder / "vectors.npy"),
                "queries": str(folder / "queries.npy"),
                "query_texts": [text for text, _ in asked],
                "hit": [text for text, _ in work.hit[:lookups]],
                "miss": [text for text, _ in work.miss[:lookups]],
                "answer": ANSWER_TEXT,
            }
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [python, str(Path(__file__).with_name("cache_gptcache.py")), str(folder / "work.json")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=folder,
    )
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"cpus": os.cpu_count()}
    for entries in arguments.entries:
        work = draw(entries, arguments.lookups)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            figures: dict[str, Any] = {"load_average": os.getloadavg()[0]}
            if not arguments.index_only:
                site = RedisSite(folder, snapshots=arguments.snapshots) if arguments.redis else FileSite(folder)
                with contextlib.closing(site):
                    figures["fill_s"] = round(await site.fill(work.vectors), 1)
                    figures["stored_bytes_per_entry"] = site.bytes_per_entry(entries)
                    figures["grpc"] = await over_grpc(folder, site, work)
                    if arguments.redis and arguments.snapshots:
                        figures["from the snapshot"] = await over_grpc(folder, site, work, only_start=True)
            if not arguments.no_index:
                figures["index"] = await index_alone(work, folder)
            if arguments.gptcache and entries <= arguments.gptcache_entries_max:
                figures["gptcache"] = beside_gptcache(arguments.gptcache, folder, work, arguments.gptcache_lookups)
            figures["load_average_after"] = os.getloadavg()[0]
        result[str(entries)] = figures
        show(entries, figures)
    return result


def show(entries: int, figures: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{entries:,} entries\n")
    for name, value in figures.items():
        if isinstance(value, dict):
            sys.stdout.write(f"  {name}\n")
            for inner, detail in value.items():
                sys.stdout.write(f"    {inner:22} {json.dumps(detail)}\n")
        else:
            sys.stdout.write(f"  {name:24} {value}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cache", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--lookups", type=int, default=2_000)
    parser.add_argument("--gptcache", default="", help="interpreter of an environment with gptcache")
    parser.add_argument("--gptcache-lookups", type=int, default=100)
    parser.add_argument("--gptcache-entries-max", type=int, default=100_000)
    parser.add_argument("--redis", action="store_true", help="a Redis of its own instead of a file")
    parser.add_argument("--snapshots", action="store_true", help="with --redis: and once more from the snapshot")
    parser.add_argument("--no-index", action="store_true", help="not the index by itself")
    parser.add_argument("--index-only", action="store_true", help="neither gRPC nor the store: for a million entries")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    result = uvloop.run(measure(arguments))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
