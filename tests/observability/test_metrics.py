"""The table of docs/metrics.md and what the running suite shows to Prometheus are the same, both ways."""

from __future__ import annotations

import re

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from services.orchestrator.canary.traffic import LEAST, NEWEST_LABELS
from services.orchestrator.canary.traffic_metrics import TrafficMetrics
from services.runtime.prometheus import PrometheusEndpoint
from tests.observability.table import PAGE, SELDOM, table
from tests.observability.traffic import FRESH
from tests.observability.watched import Watched
from tests.support.scrape import Family, families

pytestmark = pytest.mark.slow

STANDARD = re.compile(r"process_\w+")


def test_the_table_tells_of_each_metric_once() -> None:
    named = re.findall(r"^\| `(?:rpc|spillway)\.\S+` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(table())


def test_every_metric_that_a_process_shows_is_in_the_table_as_it_is(shown: dict[str, dict[str, Family]]) -> None:
    rows = table()
    for process, names in shown.items():
        for name, family in names.items():
            if STANDARD.fullmatch(name):
                continue
            assert name in rows, f"{process} shows {name}, which docs/metrics.md does not tell of"
            row = rows[name]
            assert process in row.processes | row.sometimes, name
            assert family.kind == row.kind, name
            assert name.startswith(row.otel.replace(".", "_")), name
            assert family.labels <= row.labels, name
            if family.values:
                assert family.labels == row.labels, name


def test_no_label_holds_a_prompt_an_answer_or_a_tenant(shown: dict[str, dict[str, Family]]) -> None:
    for names in shown.values():
        for family in names.values():
            for labels, _ in family.values:
                assert not re.search(r"river|Vienna|fine answer|hasty", str(labels), re.IGNORECASE), family.name
                assert len(str(labels)) < 400, family.name


def test_what_has_happened_is_what_is_counted(shown: dict[str, dict[str, Family]]) -> None:
    def total(process: str, name: str, **labels: str) -> float:
        values = shown[process][name].values
        return sum(value for found, value in values if labels.items() <= found.items())

    assert total("orchestrator", "spillway_escalations_total", tier="complex") >= 1
    assert total("orchestrator", "spillway_fallbacks_total", tier="simple") >= 1
    assert 0 < total("orchestrator", "spillway_cost_total") < total("orchestrator", "spillway_flagship_cost_total")
    assert total("orchestrator", "spillway_jobs_ended_total", state="succeeded") >= 1
    assert total("executor", "spillway_gate_verdicts_total", gate="self_confidence", verdict="fail") >= 1
    assert total("executor", "spillway_breaker_transitions_total", target="small-1", to="open") >= 1
    assert total("executor", "spillway_tokens_total", direction="output") > 0
    assert total("ledger", "spillway_ledger_kept_total", kind="decision") > 0
    executions = {"rpc_service": "spillway.v1.ExecutorService", "rpc_method": "Execute"}
    assert total("executor", "rpc_server_active_requests") == 0
    asked = shown["orchestrator"]["rpc_client_duration_seconds"].values
    assert any(executions.items() <= found.items() for found, _ in asked)


def test_what_is_seldom_shown_is_shown_as_the_table_says(watched: Watched) -> None:
    with watched.client() as client:
        completion = client.complete("Which river flows through Wels?", options=FRESH)
    endpoint = PrometheusEndpoint()
    meter = MeterProvider([endpoint.reader], shutdown_on_exit=False).get_meter("test")
    traffic = TrafficMetrics(meter, ["simple", "medium", "complex"])
    for _ in range(LEAST + NEWEST_LABELS):
        traffic.observe(completion.routing.classification, completion)
    text, _ = endpoint.scrape("")
    rows, found = table(), families(text.decode())
    assert found.keys() >= SELDOM
    for name in SELDOM:
        assert (found[name].kind, found[name].labels) == (rows[name].kind, rows[name].labels)
