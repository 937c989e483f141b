"""Writes the ONNX graph of all-MiniLM-L6-v2 from its safetensors, with numpy and onnx alone.

Promises: the graph takes `input_ids` and `attention_mask` (int64, [batch, tokens]) and gives `embedding`, unit float32
vectors [batch, 384]; mean pooling and normalisation are inside it. The same weights give the same bytes. A directory
shows either no manifest or the manifest of files that are complete: each file is renamed into place, the manifest
last, under a lock that a second builder waits for.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load_file

from services.classifier.model import (
    DIMENSIONS,
    MANIFEST_FILE,
    MODEL_ID,
    ONNX_FILE,
    TOKENIZER_FILE,
    ModelCorruptError,
    ModelError,
    load_verified,
    package_directory,
    sha256_of,
)

__all__ = ["build"]

# LayerNormalization is an operator since opset 17, Gelu since 20.
OPSET = 20
IR_VERSION = 10
# Added to the scores of padding before the softmax: exp() of it is exactly zero in float32.
MASKED_SCORE = -1e9

Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """The numbers of config.json that the graph depends on."""

    layers: int
    heads: int
    hidden: int
    layer_norm_eps: float


@dataclass(slots=True)
class _Graph:
    """Nodes and constants in the making; every method returns the name of its output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: npt.NDArray[np.generic]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.asarray(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.asarray(value, dtype=np.float32))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.add_many(operator, 1, *inputs, **attributes)[0]

    def add_many(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"n{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def linear(self, value: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> str:
        # torch keeps [out, in]; MatMul wants [in, out].
        return self.add("Add", self.add("MatMul", value, self.constant(weight.T)), self.constant(bias))

    def layer_norm(self, value: str, weights: Weights, prefix: str, epsilon: float) -> str:
        scale = self.constant(weights[f"{prefix}.weight"])
        bias = self.constant(weights[f"{prefix}.bias"])
        return self.add("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)


def _embeddings(graph: _Graph, weights: Weights, shape: _Shape) -> str:
    words = graph.add("Gather", graph.constant(weights["embeddings.word_embeddings.weight"]), "input_ids", axis=0)
    # Every token has type 0, so its vector is a constant part of the position's.
    types = weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant(weights["embeddings.position_embeddings.weight"] + types)
    tokens = graph.add("Gather", graph.add("Shape", "input_ids"), graph.integers(1), axis=0)
    used = graph.add("Slice", positions, graph.integers(0), tokens, graph.integers(0))
    return graph.layer_norm(graph.add("Add", words, used), weights, "embeddings.LayerNorm", shape.layer_norm_eps)


def _attention(graph: _Graph, weights: Weights, shape: _Shape, prefix: str, hidden: str, bias: str) -> str:
    head = shape.hidden // shape.heads
    parts = ("query", "key", "value")
    weight = np.concatenate([weights[f"{prefix}.self.{part}.weight"] for part in parts])
    offset = np.concatenate([weights[f"{prefix}.self.{part}.bias"] for part in parts])
    # The usual 1 / sqrt(head) of the scores is folded into the query.
    scale = np.float32(1.0 / np.sqrt(head))
    weight[: shape.hidden] *= scale
    offset[: shape.hidden] *= scale
    joined = graph.linear(hidden, weight, offset)
    split = graph.add_many("Split", 3, joined, axis=-1, num_outputs=3)
    by_head = graph.integers(0, 0, shape.heads, head)
    query, key, value = (graph.add("Reshape", part, by_head) for part in split)
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    scores = graph.add("Softmax", graph.add("Add", graph.add("MatMul", query, key), bias), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", mixed, graph.integers(0, 0, shape.hidden))
    out = graph.linear(flat, weights[f"{prefix}.output.dense.weight"], weights[f"{prefix}.output.dense.bias"])
    return graph.layer_norm(graph.add("Add", out, hidden), weights, f"{prefix}.output.LayerNorm", shape.layer_norm_eps)


def _layer(graph: _Graph, weights: Weights, shape: _Shape, index: int, hidden: str, bias: str) -> str:
    prefix = f"encoder.layer.{index}"
    attended = _attention(graph, weights, shape, f"{prefix}.attention", hidden, bias)
    inner = graph.linear(
        attended, weights[f"{prefix}.intermediate.dense.weight"], weights[f"{prefix}.intermediate.dense.bias"]
    )
    outer = graph.linear(
        graph.add("Gelu", inner, approximate="none"),
        weights[f"{prefix}.output.dense.weight"],
        weights[f"{prefix}.output.dense.bias"],
    )
    return graph.layer_norm(
        graph.add("Add", outer, attended), weights, f"{prefix}.output.LayerNorm", shape.layer_norm_eps
    )


def _graph_bytes(weights: Weights, shape: _Shape) -> bytes:
    graph = _Graph()
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    inverted = graph.add("Sub", graph.number(1.0), mask)
    bias = graph.add("Unsqueeze", graph.add("Mul", inverted, graph.number(MASKED_SCORE)), graph.integers(1, 2))
    hidden = _embeddings(graph, weights, shape)
    for index in range(shape.layers):
        hidden = _layer(graph, weights, shape, index, hidden, bias)
    weight = graph.add("Unsqueeze", mask, graph.integers(2))
    total = graph.add("ReduceSum", graph.add("Mul", hidden, weight), graph.integers(1), keepdims=0)
    count = graph.add("Max", graph.add("ReduceSum", weight, graph.integers(1), keepdims=0), graph.number(1e-9))
    mean = graph.add("Div", total, count)
    length = graph.add("Max", graph.add("ReduceL2", mean, graph.integers(1), keepdims=1), graph.number(1e-12))
    graph.nodes.append(helper.make_node("Div", [mean, length], ["embedding"]))
    axes = ["batch", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, axes),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.hidden])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="spillway",
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _read_package(folder: Path) -> tuple[Weights, _Shape]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        shape = _Shape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            layer_norm_eps=float(config["layer_norm_eps"]),
        )
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        message = f"the model package in {folder} is unreadable ({type(error).__name__}); reinstall it"
        raise ModelCorruptError(message) from error
    if shape.hidden != DIMENSIONS or config.get("hidden_act") != "gelu":
        message = f"the model package in {folder} holds another model than all-MiniLM-L6-v2; reinstall it"
        raise ModelCorruptError(message)
    return weights, shape


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        temporary = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def build(directory: Path, *, force: bool = False) -> bool:
    """Builds the model into `directory`, unless a valid one is there already and `force` is off.

    Returns whether it was built. Takes about two seconds and 300 MB of memory. Blocking; safe for several processes at
    once: the second waits for the first and finds its work done. Raises ModelError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            if not force:
                try:
                    load_verified(directory)
                except ModelError:
                    pass
                else:
                    return False
            folder = package_directory()
            weights, shape = _read_package(folder)
            # A reader must never see an old manifest beside new files.
            (directory / MANIFEST_FILE).unlink(missing_ok=True)
            _write(directory / ONNX_FILE, _graph_bytes(weights, shape))
            _write(directory / TOKENIZER_FILE, (folder / "tokenizer.json").read_bytes())
            manifest = {
                "model": MODEL_ID,
                "files": {name: sha256_of(directory / name) for name in (ONNX_FILE, TOKENIZER_FILE)},
                "weights_sha256": sha256_of(folder / "model.safetensors"),
            }
            _write(directory / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
            return True
    except OSError as error:
        message = f"cannot write the embedding model into {directory}: {error.strerror}"
        raise ModelError(message) from error
