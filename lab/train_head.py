"""Builds the classifier's head from labelled examples and reports how good it is.

    python -m lab.train_head [--examples FILE] [--heldout FILE] [--out STEM] [--version NAME] [--seed N] [--date DAY]

Writes STEM.npz, which the classifier loads, and STEM.json, its card: the data, the seed, the figures, the date.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.head_fit import Dataset, cross_validated, fit_head
from lab.metrics import accuracy, bootstrap, expected_calibration_error, log_loss
from services.classifier.encoder import Encoder
from services.classifier.head import parse_head, serialise_head
from services.classifier.heuristics import HEURISTICS_VERSION, TASK_TYPES, judge
from services.classifier.model import ModelError, load_verified, model_directory, sha256_of
from spillway.chat import Message, Role
from spillway.routing import Complexity

__all__ = ["load_examples"]

ROOT = Path(__file__).parent.parent
DATA = ROOT / "services" / "classifier" / "data"
COMPLEXITY_ORDER = tuple(Complexity)
DATA_NOTE = (
    "Both files were written for this project by the same author, so expect less on real traffic. The heuristics' "
    "constants and keywords were set by hand with the examples in view, which flatters cross-validation. The held-out "
    "prompts were written after the heuristics were frozen; one thing changed after their figures were seen: lines of "
    "program text no longer count as words of the question."
)


def load_examples(path: Path, encoder: Encoder) -> Dataset:
    """Reads JSON lines of text, task_type and complexity, embeds them and asks the heuristics."""
    rows = [json.loads(line) for line in path.read_text().split("\n") if line.strip()]
    judgements = [judge((Message.of(Role.USER, row["text"]),), has_tools=False) for row in rows]
    # One by one: no row's vector depends on which rows it was padded with.
    vectors = np.concatenate([encoder.encode([row["text"]]) for row in rows]).astype(np.float64)
    return Dataset(
        vectors=vectors,
        complexity=np.asarray([COMPLEXITY_ORDER.index(Complexity(row["complexity"])) for row in rows]),
        task=np.asarray([[str(kind) for kind in TASK_TYPES].index(row["task_type"]) for row in rows]),
        heuristic_complexity=np.asarray([judgement.probabilities for judgement in judgements]),
        heuristic_task=np.asarray([judgement.task_probabilities for judgement in judgements]),
    )


def _figures(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], seed: int) -> dict[str, object]:
    named = {"accuracy": accuracy, "ece": expected_calibration_error, "log_loss": log_loss}
    return {
        name: {
            key: round(value, 4) for key, value in asdict(bootstrap(figure, probabilities, labels, seed=seed)).items()
        }
        for name, figure in named.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Trains, reports on standard output, writes the two files."""
    parser = argparse.ArgumentParser(prog="python -m lab.train_head")
    parser.add_argument("--examples", type=Path, default=DATA / "examples.jsonl")
    parser.add_argument("--heldout", type=Path, default=ROOT / "lab" / "data" / "heldout.jsonl")
    parser.add_argument("--out", type=Path, default=DATA / "head-builtin-1")
    parser.add_argument("--version", default="builtin-1")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--date", default=dt.datetime.now(tz=dt.UTC).date().isoformat())
    options = parser.parse_args(arguments)
    try:
        encoder = Encoder(load_verified(model_directory(os.environ)), threads=1)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    data = load_examples(options.examples, encoder)
    heldout = load_examples(options.heldout, encoder)
    fitted = fit_head(data, version=options.version, embedding_model=encoder.model_id, seed=options.seed)
    artifact = serialise_head(fitted)
    # The figures are those of the head as it will be loaded, rounding included.
    head = parse_head(artifact)
    nested_complexity, nested_task = cross_validated(data, seed=options.seed)
    held_complexity, held_task, strangeness, _ = head.judge_many(
        heldout.vectors, heldout.heuristic_complexity, heldout.heuristic_task
    )
    card = {
        "version": options.version,
        "date": options.date,
        "seed": options.seed,
        "embedding_model": encoder.model_id,
        "heuristics": HEURISTICS_VERSION,
        "data": {
            "examples": {"file": options.examples.name, "rows": len(data), "sha256": sha256_of(options.examples)},
            "heldout": {"file": options.heldout.name, "rows": len(heldout), "sha256": sha256_of(options.heldout)},
            "note": DATA_NOTE,
        },
        "split": "nested cross-validation, 5 outer and 5 inner folds, stratified by task type and complexity",
        "fitted": {
            name: {"mix": mixture.mix, "blend": mixture.blend, "temperature": round(mixture.temperature, 4)}
            for name, mixture in (("complexity", head.complexity), ("task", head.task))
        },
        "figures": {
            "interval": "value with its 95 % percentile bootstrap interval over rows",
            "nested_cross_validation": {
                "complexity": _figures(nested_complexity, data.complexity, options.seed),
                "task_type": _figures(nested_task, data.task, options.seed),
            },
            "heldout": {
                "complexity": _figures(held_complexity, heldout.complexity, options.seed),
                "task_type": _figures(held_task, heldout.task, options.seed),
                "out_of_domain_mean": round(float(strangeness.mean()), 4),
            },
            "heldout_heuristics_alone": {
                "complexity": _figures(heldout.heuristic_complexity, heldout.complexity, options.seed),
                "task_type": _figures(heldout.heuristic_task, heldout.task, options.seed),
            },
        },
    }
    options.out.with_suffix(".npz").write_bytes(artifact)
    text = json.dumps(card, indent=2) + "\n"
    options.out.with_suffix(".json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
