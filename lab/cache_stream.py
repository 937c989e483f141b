"""Runs a stream of questions through ways to decide a semantic hit, side by side, in random orders.

    python -m lab.cache_stream FILE [--orders 20] [--seed N] [--limit 0.005] [--workers 2] [--model ARTIFACT]
        [--json FILE] [--runs FILE [--minutes M]]

FILE is a stream (`text`, `answer`). Each question is looked up among those stored before it; a miss is answered rightly
and stored, a hit is served the proposed answer. Ways: exact match; one threshold, the best of a grid chosen in
hindsight; a per-entry logistic rule (after vCache); a verifier with a fixed bar; online risk
control, the product's own code. A miss tells whether the proposed answer was right; a hit tells nothing unless it is
audited; the truth about other hits is counted here and shown to nobody.

With --runs what is done is kept in that file, and the same command goes on where it stopped, after --minutes at the
latest (exit code 2: something is left to do).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from lab.cache_baselines import exact_run, per_entry_run, threshold_run, verifier_run
from lab.cache_data import CacheDataError, Stream, embed, read_cache_file
from lab.cache_online import PairJudge, online_run
from lab.cache_run_log import RunLog, Task, fingerprint
from lab.cache_runs import Run, Summary, summary
from services.cache.matching.pair_model import PairModel, PairModelError, parse_pair_model
from services.cache.matching.risk_control import RiskPolicy

__all__ = ["PACKAGED_MODEL", "STREAM_MAX", "Way", "compare", "main", "table"]

PACKAGED_MODEL: Final = Path(__file__).parent.parent / "services" / "cache" / "matching" / "data" / "pair_model.npz"
THRESHOLDS: Final = tuple(round(0.70 + 0.02 * step, 3) for step in range(10)) + tuple(
    round(0.90 + 0.0025 * step, 4) for step in range(40)
)
"""Fine where streams have their best one: a coarse grid would make the threshold look worse than it is."""
PER_ENTRY_ERRORS: Final = (0.0025, 0.005, 0.0075, 0.01, 0.02, 0.04)
BARS: Final = (1.0, 2.0, 3.0, 4.0)
ONLINE: Final = "online control"
SWEPT_ORDERS_MAX: Final = 3
"""Settings are swept over so many orders, and the best, chosen in hindsight, runs over all."""

STREAM_MAX: Final = 20_000
"""Longer streams are cut: all similarities are held in memory (1.6 GB)."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to decide, at the setting with most hits among those that keep the limit (else with fewest wrong)."""

    name: str
    setting: str
    summary: Summary
    swept: tuple[tuple[str, float, float], ...] = ()


class Field:
    """A stream made ready: all similarities, the judge of pairs."""

    def __init__(self, stream: Stream, model: PairModel) -> None:
        vectors = embed(stream.texts)
        self.texts, self.answers = stream.texts, stream.answers
        self.similarities = vectors @ vectors.T
        self.judge = PairJudge(model, stream.texts, vectors)

    def run(self, way: str, setting: float, limit: float, seed: int) -> Run:
        """One order of one way."""
        order = np.random.default_rng(seed).permutation(len(self.answers)).tolist()
        if way == "exact match":
            return exact_run(self.texts, self.answers, order)
        if way == "one threshold":
            return threshold_run(self.similarities, self.answers, order, setting)
        if way == "per-entry rule":
            return per_entry_run(self.similarities, self.answers, order, setting, Random(seed))
        if way == "verifier, fixed bar":
            return verifier_run(self.similarities, self.answers, order, setting, self.judge)
        return online_run(self.similarities, self.answers, self.judge, RiskPolicy(max_wrong_rate=limit), seed)


_WAYS: Final = (
    ("exact match", (0.0,)),
    ("one threshold", THRESHOLDS),
    ("per-entry rule", PER_ENTRY_ERRORS),
    ("verifier, fixed bar", BARS),
    (ONLINE, (0.0,)),
)
_NO_POINTS: Final[tuple[tuple[str, float, float], ...]] = ()
_field: list[Field] = []  # what forked workers inherit


def _work(task: tuple[Task, float]) -> tuple[Task, Run]:
    (way, setting, seed), limit = task
    return (way, setting, seed), _field[0].run(way, setting, limit, seed)


class TimeIsUpError(Exception):
    """Runs are left to do."""


