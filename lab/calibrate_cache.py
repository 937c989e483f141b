"""Calibrates the cache: hit rate against wrong rate for every way to decide, and a starting verifier.

    python -m lab.calibrate_cache FILE [--seed N] [--orders N] [--limit 0.005] [--out ARTIFACT] [--version NAME]
        [--plot PNG] [--report text|json]

FILE is labelled pairs (`a`, `b`, `same`) or a stream (`text`, `answer`). Pairs: exact match, one threshold, guards, and
a verifier fitted to three quarters of the pairs are reported on the last quarter, which shares no question with them;
--out writes a verifier fitted to all pairs. A stream: exact match, one threshold, a per-entry rule, the packaged
verifier (or --model) at a fixed bar and online control, over random orders; there is nothing to write. --plot draws a
PNG where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lab.cache_data import CacheDataError, Pairs, Stream, read_cache_file
from lab.cache_pair_fit import pair_groups
from lab.cache_pairs import guarded, scores, train
from lab.cache_stream import PACKAGED_MODEL, STREAM_MAX, Way, compare, table
from lab.metrics import bootstrap_rows
from services.cache.matching.pair_model import PairModelError, parse_pair_model, serialise_pair_model

__all__ = ["Point", "main", "pair_points"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PAIRS_MIN: Final = 400
HELD_OUT_PARTS: Final = 4
FALSE_RATES: Final = (0.005, 0.01, 0.02, 0.042, 0.1)
ROUNDS: Final = 200
BAR_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Point:
    """A way at one setting, on held-out pairs: same pairs served and different pairs served, with 95 % intervals."""

    way: str
    setting: str
    hits: tuple[float, float, float]
    wrong: tuple[float, float, float]


def pair_points(
    held: Pairs, similarity: Floats, verifier: Floats, passed: Bools, bars: dict[str, list[float]], *, seed: int
) -> list[Point]:
    """Points of every way. `bars`: the settings of `similarity` and `verifier`, chosen on other pairs."""
    exact = np.asarray(
        [" ".join(a.casefold().split()) == " ".join(b.casefold().split()) for a, b in zip(held.a, held.b, strict=True)]
    )
    ways: list[tuple[str, str, Bools]] = [("exact match", "", exact)]
    ways += [("one threshold", f"{bar:.3f}", similarity >= bar) for bar in bars["similarity"]]
    ways += [("guards", f"{bar:.3f}", passed & (similarity >= bar)) for bar in bars["similarity"]]
    ways += [("verifier", f"{bar:.2f}", verifier >= bar) for bar in bars["verifier"]]
    ways += [("guards, verifier", f"{bar:.2f}", passed & (verifier >= bar)) for bar in bars["verifier"]]
    return [
        Point(way, setting, _share(served, held.same, seed), _share(served, ~held.same, seed))
        for way, setting, served in ways
    ]


def _share(served: Bools, of: Bools, seed: int) -> tuple[float, float, float]:
    def figure(rows: npt.NDArray[np.int64]) -> float:
        inside = of[rows]
        return float(served[rows][inside].mean()) if inside.any() else float("nan")

    found = bootstrap_rows(figure, len(of), seed=seed, rounds=ROUNDS)
    return round(found.value, 4), round(found.low, 4), round(found.high, 4)


def _pairs(pairs: Pairs, options: argparse.Namespace) -> tuple[list[Point], str]:
    if len(pairs) < PAIRS_MIN or min(int(pairs.same.sum()), int((~pairs.same).sum())) < PAIRS_MIN // 4:
        raise CacheDataError(f"at least {PAIRS_MIN} pairs are needed, a quarter of them same and a quarter different")
    groups = pair_groups(pairs)
    part = np.random.default_rng(options.seed).integers(0, HELD_OUT_PARTS, size=int(groups.max()) + 1)[groups]
    fit, held = pairs.take(np.flatnonzero(part > 0)), pairs.take(np.flatnonzero(part == 0))
    fitted, rows = train(fit, version=options.version, seed=options.seed)
    different = ~fit.same
    bars = {
        "similarity": [float(np.quantile(rows.features[different, 0], 1.0 - rate)) for rate in FALSE_RATES],
        "verifier": [float(np.quantile(fitted.held_out[different], 1.0 - rate)) for rate in FALSE_RATES],
    }
    verifier, similarity = scores(fitted.model, held)
    points = pair_points(held, similarity, verifier, guarded(held), bars, seed=options.seed)
    lines = [
        f"{len(held)} held-out pairs ({int(held.same.sum())} same), fitted to {len(fit)}; seed {options.seed}; "
        "bars chosen on the fitted part; 95 % intervals",
        "",
        f"{'way':18}{'bar':>7}   {'same pairs served':26}{'different pairs served':26}",
        *(f"{p.way:18}{p.setting:>7}   {_shown(p.hits):26}{_shown(p.wrong):26}{_bar(p.hits[0])}" for p in points),
        "",
        "Online control needs a stream: it learns from what is asked, in order.",
    ]
    if options.out:
        full, _ = train(pairs, version=options.version, seed=options.seed)
        card = {
            "version": options.version,
            "date": options.date,
            "seed": options.seed,
            "data": options.file.name,
            "split": f"one of {HELD_OUT_PARTS} parts held out for the figures, no question in two; fitted to all",
            "figures": [asdict(p) for p in points],
        }
        options.out.write_bytes(serialise_pair_model(full.model, json.dumps(card)))
    return points, "\n".join(lines) + "\n"


def _bar(share: float) -> str:
    return "#" * round(BAR_CHARACTERS * share)


def _shown(figure: tuple[float, float, float]) -> str:
    return f"{figure[0]:.3f} [{figure[1]:.3f}, {figure[2]:.3f}]"


def _stream_points(ways: Sequence[Way]) -> list[Point]:
    points = []
    for way in ways:
        points += [Point(way.name, s, (h, h, h), (w, w, w)) for s, h, w in way.swept]
        s = way.summary
        points.append(
            Point(
                way.name,
                way.setting,
                (s.hits, s.hits - s.hits_half, s.hits + s.hits_half),
                (s.wrong, s.wrong - s.wrong_half, s.wrong + s.wrong_half),
            )
        )
    return points


def _plot(points: Sequence[Point], path: Path) -> None:
    """Hit rate over wrong rate, a line a way."""
    if find_spec("matplotlib") is None:
        raise CacheDataError("--plot needs matplotlib: pip install 'spillway[lab]'")
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 5))
    for name in dict.fromkeys(point.way for point in points):
        own = sorted((p for p in points if p.way == name), key=lambda p: p.wrong[0])
        x, y = [p.wrong[0] for p in own], [p.hits[0] for p in own]
        spread_x = [[p.wrong[0] - p.wrong[1] for p in own], [p.wrong[2] - p.wrong[0] for p in own]]
        spread_y = [[p.hits[0] - p.hits[1] for p in own], [p.hits[2] - p.hits[0] for p in own]]
        axes.errorbar(x, y, xerr=np.maximum(spread_x, 0), yerr=np.maximum(spread_y, 0), marker="o", label=name)
    axes.set_xlabel("wrong rate")
    axes.set_ylabel("hit rate")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str]) -> int:
    """Reports, draws, writes. 0, or 1 when the file is of no use."""
    options = _options(arguments)
    try:
        found = read_cache_file(options.file)
        if isinstance(found, Stream):
            if len(found) > STREAM_MAX or options.out:
                raise CacheDataError(f"a stream has at most {STREAM_MAX} questions, and yields no verifier to write")
            model = parse_pair_model(options.model.read_bytes())
            ways = compare(
                found, model, limit=options.limit, orders=options.orders, seed=options.seed, workers=options.workers
            )
            points, text = _stream_points(ways), table(ways, options.limit)
        else:
            points, text = _pairs(found, options)
        if options.plot:
            _plot(points, options.plot)
    except (CacheDataError, PairModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps([asdict(p) for p in points], indent=1) + "\n" if options.report == "json" else text)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.calibrate_cache")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--orders", type=int, default=10, help="random orders of a stream")
    parser.add_argument("--limit", type=float, default=0.005, help="wrong answers as a share of all lookups")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, metavar="ARTIFACT")
    parser.add_argument("--out", type=Path, metavar="ARTIFACT")
    parser.add_argument("--version", default="local-1")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--report", choices=("text", "json"), default="text")
    parser.add_argument("--date", default=dt.datetime.now(tz=dt.UTC).date().isoformat())
    options = parser.parse_args(arguments)
    if options.orders < 1 or not 0.0 < options.limit <= 1.0:
        parser.error("--orders: at least 1; --limit: above 0, at most 1")
    return options


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
