"""One suite with all on that can be watched: ledger, canary, jobs, quotas, TLS, a sealed cache; traces and metrics."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator

import pytest

from tests.observability.table import PROCESSES, SELDOM, table
from tests.observability.traffic import send
from tests.observability.watched import Hook, Watched
from tests.support.certificates import CertificateFolders
from tests.support.judging_provider import JudgingProvider
from tests.support.otlp import Receiver
from tests.support.processes import wait_until
from tests.support.scrape import Family, scrape
from tests.support.suite import LADDER, PRICES, Suite

ALL_KINDS = ["chitchat", "factual_qa", "summarization", "extraction", "classification", "rewriting", "translation"]


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "prompt.key").write_text(secrets.token_hex(32))
    (folder / "webhook.key").write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
    certificates = CertificateFolders(folder / "certificates").make(*PROCESSES, "client")
    simple, complex_ = LADDER["tiers"]
    with JudgingProvider() as judge, Receiver() as receiver, Hook() as hook:
        grader = {"name": "grader-1", "provider": "judge", "model": "grader-1", "price": PRICES["small-1"]}
        config = {
            **LADDER,
            "providers": {"judge": {"base_url": judge.base_url}},
            "tiers": [simple, {**complex_, "targets": [*complex_["targets"], grader]}],
            "flagship": "large-1",
            "tls": certificates.settings,
            "policy": {**LADDER["policy"], "new_users": {"messages": 1}},
            "telemetry": {"prometheus_listen": "127.0.0.1:0"},
            "canary": {"share": 1.0, "judge": "grader-1", "cost_usd_per_day": 1000},
            "executor": {"breaker": {"calls_min": 2, "failure_ratio": 0.1, "open_s": 0.2, "open_s_max": 0.2}},
            "jobs": {"webhook_secret_file": str(folder / "webhook.key"), "webhook_private_hosts": ["127.0.0.1"]},
            "quotas": {
                "budgets": [{"name": "daily", "period": "day", "cost_usd": 1000}],
                "rates": [{"name": "slow", "tenant": "hasty", "requests_per_minute": 1}],
            },
            "cache": {
                "store": "file",
                "file": str(folder / "cache.sqlite"),
                "prompt_key_file": str(folder / "prompt.key"),
                "max_wrong_rate": 0.05,
                "semantic_task_types": ALL_KINDS,
                "audits": {"share": 1.0},
            },
        }
        with Suite(
            folder,
            config=config,
            otlp_endpoint=receiver.endpoint,
            sandbox_args=("--otlp-port", "0"),
            ledger=True,
        ) as suite:
            receiver.forward(suite.addresses["sandbox_otlp"])
            yield Watched(suite, receiver, certificates, hook)


@pytest.fixture(scope="package")
def shown(watched: Watched) -> dict[str, dict[str, Family]]:
    """By process, once all that is in the table is there."""
    send(watched)
    rows = [row for row in table().values() if row.name not in SELDOM]
    wanted = {(process, row.name) for row in rows for process in row.processes}

    def missing() -> set[tuple[str, str]]:
        found = scrape(watched.suite.scraped.items())
        return wanted - {(process, name) for process, names in found.items() for name in names}

    try:
        wait_until(lambda: not missing(), what="every metric of the table", within_s=30)
    except AssertionError as error:
        raise AssertionError(f"{error}; missing: {sorted(missing())}") from None
    return scrape(watched.suite.scraped.items())
