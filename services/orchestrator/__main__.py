"""The orchestrator process: `python -m services.orchestrator --config FILE --listen HOST:PORT`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
from opentelemetry import metrics

from services.orchestrator.background import Background
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.grpc_executor import GrpcExecutor
from services.orchestrator.grpc_hops import GrpcCache, GrpcClassifier
from services.orchestrator.metrics import RequestMetrics
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.servicer import OrchestratorServicer
from services.runtime.channel import open_channel
from services.runtime.clock import SystemClock
from services.runtime.config import Loaded
from services.runtime.main import run
from services.runtime.server import Service
from spillway.settings import ServiceAddress
from spillway.v1.orchestrator_pb2_grpc import add_OrchestratorServiceServicer_to_server

# Before serving: how long to wait for an executor.
EXECUTOR_WAIT_S = 5.0
# After the last call: how long stores, then outcomes and then records may take to get away.
STORES_CLOSE_S = 3.0
OUTCOMES_CLOSE_S = 2.0
RECORDS_CLOSE_S = 3.0


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    settings = loaded.settings
    options = settings.orchestrator
    counts = RequestMetrics(metrics.get_meter("spillway.orchestrator"), (tier.name for tier in settings.tiers))

    def channel_to(address: ServiceAddress, service_name: str) -> grpc.aio.Channel:
        return open_channel(
            address.target, service_name=service_name, message_bytes_max=settings.limits.message_bytes_max
        )

    cache = channel_to(settings.services.cache, "spillway.v1.CacheService")
    classifier = channel_to(settings.services.classifier, "spillway.v1.ClassifierService")
    executor = channel_to(settings.services.executor, "spillway.v1.ExecutorService")
    background = Background(options.background_tasks_max, counts.dropped)
    decision_log = (
        DecisionLog(
            Path(options.decision_log),
            queued_max=options.background_tasks_max,
            on_drop=lambda count: counts.dropped("record", count),
        )
        if options.decision_log
        else None
    )
    pipeline = Pipeline(
        settings,
        config_version=loaded.version,
        cache=GrpcCache(cache),
        classifier=GrpcClassifier(classifier),
        executor=GrpcExecutor(executor),
        clock=SystemClock(),
        background=background,
        decision_log=decision_log,
        on_outcomes_lost=lambda count: counts.dropped("outcome", count),
        on_audit=counts.audited,
    )
    servicer = OrchestratorServicer(pipeline, counts)

    async def warm() -> None:
        for channel in (cache, classifier, executor):
            channel.get_state(try_to_connect=True)
        # Nothing can be answered without an executor. When all start together, a front that served at once would refuse
        # its first requests; one whose executors stay away serves all the same, and says so to each caller.
        with suppress(TimeoutError):
            await asyncio.wait_for(executor.channel_ready(), EXECUTOR_WAIT_S)

    async def close() -> None:
        await background.close(STORES_CLOSE_S)
        await pipeline.close(OUTCOMES_CLOSE_S)
        if decision_log is not None:
            await asyncio.to_thread(decision_log.close, RECORDS_CLOSE_S)
        for channel in (cache, classifier, executor):
            await channel.close()

    return Service(
        name="orchestrator",
        register=lambda server: add_OrchestratorServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.OrchestratorService",),
        warm=warm,
        draining=pipeline.stop_audits,
        close=close,
    )


if __name__ == "__main__":
    run("orchestrator", build)
