"""The classifier process: `python -m services.classifier --config FILE --listen HOST:PORT`.

The model and the trained head in use are loaded, the model built first if need be, while health still says NOT_SERVING.
Without them the service serves all the same, by heuristics or the built-in head alone, and says so once in the log.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from opentelemetry import metrics

from services.classifier.complexity import Classifier
from services.classifier.embedding_source import EmbeddingSourceError, open_embedder
from services.classifier.grpc_small_llm import GrpcAsker
from services.classifier.head import Head, HeadError
from services.classifier.head_follower import HeadFollower
from services.classifier.head_store import HeadStore
from services.classifier.memory import ClusterMemory
from services.classifier.memory_keeper import MemoryKeeper
from services.classifier.metrics import ClassifierMetrics
from services.classifier.servicer import ClassifierServicer
from services.classifier.small_llm_layer import SmallLlmLayer
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.tiers import Tiers
from services.runtime.channel import open_channel
from services.runtime.clock import Clock, SystemClock
from services.runtime.config import Loaded
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.server import Service
from services.runtime.tls import Certificates, open_certificates
from spillway.settings import Classifier as ClassifierSettings
from spillway.settings import Settings, SmallLlm
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


def _memory(settings: Settings) -> ClusterMemory | None:
    options = settings.classifier.memory
    if not options.enabled:
        return None
    return ClusterMemory(
        [tier.name for tier in settings.tiers],
        half_life_s=options.half_life_s,
        evidence_min=options.evidence_min,
        prior_weight=options.prior_weight,
    )


def _keeper(memory: ClusterMemory | None, settings: ClassifierSettings, clock: Clock) -> MemoryKeeper | None:
    if memory is None or not settings.memory.file:
        return None
    return MemoryKeeper(memory, Path(settings.memory.file).expanduser(), clock)


class _SmallLlms:
    """The layer of each configuration, over one channel, which is opened when the first of them needs it."""

    def __init__(self, clock: Clock, certificates: Certificates | None) -> None:
        self._clock = clock
        self._certificates = certificates
        self._channel: grpc.aio.Channel | None = None
        self._made_of: tuple[str, SmallLlm] | None = None
        self._layer: SmallLlmLayer | None = None

    def of(self, settings: Settings) -> SmallLlmLayer | None:
        """None where no model is asked. The one before, with what it has counted, where nothing has changed."""
        options = settings.classifier.small_llm
        if not options.target:
            return None
        tier = next(tier.name for tier in settings.tiers if any(one.name == options.target for one in tier.targets))
        if self._made_of != (tier, options):
            if self._channel is None:
                self._channel = open_channel(
                    settings.services.executor.target,
                    service_name="spillway.v1.ExecutorService",
                    message_bytes_max=settings.limits.message_bytes_max,
                    certificates=self._certificates,
                    server_name=settings.services.executor.server_name,
                )
            self._made_of = (tier, options)
            self._layer = SmallLlmLayer(
                GrpcAsker(self._channel, tier=tier, target=options.target),
                self._clock,
                confidence_max=options.confidence_max,
                share_max=options.share_max,
                timeout_s=options.timeout_s,
            )
        return self._layer

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    settings = loaded.settings.classifier
    clock = SystemClock()
    memory = _memory(loaded.settings)
    certificates = open_certificates(loaded.settings.tls, "classifier")
    small_llms = _SmallLlms(clock, certificates)
    classifier = Classifier(
        heuristics_confidence_min=settings.heuristics_confidence_min,
        tiers=Tiers.of(loaded.settings),
        memory=memory,
        small_llm=small_llms.of(loaded.settings),
        clock=clock,
    )
    counts = ClassifierMetrics(
        metrics.get_meter("spillway.classifier"),
        (tier.name for tier in loaded.settings.tiers),
        queued=lambda: classifier.embedder.queued if classifier.embedder is not None else 0,
        remembered=lambda: memory.clusters if memory is not None else 0,
    )
    servicer = ClassifierServicer(
        classifier, memory=memory, metrics=counts, clock=clock, deadline_s=loaded.settings.orchestrator.deadline_s
    )
    follower = _follower(classifier, settings)
    keeper = _keeper(memory, settings, clock)

    async def warm() -> None:
        if keeper is not None:
            await keeper.load()
        if settings.embedding:
            await _attach_model(classifier, settings)
        if follower is not None:
            await follower.look()
            follower.start()
        if keeper is not None:
            keeper.start()

    async def reconfigure(changed: Loaded) -> None:
        tiers = Tiers.of(changed.settings)
        classifier.reconfigure(
            heuristics_confidence_min=changed.settings.classifier.heuristics_confidence_min,
            tiers=tiers,
            small_llm=small_llms.of(changed.settings),
        )
        counts.follow(tiers.names)
        if follower is not None:
            await follower.look(again=True)

    async def close() -> None:
        # What goes wrong with one leaves the rest to be closed; last in, first out.
        async with AsyncExitStack() as stack:
            if classifier.embedder is not None:
                stack.push_async_callback(classifier.embedder.close)
            stack.push_async_callback(small_llms.close)
            if keeper is not None:
                stack.push_async_callback(keeper.close)
            if follower is not None:
                stack.push_async_callback(follower.close)

    return Service(
        name="classifier",
        register=lambda server: add_ClassifierServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.ClassifierService",),
        warm=warm,
        close=close,
        reconfigure=reconfigure,
        certificates=certificates,
    )


if __name__ == "__main__":
    run("classifier", build)
