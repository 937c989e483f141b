"""The bar of a pair model that is there, chosen on near misses; its networks stay as they are.

    python -m lab.cache_bar TRAIN --near-misses FILE... [--model ARTIFACT] [--seed N] [--version NAME --out ARTIFACT]

The steps are shares of TRAIN's different pairs that would be served behind the guards, STEP each, by log odds of folds
that are fitted anew as `lab.cache_pairs` does with this seed. Chosen is the loosest step at which at most
NEAR_MISSES_SERVED_MAX of the near misses of all FILEs are served, by ARTIFACT's own log odds: no guard speaks, and they
reach the bar. So figures on these FILEs are of data that was chosen on. The bar without vectors is that of the same
step.

No hit of the service depends on the bar: it has none. Those of `lab.cache_pairs` and `lab.cache_whole_answers` do.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lab.cache_data import CacheDataError, Pairs, read_cache_file
from lab.cache_pairs import guarded, guarded_bar, scores, train
from lab.cache_stream import PACKAGED_MODEL
from services.cache.matching.pair_model import PairModelError, parse_pair_model, serialise_pair_model

__all__ = ["NEAR_MISSES_SERVED_MAX", "Step", "loosest", "main", "steps", "with_bars"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEAR_MISSES_SERVED_MAX: Final = 0.005
STEP: Final = 0.002


@dataclass(frozen=True, slots=True)
class Step:
    """`share` of different pairs served behind the guards, the log odds that this takes, and pairs of FILEs served."""

    share: float
    bar: float
    near_misses: int
    paraphrases: int


def steps(held_out: Floats, passed: Bools, same: Bools, judged: tuple[Floats, Bools, Bools]) -> Iterator[Step]:
    """From the strictest step to the last that the guards leave. `judged`: FILEs' log odds, passed by guards, same."""
    found, unrefused, true = judged
    lowest = held_out[passed & ~same].min(initial=np.inf)
    for count in range(1, round(1.0 / STEP)):
        bar = guarded_bar(held_out, passed, same, STEP * count)
        if bar < lowest:
            return
        served = unrefused & (found >= bar)
        yield Step(round(STEP * count, 6), bar, int(served[~true].sum()), int(served[true].sum()))


def loosest(found: Sequence[Step], near_misses: int) -> Step:
    """The last step that serves at most NEAR_MISSES_SERVED_MAX of so many near misses. Raises CacheDataError."""
    fits = [step for step in found if step.near_misses <= NEAR_MISSES_SERVED_MAX * near_misses]
    if not fits or not near_misses:
        raise CacheDataError("no bar serves so few near misses")
    return min(fits, key=lambda step: step.bar)


def with_bars(data: bytes, bars: tuple[float, float], *, version: str, note: dict[str, object]) -> bytes:
    """The artifact with other bars, with and without vectors, and another version; `note` joins its card as "bar".

    Raises PairModelError where `data` is no artifact, and CacheDataError where its card is no JSON object.
    """
    model = parse_pair_model(data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        try:
            card = json.loads(str(archive["card"]))
            card |= {"version": version, "bar": note}
        except (KeyError, TypeError, ValueError) as error:
            raise CacheDataError(f"the artifact has no card ({type(error).__name__})") from error
    changed = replace(
        model,
        version=version,
        with_vectors=replace(model.with_vectors, served_from=bars[0]),
        without_vectors=replace(model.without_vectors, served_from=bars[1]),
    )
    return serialise_pair_model(changed, json.dumps(card))


def _read_pairs(path: Path) -> Pairs:
    found = read_cache_file(path)
    if not isinstance(found, Pairs):
        raise CacheDataError(f"{path.name} has no pairs")
    return found


def main(arguments: Sequence[str]) -> int:
    """Chooses, reports, writes. 0, or 1 when a file is of no use."""
    options = _options(arguments)
    try:
        data = options.model.read_bytes()
        model, files = parse_pair_model(data), [_read_pairs(path) for path in options.near_misses]
        parts = [(scores(model, pairs)[0], guarded(pairs), pairs.same) for pairs in files]
        found, unrefused, true = (np.concatenate(column) for column in zip(*parts, strict=True))
        near_misses = int((~true).sum())
        pairs = _read_pairs(options.train)
        passed, (fitted, _) = guarded(pairs), train(pairs, version=options.version, seed=options.seed)
        every = list(steps(fitted.held_out, passed, pairs.same, (found, unrefused, true)))
        chosen = loosest(every, near_misses)
        bars = chosen.bar, guarded_bar(fitted.held_out_text, passed, pairs.same, chosen.share)
        rule = f"the loosest step with at most {NEAR_MISSES_SERVED_MAX:.1%} of seen near misses served"
        note: dict[str, object] = {
            "rule": rule,
            "date": options.date,
            "files": sorted(path.name for path in options.near_misses),
            "share": chosen.share,
            "near_misses": [chosen.near_misses, near_misses],
            "paraphrases": [chosen.paraphrases, int(true.sum())],
        }
        written = with_bars(data, bars, version=options.version, note=note)
    except (CacheDataError, PairModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for step in every:
        sys.stdout.write(
            f"{step.share:.3f}{step.bar:9.3f}  near misses {step.near_misses:4} of {near_misses}  paraphrases "
            f"{step.paraphrases:4} of {int(true.sum())}{'  <- chosen' if step is chosen else ''}\n"
        )
    if options.out:
        options.out.write_bytes(written)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.cache_bar")
    parser.add_argument("train", type=Path, metavar="TRAIN")
    parser.add_argument("--near-misses", type=Path, action="append", required=True, metavar="FILE")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, metavar="ARTIFACT")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--version", default="local-1")
    parser.add_argument("--out", type=Path, metavar="ARTIFACT")
    parser.add_argument("--date", default=dt.datetime.now(tz=dt.UTC).date().isoformat())
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
