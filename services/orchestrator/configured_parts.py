"""Parts of the process that take more than a line to make, most of them of what the configuration names.

Promises: what cannot be used is a ConfigError that names its setting where one is to blame, or a SecretError; nothing
is connected to yet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from opentelemetry.metrics import Meter

from services.orchestrator.canary.canary import Canary, Charge
from services.orchestrator.canary.drift_store import DriftStore
from services.orchestrator.canary.metrics import CanaryMetrics
from services.orchestrator.canary.monitor import DriftMonitor
from services.orchestrator.canary.sample import Sample
from services.orchestrator.canary.spending import Bound as CanaryBound
from services.orchestrator.grpc_executor import GrpcExecutor
from services.orchestrator.jobs.webhook import parse_secrets
from services.orchestrator.jobs.webhook_guard import WebhookGuard
from services.orchestrator.jobs.webhook_sender import WebhookSender
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.quotas.bound import Bound
from services.orchestrator.quotas.keys import Keys
from services.orchestrator.quotas.metrics import QuotaMetrics
from services.orchestrator.quotas.quotas import Holder, Quotas
from services.orchestrator.shared_state import SharedState, open_shared_state
from services.runtime.clock import SystemClock
from services.runtime.config import ConfigError, Loaded, read_secret
from spillway.api_keys import KeyFileError
from spillway.configuration.document import Problem
from spillway.routing import Grade, TierOutcome
from spillway.settings import Settings

__all__ = ["make_canary", "make_guard", "make_keys", "make_sender", "make_shared_state"]


def make_canary(
    settings: Settings,
    meter: Meter,
    executor: GrpcExecutor,
    store: DriftStore,
    clock: SystemClock,
    quotas: Quotas,
    reporter: LedgerReporter | None,
    on_learned: Callable[[Sequence[TierOutcome]], None],
) -> Canary:
    """Compares with the flagship, by a judge, on the tenants' own budgets; `on_learned` hears how tiers did."""
    counts = CanaryMetrics(meter)
    monitor = DriftMonitor(settings, store=store, clock=clock, on_alarm=counts.alarmed, on_uncounted=counts.uncounted)
    counts.watch(monitor)

    def on_grade(grade: Grade) -> None:
        if reporter is not None:
            reporter.offer_grade(grade)

    async def admit(sample: Sample, bound: CanaryBound) -> Charge:
        """Of the tenant's own budgets: a comparison is spent on its traffic."""
        whole = Bound(bound.cost_nanousd, bound.tokens, bound.cost_nanousd)
        return await quotas.admit(Holder(sample.tenant, sample.key_id), f"canary/{sample.request_id}", whole)

    return Canary(
        settings,
        executor=executor,
        monitor=monitor,
        clock=clock,
        draw=random.SystemRandom().random,
        on_grade=on_grade,
        on_outcome=counts.ended,
        on_learned=on_learned,
        admit=admit,
    )


def make_sender(loaded: Loaded, clock: SystemClock) -> WebhookSender | None:
    """None without a secret to sign with. Raises SecretError, ConfigError."""
    jobs = loaded.settings.jobs
    if not jobs.webhook_secret_env and not jobs.webhook_secret_file:
        return None
    try:
        secrets = parse_secrets(read_secret(jobs.webhook_secret_env, jobs.webhook_secret_file))
    except ValueError as error:
        raise ConfigError(loaded.path, [Problem(0, "jobs.webhook_secret_env", str(error))]) from error
    return WebhookSender(make_guard(loaded), secrets, clock=clock) if secrets else None


def make_shared_state(loaded: Loaded, clock: SystemClock) -> SharedState:
    """Raises SecretError, and ConfigError for a Redis that cannot be used for it."""
    try:
        return open_shared_state(loaded.settings, clock)
    except ValueError as error:
        raise ConfigError(loaded.path, [Problem(0, "", str(error))]) from error


def make_keys(loaded: Loaded, clock: SystemClock, counts: QuotaMetrics) -> Keys | None:
    """None where none are required. Raises ConfigError for a file that cannot be used."""
    path = loaded.settings.orchestrator.keys_file
    if not path:
        return None
    try:
        return Keys(Path(path), clock, on_bad_file=counts.bad_keys)
    except KeyFileError as error:
        raise ConfigError(loaded.path, [Problem(0, "orchestrator.keys_file", str(error))]) from error


def make_guard(loaded: Loaded) -> WebhookGuard:
    """Raises ConfigError for a network that is none."""
    try:
        return WebhookGuard(loaded.settings.jobs.webhook_private_hosts)
    except ValueError as error:
        raise ConfigError(loaded.path, [Problem(0, "jobs.webhook_private_hosts", str(error))]) from error
