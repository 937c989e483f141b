"""The real embedding model, built once on this machine and shared by the tests that need it."""

from __future__ import annotations

import os
from functools import cache

from services.classifier.encoder import Encoder
from services.classifier.model import load_verified, model_directory
from services.classifier.model_build import build

__all__ = ["real_encoder"]


@cache
def real_encoder() -> Encoder:
    """The loaded model; built first if it is not there yet."""
    directory = model_directory(os.environ)
    build(directory)
    return Encoder(load_verified(directory), threads=1)
