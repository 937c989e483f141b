"""The judge of prompts."""

from __future__ import annotations

from pydantic import Field

from spillway.settings.section import Ratio, Section

__all__ = ["Classifier"]


class Classifier(Section):
    """The judge of prompts."""

    model_dir: str = Field("", description="Default: $SPILLWAY_MODEL_DIR, or ~/.cache/spillway/all-MiniLM-L6-v2.")
    embedding: bool = Field(True, description="False: heuristics alone.")
    heuristics_confidence_min: Ratio = Field(0.9, description="At or above it the embedding layer is not asked.")
    threads: int = Field(1, ge=1, le=256, description="Inference threads.")
