"""How often the cache is right that two answers say the same, on recorded answers whose final answers are known.

    python -m lab.cache_answers recorded/gsm.jsonl.gz [recorded/crux.jsonl.gz ...] [--prompts 150] [--seed N]

Of each prompt three models' answers are drawn, and one answer to another prompt. A pair of one prompt is the same when
both are right or the final answers that were found in them (`parsed`) are equal, different when one of them is right,
and left out when both are wrong in other words (who would say?); a pair of two prompts is left out when `parsed` is the
same. Compared are the whole texts, which mark their final answer, and
the reasoning alone, with that mark cut off: prose, by the texts and by the cosine of their embeddings. Intervals are
95 % (Wilson), pairs of one prompt counted as independent, so a little too narrow.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Final

from lab.cache_data import embed
from services.cache.matching.answer_comparison import Comparison, compare, compare_prose

__all__ = ["main"]

MODELS_EACH: Final = 3
EMBEDDED_CHARS_MAX: Final = 4_000
_MARK: Final = re.compile(r',?\s*"answer"\s*:.*\Z', re.DOTALL | re.IGNORECASE)

Pair = tuple[str, str, bool]


def main(arguments: Sequence[str]) -> int:
    """Prints one table for each file."""
    parser = argparse.ArgumentParser(prog="python -m lab.cache_answers")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    for path in options.files:
        pairs = _pairs(path, options.prompts, Random(options.seed))
        prose = [(_reasoning(a), _reasoning(b), same) for a, b, same in pairs]
        prose = [pair for pair in prose if pair[0].strip() and pair[1].strip()]
        sys.stdout.write(f"{path.name}: {len(pairs)} pairs, {sum(same for *_, same in pairs)} the same\n")
        _report("whole answers", [(compare(a, b), same) for a, b, same in pairs])
        by_text = [(compare(a, b), same) for a, b, same in prose]
        _report("reasoning, by its text", by_text)
        vectors = embed([text[:EMBEDDED_CHARS_MAX] for a, b, _ in prose for text in (a, b)])
        cosines = (vectors[0::2] * vectors[1::2]).sum(axis=1).tolist()
        _report(
            "reasoning, with embeddings",
            [
                (compare_prose(a, b, cosine) if found is Comparison.UNKNOWN else found, same)
                for (a, b, same), (found, _), cosine in zip(prose, by_text, cosines, strict=True)
            ],
        )
    return 0


def _pairs(path: Path, prompts: int, random: Random) -> list[Pair]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line)["answers"] for line in file]
    drawn: list[list[tuple[str, str, bool]]] = []
    for answers in random.sample(rows, min(prompts, len(rows))):
        told = [(each["text"], str(each["parsed"]), bool(each["correct"])) for each in answers.values()]
        told = [each for each in told if each[1] not in ("None", "nan", "")]
        if len(told) >= MODELS_EACH:
            drawn.append(random.sample(told, MODELS_EACH))
    pairs = []
    for group in drawn:
        for a, b in combinations(group, 2):
            same = a[1] == b[1] or (a[2] and b[2])
            if same or a[2] or b[2]:
                pairs.append((a[0], b[0], same))
    for one, other in zip(drawn, [*drawn[1:], drawn[0]], strict=True):
        if one[0][1] != other[1][1]:
            pairs.append((one[0][0], other[1][0], False))
    return pairs


def _reasoning(text: str) -> str:
    return _MARK.sub("", text)


def _report(name: str, found: Sequence[tuple[Comparison, bool]]) -> None:
    same = [truth for verdict, truth in found if verdict is Comparison.SAME]
    different = [truth for verdict, truth in found if verdict is Comparison.DIFFERENT]
    alike, unlike = sum(truth for _, truth in found), sum(not truth for _, truth in found)
    sys.stdout.write(
        f"  {name} (n = {len(found)})\n"
        f'    "same" is right    {_share(sum(same), len(same))}   of the same, found {_share(sum(same), alike)}\n'
        f'    "different" is right {_share(len(different) - sum(different), len(different))}'
        f"   of the different, found {_share(len(different) - sum(different), unlike)}\n"
        f"    unknown {_share(len(found) - len(same) - len(different), len(found))}\n"
    )


def _share(part: int, whole: int) -> str:
    if not whole:
        return "- (0)"
    p, z = part / whole, 1.96
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole)) / (1 + z * z / whole)
    return f"{p:.3f} [{max(0.0, middle - half):.3f}, {min(1.0, middle + half):.3f}] ({whole})"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
