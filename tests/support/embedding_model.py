"""Embedding models for tests: the real one, built once on this machine, and small exports written on the spot."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from services.classifier.encoder import Encoder
from services.classifier.model import load_verified, model_directory
from services.classifier.model_build import build

__all__ = ["EXPORT_DIMENSIONS", "export_table", "export_vocabulary", "real_encoder", "write_export"]

EXPORT_DIMENSIONS = 48
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@cache
def real_encoder() -> Encoder:
    """The loaded model; built first if it is not there yet."""
    directory = model_directory(os.environ)
    build(directory)
    return Encoder(load_verified(directory), threads=1)


def export_vocabulary() -> dict[str, int]:
    """Of an export: special tokens, common words, letters."""
    words = ["password", "reset", "my", "how", "do", "can", "poem", "autumn", "sea", "about", "the"]
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *pieces])}


def export_table() -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vector of each token."""
    size = (len(export_vocabulary()), EXPORT_DIMENSIONS)
    return np.random.default_rng(7).normal(size=size).astype(np.float32)


def write_export(
    directory: Path,
    *,
    graph: str = "onnx/model.onnx",
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    integers: int = TensorProto.INT64,
    output: str = "last_hidden_state",
    pooling: dict[str, Any] | None = None,
    special: bool = True,
    **files: dict[str, Any],
) -> None:
    """A sentence-transformer's export whose token vectors are `export_table`'s rows.

    `files` are further JSON files, "__" for "/". With the output "sentence_embedding" the graph sums the tokens itself.
    """
    path = directory / graph
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens"], axis=0)]
    rank3 = output != "sentence_embedding"
    if rank3:
        nodes.append(helper.make_node("Identity", ["tokens"], [output]))
    else:
        nodes.append(helper.make_node("ReduceSum", ["tokens", "axis"], [output], keepdims=0))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info(name, integers, ["batch", "tokens"]) for name in inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *(["tokens"] if rank3 else []), None])],
            [
                numpy_helper.from_array(export_table(), "table"),
                numpy_helper.from_array(np.asarray([1], dtype=np.int64), "axis"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)
    tokenizer = Tokenizer(WordPiece(vocab=export_vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    if special:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    # Exports often ask for padding to a fixed length and truncation: both are done elsewhere.
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"1_Pooling/config.json": pooling or {"pooling_mode_mean_tokens": True}}
    for name, value in {**{name.replace("__", "/"): value for name, value in files.items()}, **config}.items():
        target = directory / f"{name.removesuffix('.json')}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value), encoding="utf-8")
