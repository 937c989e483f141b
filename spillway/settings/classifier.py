"""The judge of prompts: its embedding, its heads, its memory, its small LLM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.settings.section import BaseUrl, Ratio, Seconds, Section, VariableName

__all__ = ["Classifier", "ClusterMemory", "EmbeddingEndpoint", "SmallLlm"]


class EmbeddingEndpoint(Section):
    """A server that speaks OpenAI's embeddings."""

    base_url: BaseUrl
    model: str = Field(min_length=1, max_length=200, description="The model's name at the server.")
    dimensions: int = Field(ge=1, le=8_192, description="Of its vectors; others are refused.")
    api_key_env: VariableName = Field("", description="The environment variable with the key; empty: no key.")
    api_key_file: str = Field("", description="The file that holds the key; wins over api_key_env.")
    timeout_s: Seconds = Field(0.5, description="For one call; what takes longer is judged by heuristics.")
    texts_max: int = Field(64, ge=1, le=2_048, description="Texts in one call, fewer where 131,072 numbers are less.")
    failures_max: int = Field(5, ge=1, le=1_000, description="After so many failures in a row it is left alone.")
    open_s: Seconds = Field(5.0, description="For so long; then one call tries it again.")


class ClusterMemory(Section):
    """What became of prompts like this one, cluster by cluster."""

    enabled: bool = True
    file: str = Field("", description="Where it is kept over restarts; empty means nowhere.")
    half_life_s: float = Field(604_800.0, gt=0, le=31_536_000, description="After so long an outcome counts half.")
    evidence_min: float = Field(20.0, ge=1, le=1e6, description="With fewer outcomes a cluster says nothing.")
    prior_weight: float = Field(20.0, ge=1, le=1e6, description="The head's own estimate counts as so many outcomes.")


class SmallLlm(Section):
    """A model that judges what the embedding layer is unsure of."""

    target: str = Field("", description="A target of the ladder; empty means that no model is asked.")
    confidence_max: Ratio = Field(0.55, description="Only judgements of less confidence are given to it.")
    share_max: Ratio = Field(0.1, description="Share of all prompts that may be given to it.")
    timeout_s: Seconds = Field(2.0, description="What takes longer stays as it was judged.")


class Classifier(Section):
    """The judge of prompts."""

    embedding: bool = Field(True, description="False: heuristics alone.")
    embedding_provider: Literal["builtin", "onnx", "endpoint"] = Field(
        "builtin", description="all-MiniLM-L6-v2 on this machine, another ONNX export in model_dir, or an endpoint."
    )
    embedding_endpoint: EmbeddingEndpoint | None = None
    model_dir: str = Field("", description="Default: $SPILLWAY_MODEL_DIR, or ~/.cache/spillway/all-MiniLM-L6-v2.")
    threads: int | None = Field(None, ge=1, le=256, description="Inference threads. Default: the CPUs it may use.")
    heuristics_confidence_min: Ratio = Field(0.9, description="At or above it the embedding layer is not asked.")
    heads_dir: str = Field("", description="Where `spillway train` puts heads; the current one is followed live.")
    memory: ClusterMemory = ClusterMemory()
    small_llm: SmallLlm = SmallLlm()
