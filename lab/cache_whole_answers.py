"""Near misses held against whole answers: all stored questions of one, not the first alone.

    python -m lab.cache_whole_answers FILE... [--show] [--model ARTIFACT]

FILE has pairs (`a`, `b`, `same`, perhaps `half`: each is reported apart). The questions that are called the same as one
`a` are stored with it under one answer; each near miss of that `a` is then asked. It counts as served when no guard
speaks (or none but those that a class could lift) and the pair model's log odds to the nearest stored question reach
the artifact's bar, which was chosen on the near misses of lab/data. The service is stricter: it has no fixed bar, and
before there is evidence it serves the same words alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.cache_data import CacheDataError, Pairs, embed, read_cache_file, read_rows
from lab.cache_online import PairJudge
from lab.cache_stream import PACKAGED_MODEL
from services.cache.matching.pair_model import PairModel, PairModelError, parse_pair_model
from services.cache.matching.proposal_guard import LIFTABLE, kind_of

__all__ = ["WholeAnswers", "by_half", "main", "whole_answers"]


@dataclass(frozen=True, slots=True)
class WholeAnswers:
    """Of near misses: how many there are, pass the guards, and are served; the latter also with what is liftable
    lifted. `served_texts`: the answer's first question and the near miss."""

    near_misses: int
    passed: int
    served: int
    served_lifted: int
    served_texts: tuple[tuple[str, str], ...] = ()


def by_half(path: Path) -> list[tuple[str, Pairs]]:
    """The pairs of each `half`, by its name; "all" where rows have none. Raises CacheDataError and OSError."""
    pairs = read_cache_file(path)
    if not isinstance(pairs, Pairs):
        raise CacheDataError(f"{path.name} has no pairs")
    halves = np.asarray([str(row.get("half", "all")) for row in read_rows(path)])
    return [(half, pairs.take(np.flatnonzero(halves == half))) for half in sorted(set(halves.tolist()))]


def whole_answers(
    pairs: Pairs, vectors: npt.NDArray[np.float32], texts: Sequence[str], model: PairModel
) -> WholeAnswers:
    """`vectors` [len(texts), d] are those of `texts`, among which all questions of the pairs are."""
    judge = PairJudge(model, texts, vectors)
    row_of = {text: row for row, text in enumerate(texts)}
    stored: dict[str, list[int]] = defaultdict(list)
    for a, b, same in zip(pairs.a, pairs.b, pairs.same, strict=True):
        rows = stored[a] or [row_of[a]]
        stored[a] = rows + [row_of[b]] * bool(same)
    counts = [0, 0, 0, 0]
    texts_served: list[tuple[str, str]] = []
    for a, b, same in zip(pairs.a, pairs.b, pairs.same, strict=True):
        if same:
            continue
        asked = row_of[b]
        near = sorted(stored[a], key=lambda row: -float(vectors[asked] @ vectors[row]))
        kind = kind_of(judge.refusal(asked, near, len(near)))
        logit = judge.logit(asked, near[0], float(vectors[asked] @ vectors[near[0]]))
        above = logit >= model.with_vectors.served_from
        for place, more in enumerate((True, not kind, not kind and above, kind in ("", *LIFTABLE) and above)):
            counts[place] += more
        if not kind and above:
            texts_served.append((a, b))
    near_misses, passed, served, lifted = counts
    return WholeAnswers(near_misses, passed, served, lifted, tuple(texts_served))


def main(arguments: Sequence[str]) -> int:
    """Reports. 0, or 1 when a file is of no use."""
    parser = argparse.ArgumentParser(prog="python -m lab.cache_whole_answers")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--show", action="store_true", help="the near misses that are served")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, metavar="ARTIFACT")
    options = parser.parse_args(arguments)
    try:
        model = parse_pair_model(options.model.read_bytes())
        for name, half, pairs in ((path.name, *part) for path in options.files for part in by_half(path)):
            texts = sorted({*pairs.a, *pairs.b})
            found = whole_answers(pairs, embed(texts), texts, model)
            sys.stdout.write(
                f"{name} {half}: of {found.near_misses} near misses {found.passed} pass the guards, "
                f"{found.served} are served, {found.served_lifted} with what is liftable lifted\n"
            )
            if options.show:
                sys.stdout.writelines(f"    {a} | {b}\n" for a, b in found.served_texts)
    except (CacheDataError, PairModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
