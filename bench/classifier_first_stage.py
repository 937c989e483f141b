"""What a cheaper embedding would cost in decisions: int8 weights, and static token vectors as a first stage.

    python -m bench.classifier_first_stage [--json FILE]

Fits the built-in head's form to each embedding of the labelled examples and reports on the held-out prompts, which
neither the heads nor the thresholds have seen. A threshold of the first stage is the least confidence at which, in
cross-validation on the examples, the prompts above it are decided as well as the transformer's head decides them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from tokenizers import Tokenizer

from lab.head_fit import Dataset, cross_validated, fit_head
from lab.train_head import DATA, ROOT, load_examples
from services.classifier.encoder import Encoder, cut_text, cut_tokens
from services.classifier.model import ModelFiles, load_verified, model_directory

SEED: Final = 20_261
BOOTSTRAPS: Final = 2_000
STATIC_DIMENSIONS: Final = 256
ZIPF_SHIFT: Final = 2.7
SIF: Final = 1e-3
TOKENS_AT_ONCE: Final = 512

Floats = npt.NDArray[np.float64]
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


class StaticEncoder:
    """The mean of token vectors: the transformer's vector of each token alone, weighted by its rank (Zipf, SIF)."""

    def __init__(self, files: ModelFiles, encoder: Encoder) -> None:
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        size = self._tokenizer.get_vocab_size()
        session = encoder._session  # noqa: SLF001 - ids without a text
        rows = []
        for start in range(0, size, TOKENS_AT_ONCE):
            ids = np.arange(start, min(size, start + TOKENS_AT_ONCE), dtype=np.int64)
            padded = np.stack([np.full_like(ids, 101), ids, np.full_like(ids, 102)], axis=1)
            (vectors,) = session.run(["embedding"], {"input_ids": padded, "attention_mask": np.ones_like(padded)})
            rows.append(vectors)
        table = np.concatenate(rows).astype(np.float64)
        # BERT's vocabulary is in order of frequency.
        zipf = 1.0 / (np.arange(size) + ZIPF_SHIFT)
        weights = SIF / (SIF + zipf / zipf.sum())
        centred = table - table.mean(axis=0)
        _, _, directions = np.linalg.svd(centred.T @ centred)
        self._table = ((centred @ directions[:STATIC_DIMENSIONS].T) * weights[:, None]).astype(np.float32)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        result = np.zeros((len(texts), STATIC_DIMENSIONS), dtype=np.float32)
        for index, text in enumerate(texts):
            ids = list(cut_tokens(self._tokenizer.encode(cut_text(text)).ids))[1:-1]
            vector = self._table[ids].sum(axis=0) if ids else np.ones(STATIC_DIMENSIONS, dtype=np.float32)
            result[index] = vector / max(float(np.linalg.norm(vector)), 1e-9)
        return result


def int8_encoder(files: ModelFiles, folder: Path, *, per_channel: bool) -> Encoder:
    """Dynamic quantisation by onnxruntime: weights once, activations at each call."""
    # By name, once the encoder's module has told onnxruntime to report nothing to its makers.
    quantization = importlib.import_module("onnxruntime.quantization")
    path = folder / f"int8-{per_channel}.onnx"
    int8 = quantization.QuantType.QInt8
    quantization.quantize_dynamic(onnx.load(files.onnx), path, weight_type=int8, per_channel=per_channel)
    return Encoder(replace(files, onnx=path), threads=1)


def with_vectors(data: Dataset, vectors: npt.NDArray[np.float32]) -> Dataset:
    return replace(data, vectors=vectors.astype(np.float64))