def compare(
    stream: Stream,
    model: PairModel,
    *,
    limit: float,
    orders: int,
    seed: int,
    workers: int = 1,
    log: RunLog | None = None,
    ends_at_s: float = math.inf,
) -> list[Way]:
    """Every way over the same random orders. `ends_at_s` is of the monotonic clock; raises TimeIsUpError then."""
    done = log or RunLog(None, "")
    _field[:] = [Field(stream, model)]
    seeds = [seed + index for index in range(orders)]

    def run(tasks: Sequence[Task]) -> list[Run]:
        for task, result in pool.imap_unordered(_work, [(task, limit) for task in done.missing(tasks)]):
            done.add(task, result)
            if time.monotonic() > ends_at_s:
                raise TimeIsUpError
        return done.runs(tasks)

    try:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            found = []
            for name, settings in _WAYS:
                best, points = settings[0], _NO_POINTS
                if len(settings) > 1:
                    best, points = _swept(name, settings, seeds[:SWEPT_ORDERS_MAX], limit, run)
                runs = run([(name, best, each) for each in seeds])
                found.append(Way(name, f"{best:g}" if len(settings) > 1 else "", summary(runs, limit), points))
    finally:
        _field.clear()
    return found


def _swept(
    name: str, settings: Sequence[float], seeds: Sequence[int], limit: float, run: Callable[[Sequence[Task]], list[Run]]
) -> tuple[float, tuple[tuple[str, float, float], ...]]:
    """The best setting in hindsight, and what each came to."""
    runs = run([(name, setting, seed) for setting in settings for seed in seeds])
    told = [summary(runs[at : at + len(seeds)], limit) for at in range(0, len(runs), len(seeds))]
    best = max(
        zip(settings, told, strict=True),
        key=lambda each: (each[1].wrong <= limit, each[1].hits if each[1].wrong <= limit else -each[1].wrong),
    )[0]
    points = ((f"{setting:g}", round(s.hits, 4), round(s.wrong, 5)) for setting, s in zip(settings, told, strict=True))
    return best, tuple(points)


def _at_equal_error(way: Way, online: Summary) -> Iterator[str]:
    """The way's setting with most hits among those that are no more often wrong than online control."""
    within = [point for point in way.swept if point[2] <= online.wrong and point[1]]
    if within:
        setting, hits, wrong = max(within, key=lambda point: point[1])
        times = online.hits / hits
        yield f"    {times:.2f} times at equal error: {setting} has {hits:.1%} at {wrong:.3%} in the swept orders"


def table(ways: Sequence[Way], limit: float) -> str:
    """For the terminal, with a bar of hits."""
    lines = [
        f"hits and wrong answers as shares of all lookups, means over {ways[0].summary.orders} orders with 95 % "
        f"intervals; limit {limit:.2%}",
        "covered: orders in which the reported 95 % interval of the wrong rate held the true one",
        "",
        f"{'way':22}{'setting':>9}   {'hits':>16}   {'wrong':>18}   {'worst':>7}  held at every point  covered",
    ]
    for way in ways:
        s = way.summary
        covered = f"{s.covered:>4}/{s.orders}" if way.name == ONLINE else ""
        lines.append(
            f"{way.name:22}{way.setting:>9}   {s.hits:7.2%} ± {s.hits_half:6.2%}   {s.wrong:8.3%} ± {s.wrong_half:7.3%}"
            f"   {s.worst:7.3%}  {s.held:>16}/{s.orders}  {covered}"
        )
    online = next((way.summary for way in ways if way.name == ONLINE), None)
    for way in ways if online is not None else ():
        if online is not None and way.name != ONLINE and way.summary.hits:
            lines.append(f"{ONLINE} has {online.hits / way.summary.hits:.2f} times the hits of: {way.name}")
            lines.extend(_at_equal_error(way, online))
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Runs and reports. 0, or 1 when a file is of no use."""
    parser = argparse.ArgumentParser(prog="python -m lab.cache_stream")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=0.005, help="wrong answers as a share of all lookups")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, metavar="ARTIFACT")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=Path, metavar="FILE", help="keeps what is done, and goes on with it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this sitting")
    options = parser.parse_args(arguments)
    try:
        stream = read_cache_file(options.file)
        if not isinstance(stream, Stream) or len(stream) > STREAM_MAX:
            raise CacheDataError(f"{options.file.name} is no stream of at most {STREAM_MAX} questions")
        model = parse_pair_model(options.model.read_bytes())
        log = RunLog(options.runs, fingerprint(stream, limit=options.limit, model=model.version))
    except (CacheDataError, PairModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        ways = compare(
            stream,
            model,
            limit=options.limit,
            orders=options.orders,
            seed=options.seed,
            workers=options.workers,
            log=log,
            ends_at_s=time.monotonic() + 60.0 * options.minutes,
        )
    except TimeIsUpError:
        sys.stderr.write("time is up: the same command goes on\n")
        return 2
    sys.stdout.write(table(ways, options.limit))
    if options.json:
        options.json.write_text(json.dumps([asdict(way) for way in ways], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
