"""The classifier process: `python -m services.classifier --config FILE --listen HOST:PORT`.

The model and the trained head in use are loaded, the model built first if need be, while health still says NOT_SERVING.
Without them the service serves all the same, by heuristics or the built-in head alone, and says so once in the log.
"""

from __future__ import annotations

import time
from pathlib import Path

from services.classifier.complexity import Classifier
from services.classifier.embedding_source import EmbeddingSourceError, open_embedder
from services.classifier.head import Head, HeadError
from services.classifier.head_follower import HeadFollower
from services.classifier.head_store import HeadStore
from services.classifier.servicer import ClassifierServicer
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.tiers import Tiers
from services.runtime.clock import SystemClock
from services.runtime.config import Loaded
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.server import Service
from spillway.settings import Classifier as ClassifierSettings
from spillway.v1.classifier_pb2_grpc import add_ClassifierServiceServicer_to_server

__all__ = ["build"]


async def _attach_model(classifier: Classifier, settings: ClassifierSettings) -> None:
    logger = get_logger(__name__)
    started_s = time.monotonic()
    try:
        embedder = await open_embedder(settings)
    except EmbeddingSourceError as error:
        # Its text names files and commands, never a prompt.
        logger.warning("embedding_model_unavailable", remedy=str(error), layer="heuristics")
        return
    head: Head | None = None
    try:
        head = open_head(BUILTIN_HEAD)
        classifier.attach(embedder, head)
    except HeadError as error:
        head = None
        classifier.attach(embedder, None)
        logger.warning("head_unavailable", remedy=str(error), layer="heuristics")
    logger.info(
        "embedding_model_loaded",
        model=embedder.model_id,
        head=head.version if head is not None else "",
        load_s=round(time.monotonic() - started_s, 3),
    )


def _follower(classifier: Classifier, settings: ClassifierSettings) -> HeadFollower | None:
    if not settings.embedding or not settings.heads_dir:
        return None
    return HeadFollower(HeadStore(Path(settings.heads_dir).expanduser()), classifier.use, SystemClock())


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    settings = loaded.settings.classifier
    classifier = Classifier(
        heuristics_confidence_min=settings.heuristics_confidence_min, tiers=Tiers.of(loaded.settings)
    )
    servicer = ClassifierServicer(classifier, deadline_s=loaded.settings.orchestrator.deadline_s)
    follower = _follower(classifier, settings)

    async def warm() -> None:
        if settings.embedding:
            await _attach_model(classifier, settings)
        if follower is not None:
            await follower.look()
            follower.start()

    async def close() -> None:
        if follower is not None:
            await follower.close()
        if classifier.embedder is not None:
            await classifier.embedder.close()

    return Service(
        name="classifier",
        register=lambda server: add_ClassifierServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.ClassifierService",),
        warm=warm,
        close=close,
    )


if __name__ == "__main__":
    run("classifier", build)
