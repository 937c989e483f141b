"""What the commands of the learned router have in common: their options, the configuration, the prompts' embeddings."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.embeddings import KeptVectors
from lab.router_data import RouterDataError, RouterRows, read_router_files
from lab.router_fit import ROWS_MIN
from lab.router_line import Wanted
from lab.router_outcomes import gains_of
from services.classifier.embedder import Embedder, EmbedderError
from services.classifier.embedding_source import EmbeddingSourceError, open_embedder
from services.classifier.head import Head, HeadError
from services.classifier.head_store import DEFAULT_DIRECTORY, HeadStore, HeadStoreError
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.sufficiency import SufficiencyModel
from services.classifier.tiers import Tiers
from services.runtime.config import ConfigError, load
from spillway.routing import Complexity
from spillway.settings import Settings

__all__ = [
    "InputError",
    "Inputs",
    "Vectors",
    "add_options",
    "builtin_head",
    "embed",
    "head_to_use",
    "load_head",
    "open_inputs",
    "remark",
    "usable",
]

Singles = npt.NDArray[np.float32]

# Texts of like length that are handed over at once, and how many such calls wait together: within the embedder's queue.
CALL_TEXTS = 128
CALLS = 4
TIERS_MAX = 16
VECTORS_DIRECTORY = ".vectors"


class InputError(Exception):
    """The command cannot do its work. The message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The configuration, the tiers to learn about, the ladder they are part of, and where the heads are.

    `followed`: whether services of this configuration follow that directory.
    """

    settings: Settings
    wanted: Wanted
    ladder: Tiers
    store: HeadStore
    followed: bool

    def read(self, files: Sequence[Path]) -> RouterRows:
        """The rows of the files. Raises InputError."""
        try:
            return read_router_files(files, self.wanted)
        except RouterDataError as error:
            raise InputError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings, the model that made them, and how long it took."""

    values: Singles
    model_id: str
    seconds: float


def remark(text: str) -> None:
    """A line for whoever waits, on standard error."""
    sys.stderr.write(f"{text}\n")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all commands have."""
    parser.add_argument("files", nargs="+", type=Path, help="decision logs or outcomes by tier, JSON lines or .gz")
    parser.add_argument("--config", type=Path, help="spillway.yaml; default: as every service finds it")
    parser.add_argument("--tiers", default="", help="cheapest first: A,B or, for runs of models, A=MODEL,B=MODEL")
    parser.add_argument("--heads-dir", type=Path, help="default: classifier.heads_dir, else .spillway/heads")
    parser.add_argument("--seed", type=int, default=1, help="of the split, the fit and the bootstrap")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def open_inputs(options: argparse.Namespace, *, outcomes: bool = True) -> Inputs:
    """What the options say. Raises InputError."""
    if not 0 <= options.seed < 2**63:
        raise InputError("--seed: a whole number from 0")
    try:
        settings = load(options.config).settings
    except ConfigError as error:
        raise InputError(str(error)) from error
    names, models = _tiers(options.tiers)
    whole = Tiers.of(settings)
    names = names or whole.names
    if set(names) <= set(whole.names):
        if list(names) != [name for name in whole.names if name in names]:
            raise InputError(f"--tiers: cheapest first, as in the configuration: {', '.join(whole.names)}")
        ladder = whole
    else:
        ladder = _ladder(names)
    configured = Path(settings.classifier.heads_dir).expanduser() if settings.classifier.heads_dir else None
    directory = options.heads_dir or configured or DEFAULT_DIRECTORY
    followed = configured is not None and configured.resolve() == directory.resolve()
    return Inputs(settings, Wanted(names, models, outcomes), ladder, HeadStore(directory), followed)


def _tiers(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    parts = [part.partition("=") for part in text.split(",")] if text else []
    names = tuple(name.strip() for name, _, _ in parts)
    models = {name.strip(): model.strip() for name, _, model in parts if model.strip()}
    if parts and (not all(names) or len(set(names)) < len(names) or not 2 <= len(names) <= TIERS_MAX):
        raise InputError("--tiers: two or more different names, e.g. simple,complex or simple=MODEL,complex=MODEL")
    if models and len(models) < len(names):
        raise InputError("--tiers: either every tier has a model, or none")
    return names, models


def _ladder(names: tuple[str, ...]) -> Tiers:
    """A ladder that no configuration has: complexities start at the tiers of their names, else spread over it."""
    last = len(names) - 1
    simple, medium, hard = (
        names.index(complexity.value) if complexity.value in names else place
        for complexity, place in zip(Complexity, (0, last // 2, last), strict=True)
    )
    return Tiers(names, (simple, medium, hard))


def usable(rows: RouterRows) -> tuple[tuple[str, ...], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The tiers of which enough is known to learn and to examine, with their columns of outcomes and costs.

    The dearest is always among them. Raises InputError when it is alone.
    """
    known = (~np.isnan(gains_of(rows.outcomes))).sum(axis=0)
    kept = [index for index, count in enumerate(known.tolist()) if count >= 2 * ROWS_MIN]
    for index, count in enumerate(known.tolist()):
        if count < 2 * ROWS_MIN:
            remark(f"tier {rows.tiers[index]}: {count} outcomes, {2 * ROWS_MIN} are needed; it is left out")
    if not kept:
        raise InputError("no tier but the dearest has enough outcomes")
    kept.append(len(rows.tiers) - 1)
    return tuple(rows.tiers[index] for index in kept), rows.outcomes[:, kept], rows.costs[kept]