def accuracy(probabilities: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """With its 95 % bootstrap interval."""
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    draws = np.random.default_rng(SEED).choice(right, (BOOTSTRAPS, len(right))).mean(axis=1)
    return float(right.mean()), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def threshold(cheap: tuple[Floats, Floats], dear: tuple[Floats, Floats], data: Dataset) -> float:
    """The least confidence above which the cheap head is right (both questions) as often as the dear one there."""

    def right(found: tuple[Floats, Floats]) -> npt.NDArray[np.bool_]:
        both: npt.NDArray[np.bool_] = (found[0].argmax(axis=1) == data.complexity) & (
            found[1].argmax(axis=1) == data.task
        )
        return both

    confidence = np.minimum(cheap[0].max(axis=1), cheap[1].max(axis=1))
    ours, theirs = right(cheap), right(dear)
    for candidate in np.sort(np.unique(confidence)):
        chosen = confidence >= candidate
        if ours[chosen].mean() >= theirs[chosen].mean():
            return float(candidate)
    return 2.0


def cpu_us(encode: Encode, texts: Sequence[str]) -> float:
    for text in texts[:10]:
        encode([text])
    began = time.process_time()
    for text in texts:
        encode([text])
    return (time.process_time() - began) / len(texts) * 1e6


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files = load_verified(model_directory(os.environ))
    encoder = Encoder(files, threads=1)
    train_path, held_path = DATA / "examples.jsonl", ROOT / "lab" / "data" / "heldout.jsonl"
    train, held = load_examples(train_path, encoder), load_examples(held_path, encoder)
    texts = {
        path: [json.loads(line)["text"] for line in path.read_text().splitlines() if line.strip()]
        for path in (train_path, held_path)
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        static = StaticEncoder(files, encoder)
        ways: dict[str, Encode] = {
            "fp32": encoder.encode,
            "int8 per channel": int8_encoder(files, Path(folder), per_channel=True).encode,
            "int8 per tensor": int8_encoder(files, Path(folder), per_channel=False).encode,
            "static": static.encode,
        }
        found: dict[str, tuple[Floats, ...]] = {}
        crossed: dict[str, tuple[Floats, Floats]] = {}
        for name, encode in ways.items():
            here = with_vectors(train, np.concatenate([encode([text]) for text in texts[train_path]]))
            there = with_vectors(held, np.concatenate([encode([text]) for text in texts[held_path]]))
            head = fit_head(here, version="trial", embedding_model=name, seed=SEED)
            found[name] = head.judge_many(there.vectors, there.heuristic_complexity, there.heuristic_task)
            if name in ("fp32", "static"):
                crossed[name] = cross_validated(here, seed=SEED)
            reference = found["fp32"]
            rows.append(
                {
                    "way": name,
                    "cpu_us": cpu_us(encode, texts[held_path]),
                    "cosine_min": float((there.vectors * held.vectors).sum(axis=1).min()) if name != "static" else None,
                    "complexity": accuracy(found[name][0], held.complexity),
                    "task": accuracy(found[name][1], held.task),
                    "agrees_complexity": float((found[name][0].argmax(1) == reference[0].argmax(1)).mean()),
                    "agrees_task": float((found[name][1].argmax(1) == reference[1].argmax(1)).mean()),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        rows.append(
            {
                "way": "heuristics",
                "complexity": accuracy(held.heuristic_complexity, held.complexity),
                "task": accuracy(held.heuristic_task, held.task),
            }
        )
        least = threshold(crossed["static"], crossed["fp32"], train)
        for limit in (least, 0.6, 0.7, 0.8, 0.9):
            sure = np.minimum(found["static"][0].max(1), found["static"][1].max(1)) >= limit
            both = [np.where(sure[:, None], found["static"][k], found["fp32"][k]) for k in (0, 1)]
            rows.append(
                {
                    "way": f"static at {limit:.2f}, else fp32" + (" (fitted)" if limit == least else ""),
                    "share_first_stage": float(sure.mean()),
                    "complexity": accuracy(both[0], held.complexity),
                    "task": accuracy(both[1], held.task),
                    "differs_where_sure": float(
                        np.mean(
                            (found["static"][0].argmax(1) != found["fp32"][0].argmax(1))[sure]
                            | (found["static"][1].argmax(1) != found["fp32"][1].argmax(1))[sure]
                        )
                    )
                    if sure.any()
                    else None,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
