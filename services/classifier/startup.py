"""What the service loads when it starts: the embedding model, built first if need be, and the head.

Promises: blocking functions for a thread; a model that is returned has been checked against its reference vectors; what
cannot be loaded is a ModelError or HeadError whose text names the remedy.
"""

from __future__ import annotations

from pathlib import Path

from services.classifier.encoder import Encoder
from services.classifier.head import ARTIFACT_BYTES_MAX, Head, HeadError, parse_head
from services.classifier.model import (
    ModelCorruptError,
    ModelMissingError,
    build_model,
    check_reference,
    load_verified,
)

__all__ = ["BUILTIN_HEAD", "open_encoder", "open_head"]

BUILTIN_HEAD = Path(__file__).parent / "data" / "head-builtin-1.npz"


def open_encoder(directory: Path) -> Encoder:
    """The model in `directory`, built there first (two seconds) when it is missing or damaged. Raises ModelError."""
    try:
        files = load_verified(directory)
    except (ModelMissingError, ModelCorruptError):
        build_model(directory)
        files = load_verified(directory)
    # One core for one batch: several workers use several cores better than one batch does.
    encoder = Encoder(files, threads=1)
    check_reference(encoder.encode)
    return encoder


def open_head(path: Path) -> Head:
    """The head in `path`. Raises HeadError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(ARTIFACT_BYTES_MAX + 1)
    except OSError as error:
        message = f"the head {path.name} cannot be read"
        raise HeadError(message) from error
    try:
        return parse_head(data)
    except HeadError as error:
        message = f"the head {path.name} cannot be used: {error}"
        raise HeadError(message) from error