def embed(inputs: Inputs, texts: Sequence[str]) -> Vectors:
    """Unit vectors of all texts by the embedding model of the configuration, in their order. Raises InputError.

    They are kept beside the heads, so that a log that has grown costs what is new in it.
    """
    started_s = time.monotonic()
    try:
        values, model_id = asyncio.run(_embed(inputs.settings, texts, inputs.store.directory / VECTORS_DIRECTORY))
    except (EmbeddingSourceError, EmbedderError) as error:
        raise InputError(f"the prompts cannot be embedded: {error}") from error
    return Vectors(values, model_id, time.monotonic() - started_s)


async def _embed(settings: Settings, texts: Sequence[str], directory: Path) -> tuple[Singles, str]:
    embedder = await open_embedder(settings.classifier)
    try:
        kept = KeptVectors(directory, embedder.model_id)
        result, known = kept.find(texts, embedder.dimensions)
        order = sorted(np.flatnonzero(~known).tolist(), key=lambda index: len(texts[index]))
        calls = iter([order[at : at + CALL_TEXTS] for at in range(0, len(order), CALL_TEXTS)])
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS):
                group.create_task(_fill(embedder, calls, texts, result))
        if order:
            _keep(kept, texts, result)
        return result, embedder.model_id
    except* EmbedderError as errors:
        raise EmbedderError(str(errors.exceptions[0])) from None
    finally:
        await embedder.close()


def _keep(kept: KeptVectors, texts: Sequence[str], vectors: Singles) -> None:
    try:
        kept.keep(texts, vectors)
    except OSError as error:
        remark(f"the prompts' vectors are not kept: {error.filename}: {error.strerror}")


async def _fill(embedder: Embedder, calls: Iterator[list[int]], texts: Sequence[str], result: Singles) -> None:
    for call in calls:
        result[call] = await embedder.embed([texts[index] for index in call])


def builtin_head(model_id: str) -> Head | None:
    """The built-in head, if it is of this embedding model."""
    try:
        head = open_head(BUILTIN_HEAD)
    except HeadError:
        return None
    return head if head.embedding_model == model_id else None


def load_head(store: HeadStore, version: str, model_id: str) -> SufficiencyModel:
    """A trained head that takes this model's vectors. Raises InputError."""
    try:
        model = store.load(version)
    except HeadStoreError as error:
        raise InputError(str(error)) from error
    if model.embedding_model != model_id:
        raise InputError(f"head {version} was trained on {model.embedding_model}, and the prompts are of {model_id}")
    return model


def head_to_use(store: HeadStore, named: str = "") -> str:
    """The version that is named, else the one in use; "builtin" for none. Raises InputError."""
    try:
        return named or store.current()
    except HeadStoreError as error:
        raise InputError(str(error)) from error
