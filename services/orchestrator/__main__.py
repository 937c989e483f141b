"""The orchestrator process: `python -m services.orchestrator --config FILE --listen HOST:PORT`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from opentelemetry import metrics

from services.orchestrator.background import Background
from services.orchestrator.canary.sample import Comparison
from services.orchestrator.canary.traffic_metrics import TrafficMetrics
from services.orchestrator.channels import Channels
from services.orchestrator.configured_parts import make_canary, make_guard, make_keys, make_sender, make_shared_state
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.doorkeeper import Doorkeeper
from services.orchestrator.feedback import FeedbackDesk
from services.orchestrator.grpc_executor import GrpcExecutor
from services.orchestrator.grpc_hops import GrpcCache, GrpcClassifier
from services.orchestrator.grpc_ledger import GrpcLedger
from services.orchestrator.job_records import JobRecords
from services.orchestrator.jobs.jobs import Jobs
from services.orchestrator.jobs.metrics import JobMetrics
from services.orchestrator.ledger_hop import QualityQuestion
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.metrics import RequestMetrics
from services.orchestrator.outcomes import OutcomeReporter
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.quality_feed import QualityFeed
from services.orchestrator.quotas.metrics import QuotaMetrics
from services.orchestrator.quotas.quotas import Quotas
from services.orchestrator.replays.idempotency import Replays
from services.orchestrator.requests import Requests
from services.orchestrator.servicer import OrchestratorServicer
from services.runtime.clock import SystemClock
from services.runtime.config import ConfigError, Loaded
from services.runtime.logs import get_logger
from services.runtime.main import run
from services.runtime.server import Service
from services.runtime.tls import open_certificates
from spillway.configuration.document import Problem
from spillway.settings import Settings
from spillway.v1.orchestrator_pb2_grpc import add_OrchestratorServiceServicer_to_server

# Before serving: how long to wait for an executor.
EXECUTOR_WAIT_S = 5.0
# And for what the ledger has measured, where the policy goes by it.
QUALITY_WAIT_S = 2.0
# After the last call: how long each of these may take to get away.
STORES_CLOSE_S = 3.0
CANARY_CLOSE_S = 1.0
OUTCOMES_CLOSE_S = 2.0
QUOTAS_CLOSE_S = 2.0
RECORDS_CLOSE_S = 3.0
# Of grades, where nothing is cost-aware: they are for people then.
QUALITY_DAYS = 30
_DAY_S = 86_400.0

_log = get_logger(__name__)


async def build(loaded: Loaded) -> Service:  # noqa: PLR0915 - one line for each part
    """The composition root."""
    settings = loaded.settings
    options = settings.orchestrator
    clock, meter = SystemClock(), metrics.get_meter("spillway.orchestrator")
    counts = RequestMetrics(meter, (tier.name for tier in settings.tiers))
    certificates = open_certificates(settings.tls, "orchestrator")
    channels = Channels.to(settings, certificates)
    shared = make_shared_state(loaded, clock)
    background = Background(options.background_tasks_max, counts.dropped)
    cache, classifier = GrpcCache(channels.cache), GrpcClassifier(channels.classifier)
    executor, ledger = GrpcExecutor(channels.executor), GrpcLedger(channels.ledger)
    is_recorded = settings.ledger.enabled
    reporter = (
        LedgerReporter(ledger, clock, queued_max=settings.ledger.queued_max, on_drop=counts.dropped)
        if is_recorded
        else None
    )
    feed = QualityFeed(ledger, clock, _quality_question(settings)) if is_recorded else None
    traffic = TrafficMetrics(meter, (tier.name for tier in settings.tiers))
    outcomes = OutcomeReporter(classifier, clock, on_drop=lambda count: counts.dropped("outcome", count))
    quota_metrics = QuotaMetrics(meter)
    doorkeeper = Doorkeeper(make_keys(loaded, clock, quota_metrics))
    quotas = Quotas(settings.quotas, shared.books, clock, run_s_max=options.deadline_s, metrics=quota_metrics)
    canary = make_canary(
        settings,
        meter,
        executor,
        shared.drift,
        clock,
        quotas,
        reporter,
        outcomes.offer,
    )
    waiting = {
        "background": lambda: background.under_way,
        "outcome": lambda: outcomes.queued,
        "canary": lambda: canary.waiting + canary.under_way,
    }
    if reporter is not None:
        waiting |= {
            "ledger_record": lambda: reporter.records.queued,
            "ledger_grade": lambda: reporter.grades.queued,
        }
    counts.watch(waiting)
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
        cache=cache,
        classifier=classifier,
        executor=executor,
        clock=clock,
        background=background,
        decision_log=decision_log,
        users=shared.users,
        quotas=quotas,
        reporter=reporter,
        canary=canary,
        qualities=lambda: feed.table if feed is not None else None,
        outcomes=outcomes,
        on_audit=counts.audited,
        on_answer=traffic.observe,
    )
    job_metrics = JobMetrics(meter)
    replays = Replays(shared.replays, window_s=options.idempotency_window_s, clock=clock, on_event=job_metrics.replay)
    requests = Requests(pipeline, quotas=quotas, replays=replays, clock=clock, on_answer=counts.ended)
    sender = make_sender(loaded, clock)
    jobs = Jobs(
        settings.jobs,
        store=shared.jobs,
        replays=replays,
        answer=requests.answer,
        clock=clock,
        metrics=job_metrics,
        guard=make_guard(loaded),
        sender=sender,
        decisions=JobRecords(reporter, requests.record_again) if reporter is not None else None,
        may_run=lambda key_id: doorkeeper.still_stands(key_id, "jobs"),
    )
    feedback = (
        FeedbackDesk(
            ledger,
            flagship=lambda: pipeline.flagship,
            answer=requests.answer,
            outcomes=outcomes,
            classifier=classifier,
            cache=cache,
            clock=clock,
            background=background,
        )
        if is_recorded
        else None
    )
    servicer = OrchestratorServicer(requests, counts, doorkeeper=doorkeeper, jobs=jobs, feedback=feedback)

    def draining() -> None:
        jobs.drain()
        pipeline.stop_extras()

    async def warm() -> None:
        channels.connect()
        shared.start()
        # Nothing can be answered without an executor. When all start together, a front that served at once would refuse
        # its first requests; one whose executors stay away serves all the same, and says so to each caller.
        with suppress(TimeoutError):
            await asyncio.wait_for(channels.executor.channel_ready(), EXECUTOR_WAIT_S)
        await canary.monitor.start()
        await _begin_to_ask(feed, settings)
        jobs.start()

    async def reconfigure(changed: Loaded) -> None:
        """Everything of the new configuration is made before anything of it is used."""
        try:
            pipeline.reconfigure(changed.settings, changed.version, changed.in_force)
        except ValueError as error:
            raise ConfigError(changed.path, [Problem(0, "policy", str(error))]) from error
        quotas.reconfigure(changed.settings.quotas)
        canary.apply(changed.settings)
        counts.reconfigure(tier.name for tier in changed.settings.tiers)
        traffic.reconfigure(tier.name for tier in changed.settings.tiers)
        if feed is not None:
            await feed.reconfigure(_quality_question(changed.settings))

    async def close() -> None:
        await jobs.close()
        await canary.close(CANARY_CLOSE_S)
        await canary.monitor.close()
        await background.close(STORES_CLOSE_S)
        await pipeline.close(OUTCOMES_CLOSE_S)
        await quotas.close(QUOTAS_CLOSE_S)
        if feed is not None:
            await feed.close()
        if reporter is not None:
            await reporter.close(RECORDS_CLOSE_S)
        if decision_log is not None:
            await asyncio.to_thread(decision_log.close, RECORDS_CLOSE_S)
        await replays.close()
        await shared.close()
        await channels.close()

    return Service(
        name="orchestrator",
        register=lambda server: add_OrchestratorServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.OrchestratorService",),
        warm=warm,
        draining=draining,
        close=close,
        reconfigure=reconfigure,
        certificates=certificates,
    )


async def _begin_to_ask(feed: QualityFeed | None, settings: Settings) -> None:
    """With a policy that goes by what was measured, the first requests should."""
    if feed is None:
        return
    feed.start()
    if settings.policy.cost_aware is not None and not await feed.heard(QUALITY_WAIT_S):
        _log.warning("not_cost_aware_yet", reason="the ledger has not said yet what it measured")


def _quality_question(settings: Settings) -> QualityQuestion:
    """What is asked of the ledger: grades beside the flagship by the judge that are configured now."""
    days = settings.policy.cost_aware.window_days if settings.policy.cost_aware else QUALITY_DAYS
    compared = Comparison.of(settings)
    return QualityQuestion(days * _DAY_S, compared.flagship.name, compared.judge.name)


if __name__ == "__main__":
    run("orchestrator", build)
