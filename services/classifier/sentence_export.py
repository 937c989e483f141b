"""Any sentence-transformer's ONNX export: which files there are, how its vectors are made, what its space is called.

Promises: reads only small JSON files, of bounded size; what a directory lacks or asks for that is not done here is a
ModelError which says so. The model's id is its name and a hash of every file that decides its vectors, so that two
exports share an id only when they share their vectors.

A directory holds `model.onnx` or `onnx/model.onnx`, `tokenizer.json`, and may hold `config.json`,
`sentence_bert_config.json`, `tokenizer_config.json`, `1_Pooling/config.json`, as `optimum-cli export onnx` and the
model hubs lay them out.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from services.classifier.model import ModelCorruptError, ModelFiles, ModelMissingError, Pooling, sha256_of

__all__ = ["TOKENS_CEILING", "open_export"]

# A model that can read more is given less: a text of 512 tokens takes a base-sized model about half a second.
TOKENS_CEILING = 512
TOKENS_FLOOR = 8
JSON_BYTES_MAX = 65_536
NAME_CHARACTERS_MAX = 64
HASH_DIGITS = 12
GRAPHS = ("model.onnx", "onnx/model.onnx")
TOKENIZER = "tokenizer.json"
POOLING = "1_Pooling/config.json"
SETTINGS = ("config.json", "sentence_bert_config.json", "tokenizer_config.json", POOLING)
POOLINGS = {
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_lasttoken": Pooling.LAST,
}
# These models' positions start behind the padding's: two of those they have are never used.
OFFSET_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})


def open_export(directory: Path) -> ModelFiles:
    """What `directory` holds; the id hashes its files as they are now (about 0.5 s per GB). Raises ModelError."""
    graph = next((directory / name for name in GRAPHS if (directory / name).is_file()), None)
    tokenizer = directory / TOKENIZER
    if graph is None or not tokenizer.is_file():
        message = f"{directory} holds no model.onnx (or onnx/model.onnx) with a tokenizer.json"
        raise ModelMissingError(message)
    settings = {name: _read(directory / name) for name in SETTINGS}
    # Weights beyond 2 GB stand beside the graph: model.onnx_data, model.onnx.data.
    weights = sorted(path for path in graph.parent.glob("model.onnx?*") if path.is_file())
    decisive = [graph, *weights, tokenizer, *(directory / name for name in SETTINGS if settings[name])]
    try:
        whole = hashlib.sha256("\n".join(sha256_of(path) for path in decisive).encode())
    except OSError as error:
        message = f"{directory} cannot be read ({error.strerror})"
        raise ModelCorruptError(message) from error
    return ModelFiles(
        onnx=graph,
        tokenizer=tokenizer,
        model_id=f"{_name(directory, settings['config.json'])}/{whole.hexdigest()[:HASH_DIGITS]}",
        tokens_max=_tokens_max(settings),
        pooling=_pooling(settings[POOLING]),
    )


def _read(path: Path) -> dict[str, Any]:
    """The object in a file, empty when there is no file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(JSON_BYTES_MAX + 1)
        value = json.loads(data) if len(data) <= JSON_BYTES_MAX else None
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if path.name == "tokenizer_config.json":
            # Some list thousands of tokens there; it is only asked for a length.
            return {}
        message = f"{path} is not a JSON object of at most {JSON_BYTES_MAX} bytes"
        raise ModelCorruptError(message)
    return value


def _name(directory: Path, config: dict[str, Any]) -> str:
    """The name in the configuration, without its owner; else the directory's."""
    told = config.get("_name_or_path")
    name = (told if isinstance(told, str) else "").rstrip("/").rpartition("/")[2] or directory.resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:NAME_CHARACTERS_MAX] or "model"


def _pooling(config: dict[str, Any]) -> Pooling:
    """Mean unless the file says otherwise."""
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    told = config.get("pooling_mode")
    if isinstance(told, str):
        # As newer versions of sentence-transformers write it.
        chosen = [next((key for key, pooling in POOLINGS.items() if pooling == told), told)]
    if not chosen:
        return Pooling.MEAN
    if len(chosen) > 1 or chosen[0] not in POOLINGS:
        message = f"the pooling {' + '.join(sorted(chosen))} is not supported; mean, cls and lasttoken are"
        raise ModelCorruptError(message)
    return POOLINGS[chosen[0]]


def _tokens_max(settings: dict[str, dict[str, Any]]) -> int:
    """The least of what the files allow, within TOKENS_FLOOR and TOKENS_CEILING."""
    config = settings["config.json"]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in OFFSET_POSITIONS:
        positions -= 2
    told = (
        positions,
        settings["sentence_bert_config.json"].get("max_seq_length"),
        settings["tokenizer_config.json"].get("model_max_length"),
    )
    limits = [value for value in told if isinstance(value, int) and not isinstance(value, bool)]
    return max(TOKENS_FLOOR, min([TOKENS_CEILING, *limits]))
