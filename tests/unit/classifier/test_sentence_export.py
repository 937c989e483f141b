"""Exports of other sentence-transformers: found, read, pooled, named, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from services.classifier.encoder import Encoder, characters_max
from services.classifier.model import ModelCorruptError, ModelMissingError
from services.classifier.sentence_export import TOKENS_CEILING, open_export
from tests.support.embedding_model import EXPORT_DIMENSIONS, export_table, export_vocabulary, write_export

CLS, SEP = 2, 3


def rows(*tokens: int | str) -> npt.NDArray[np.float32]:
    vocabulary = export_vocabulary()
    return export_table()[[token if isinstance(token, int) else vocabulary[token] for token in tokens]]


def unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def opened(directory: Path, **export: Any) -> Encoder:
    write_export(directory, **export)
    return Encoder(open_export(directory), threads=1)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, rows(CLS, "reset", "password", SEP).mean(axis=0)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, rows(CLS)[0]),
        ({"pooling_mode_lasttoken": True}, rows(SEP)[0]),
        ({"pooling_mode": "lasttoken", "word_embedding_dimension": 48}, rows(SEP)[0]),
        ({}, rows(CLS, "reset", "password", SEP).mean(axis=0)),
    ],
)
def test_tokens_are_pooled_as_the_export_says_alone_and_beside_a_longer_text(
    tmp_path: Path, pooling: dict[str, Any], expected: npt.NDArray[np.float32]
) -> None:
    encoder = opened(tmp_path, pooling=pooling)
    alone = encoder.encode(["reset password"])[0]
    padded = encoder.encode(["reset password", "a poem about the autumn sea"])[0]
    assert encoder.dimensions == EXPORT_DIMENSIONS
    assert np.allclose(alone, unit(expected), atol=1e-6)
    assert np.allclose(padded, unit(expected), atol=1e-6)


@pytest.mark.parametrize("graph", ["model.onnx", "onnx/model.onnx"])
@pytest.mark.parametrize("inputs", [["input_ids"], ["input_ids", "attention_mask", "position_ids"]])
@pytest.mark.parametrize("integers", [TensorProto.INT64, TensorProto.INT32])
def test_a_graph_is_given_what_it_asks_for(tmp_path: Path, graph: str, inputs: list[str], integers: int) -> None:
    encoder = opened(tmp_path, graph=graph, inputs=inputs, integers=integers)
    assert np.allclose(encoder.encode(["sea"])[0], unit(rows(CLS, "sea", SEP).mean(axis=0)), atol=1e-6)


def test_a_graph_that_pools_itself_is_taken_at_its_word_and_made_unit_length(tmp_path: Path) -> None:
    encoder = opened(tmp_path, output="sentence_embedding", pooling={"pooling_mode_cls_token": True})
    assert np.allclose(encoder.encode(["sea"])[0], unit(rows(CLS, "sea", SEP).sum(axis=0)), atol=1e-6)


def test_a_tokenizer_without_special_tokens_gives_the_empty_text_a_vector(tmp_path: Path) -> None:
    encoder = opened(tmp_path, special=False)
    empty, sea = encoder.encode(["", "sea"])
    assert np.allclose(np.linalg.norm(empty), 1.0, atol=1e-6)
    assert np.allclose(sea, unit(rows("sea")[0]), atol=1e-6)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, TOKENS_CEILING),
        ({"sentence_bert_config": {"max_seq_length": 12}}, 12),
        ({"config": {"max_position_embeddings": 20, "model_type": "bert"}}, 20),
        ({"config": {"max_position_embeddings": 130, "model_type": "xlm-roberta"}}, 128),
        ({"tokenizer_config": {"model_max_length": 10**30}}, TOKENS_CEILING),
        ({"sentence_bert_config": {"max_seq_length": 8_192}}, TOKENS_CEILING),
        ({"sentence_bert_config": {"max_seq_length": -3}}, 8),
        ({"sentence_bert_config": {"max_seq_length": None}}, TOKENS_CEILING),
    ],
)
def test_the_most_tokens_are_the_least_of_what_the_files_say(
    tmp_path: Path, files: dict[str, dict[str, Any]], expected: int
) -> None:
    export: dict[str, Any] = files
    write_export(tmp_path, **export)
    assert open_export(tmp_path).tokens_max == expected


def test_a_long_text_keeps_its_head_and_tail_and_its_special_tokens(tmp_path: Path) -> None:
    encoder = opened(tmp_path, sentence_bert_config={"max_seq_length": 8})
    text = "sea " * 5 + "poem " * 20 + "password " * 5
    found = encoder.encode([text])[0]
    assert np.allclose(found, unit(rows(CLS, *["sea"] * 4, *["password"] * 2, SEP).mean(axis=0)), atol=1e-6)
    assert len(encoder.cut("x" * 1_000_000)) == characters_max(8)


def test_the_id_is_the_name_and_changes_with_every_file_that_decides_the_vectors(tmp_path: Path) -> None:
    write_export(tmp_path / "a", config={"_name_or_path": "someone/small model"})
    write_export(tmp_path / "b", config={"_name_or_path": "someone/small model"})
    write_export(tmp_path / "c", config={"_name_or_path": "someone/small model"}, special=False)
    write_export(
        tmp_path / "d", config={"_name_or_path": "someone/small model"}, pooling={"pooling_mode_cls_token": True}
    )
    write_export(tmp_path / "e")
    ids = [open_export(tmp_path / name).model_id for name in "abcde"]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert all(name.startswith("small-model/") for name in ids[:4])
    assert ids[4].startswith("e/")
    (tmp_path / "b" / "onnx" / "model.onnx_data").write_bytes(b"weights")
    assert open_export(tmp_path / "b").model_id != ids[0]


@pytest.mark.parametrize("missing", ["onnx/model.onnx", "tokenizer.json"])
def test_a_directory_without_graph_or_tokenizer_is_no_export(tmp_path: Path, missing: str) -> None:
    write_export(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ModelMissingError):
        open_export(tmp_path)


@pytest.mark.parametrize(
    "pooling",
    [{"pooling_mode_max_tokens": True}, {"pooling_mode": "weightedmean"}, {f"pooling_mode_{n}": True for n in "ab"}],
)
def test_a_pooling_that_is_not_done_here_is_refused(tmp_path: Path, pooling: dict[str, Any]) -> None:
    write_export(tmp_path, pooling=pooling)
    with pytest.raises(ModelCorruptError, match="pooling"):
        open_export(tmp_path)


@pytest.mark.parametrize("inputs", [["input_ids", "pixel_values"], ["attention_mask"]])
def test_a_graph_that_is_no_text_encoder_is_refused(tmp_path: Path, inputs: list[str]) -> None:
    write_export(tmp_path, inputs=inputs)
    files = open_export(tmp_path)
    with pytest.raises(ModelCorruptError):
        Encoder(files, threads=1)


@pytest.mark.parametrize("content", [b"not json", b"[]", b"[" * 100_000, b"\xff", b'"' + b"x" * 70_000 + b'"'])
def test_a_broken_configuration_is_refused_and_names_its_file(tmp_path: Path, content: bytes) -> None:
    write_export(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelCorruptError, match=r"config\.json"):
        open_export(tmp_path)


def test_a_long_configuration_of_the_tokenizer_is_no_obstacle(tmp_path: Path) -> None:
    write_export(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added": "x" * 100_000}), encoding="utf-8")
    assert open_export(tmp_path).tokens_max == TOKENS_CEILING
