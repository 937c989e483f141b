"""The classifier process: `python -m services.classifier --config FILE --listen HOST:PORT`.

The model is loaded, and built first if need be, while health still says NOT_SERVING. Without it the service serves all
the same, by heuristics alone, and says so once in the log.
"""

from __future__ import annotations

import time

from services.classifier.complexity import Classifier
from services.classifier.embedding_source import EmbeddingSourceError, open_embedder
from services.classifier.head import Head, HeadError
from services.classifier.servicer import ClassifierServicer
from services.classifier.startup import BUILTIN_HEAD, open_head
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


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    settings = loaded.settings.classifier
    classifier = Classifier(heuristics_confidence_min=settings.heuristics_confidence_min)
    servicer = ClassifierServicer(classifier, deadline_s=loaded.settings.orchestrator.deadline_s)

    async def warm() -> None:
        if settings.embedding:
            await _attach_model(classifier, settings)

    async def close() -> None:
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
