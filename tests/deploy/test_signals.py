"""What the autoscalers of those who wait for models go by, and that a pod can have as much of it as they aim at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from spillway.settings import Limits, Provider, Target
from tests.support.manifests import render
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]  # as test_manifests

PAGE = REPOSITORY / "docs" / "scale.md"


def aim(service: str) -> int:
    spec = render("autoscaling").get("HorizontalPodAutoscaler", service)["spec"]
    (pods,) = (metric["pods"] for metric in spec["metrics"] if metric["type"] == "Pods")
    return int(pods["target"]["averageValue"])


def rule(metric: str) -> dict[str, Any]:
    rules = yaml.safe_load(render("autoscaling").config("spillway-adapter-rules", "config.yaml"))["rules"]
    (found,) = (each for each in rules if each["name"]["as"] == metric)
    return dict(found)


def asked(metric: str) -> str:
    """The query, as prometheus-adapter fills it in."""
    found = rule(metric)
    query = str(found["metricsQuery"]).replace("<<.Series>>", found["seriesQuery"].partition("{")[0])
    return query.replace("<<.LabelMatchers>>", 'namespace="spillway",pod=~"a|b"').replace("<<.GroupBy>>", "pod")


def answers(tmp_path: Path, query: str, series: dict[str, int], expected: dict[str, int]) -> None:
    """Whether promtool, asked `query` of `series`, gives `expected` by pod."""
    samples = [{"labels": f'{{pod="{pod}"}}', "value": value} for pod, value in expected.items()]
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x5"} for name, value in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "3m", "exp_samples": samples}],
    }
    test = tmp_path / "signals.test.yaml"
    test.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", test], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def default(model: type[Any], field: str) -> int:
    return int(model.model_fields[field].default)


def test_a_target_that_is_full_is_more_than_an_autoscaler_aims_at() -> None:
    tolerance = 1.1  # of the controller: what is less above its aim is let be
    assert default(Target, "concurrency_max") > aim("executor") * tolerance
    assert default(Provider, "connections_max") > aim("executor") * tolerance
    for service in ("orchestrator", "executor"):
        assert default(Limits, "concurrent_rpcs_max") > aim(service) * tolerance


def test_who_waits_in_line_for_a_model_counts_as_in_flight(tmp_path: Path) -> None:
    where = 'namespace="spillway",pod='
    series = {
        f'spillway_in_flight{{{where}"a",target="small"}}': 60,
        f'spillway_in_flight{{{where}"a",target="large"}}': 4,
        f'spillway_line_waiting{{{where}"a"}}': 30,
        f'spillway_in_flight{{{where}"b",target="small"}}': 7,
        f'spillway_line_waiting{{{where}"elsewhere"}}': 99,
    }
    answers(tmp_path, asked("spillway_model_calls_in_flight"), series, {"a": 94, "b": 7})


def test_who_watches_a_job_is_no_call_in_flight(tmp_path: Path) -> None:
    where = 'namespace="spillway",rpc_service="spillway.v1.OrchestratorService",pod='
    series = {
        f'rpc_server_active_requests{{{where}"a",rpc_method="Complete"}}': 100,
        f'rpc_server_active_requests{{{where}"a",rpc_method="GetJob"}}': 2,
        f'rpc_server_active_requests{{{where}"a",rpc_method="WatchJob"}}': 500,
    }
    answers(tmp_path, asked("spillway_calls_in_flight"), series, {"a": 102})


def test_the_page_on_scale_counts_with_what_the_autoscalers_aim_at() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for service in ("orchestrator", "executor"):
        (row,) = re.findall(rf"^\| {service}, \d.*\(in flight ÷ .*$", page, re.MULTILINE)
        assert {int(number) for number in re.findall(r"in flight ÷ (\d+)", row)} == {aim(service)}
        in_flight = 14_000
        assert f"→ {-(-in_flight // aim(service))} (" in row


def test_a_pod_of_the_largest_suite_that_the_page_counts_can_have_its_calls() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    concurrency, connections, calls = (
        int(re.findall(rf"`{name}: (\d+)`", page)[0])
        for name in ("concurrency_max", r"providers\.\*\.connections_max", r"limits\.concurrent_rpcs_max")
    )
    ((orchestrators, executors),) = re.findall(r"targets of the autoscalers \((\d+) and (\d+)\)", page)
    ((pods, in_flight, each),) = re.findall(r"(\d+) executors \(([\d,]+) ÷ (\d+)\)", page)
    assert each == executors
    assert int(pods) == -(-int(in_flight.replace(",", "")) // int(each))
    assert int(executors) < min(concurrency, connections, calls)
    assert int(orchestrators) < calls
