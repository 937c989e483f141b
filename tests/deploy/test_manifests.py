"""What every overlay keeps: security, room to stop, and who owns the number of replicas."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from spillway.cli.suite import THREADS
from tests.support.manifests import OVERLAYS, SERVICES, TOOLS, Rendered, render
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]

ALL = ("base", *OVERLAYS)
KUBERNETES = "1.36.0"
# Pods that ask the API server for something.
WITH_TOKEN = {"prometheus"}


@pytest.fixture(scope="module", params=ALL)
def rendered(request: pytest.FixtureRequest, tools: None) -> Rendered:
    return render(request.param)


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(expression["key"]) in expression["values"] and expression["operator"] == "In"
        for expression in selector.get("matchExpressions", [])
    )


def test_kubernetes_takes_every_object(rendered: Rendered, tmp_path: Path) -> None:
    path = tmp_path / "rendered.yaml"
    path.write_text(rendered.text)
    tool = TOOLS / "checks" / "bin" / "kubernetes-validate"
    done = subprocess.run(
        [tool, "-k", KUBERNETES, "--strict", "--quiet", path], check=False, capture_output=True, text=True, timeout=120
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "cert-manager.io/v1" not in line]
    assert done.returncode == 0, complaints
    assert complaints == []


def test_the_dockerfile_is_lint_free() -> None:
    tool = TOOLS / "checks" / "bin" / "hadolint"
    done = subprocess.run(
        [tool, REPOSITORY / "deploy" / "docker" / "Dockerfile"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_checkov_finds_nothing_but_what_is_explained(tmp_path: Path) -> None:
    for overlay in ("dev", "autoscaling", "mtls", "monitoring"):
        (tmp_path / f"{overlay}.yaml").write_text(render(overlay).text)
    tools = REPOSITORY / "deploy" / "tools"
    done = subprocess.run(
        [
            TOOLS / "checkov" / "bin" / "checkov",
            "--config-file",
            tools / "checkov.yaml",
            "--directory",
            tmp_path,
            "-o",
            "json",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    report = json.loads(done.stdout)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["passed"] > 500
    assert report["summary"]["parsing_errors"] == 0


def test_every_pod_is_restricted(rendered: Rendered) -> None:
    for workload, pod in rendered.pods():
        name = workload["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 400, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name
        for volume in pod.get("volumes", []):
            (kind,) = set(volume) - {"name"}
            assert kind in {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}, name
    for namespace in rendered.of("Namespace"):
        labels = namespace["metadata"]["labels"]
        for mode in ("enforce", "audit", "warn"):
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
            assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "v" + KUBERNETES.rpartition(".")[0]


def test_no_pod_has_a_token_or_an_account_of_another(rendered: Rendered) -> None:
    for workload, pod in rendered.pods():
        name = workload["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["serviceAccountName"] == name
        assert rendered.get("ServiceAccount", name)["automountServiceAccountToken"] is False
        projected = [
            v
            for v in pod["volumes"]
            if any("serviceAccountToken" in s for s in v.get("projected", {}).get("sources", []))
        ]
        assert bool(projected) == (name in WITH_TOKEN)


def test_no_secret_is_in_a_manifest_or_an_environment(rendered: Rendered) -> None:
    assert not rendered.of("Secret")
    for workload, pod in rendered.pods():
        for container in containers(pod):
            assert "envFrom" not in container, workload["metadata"]["name"]
            assert not any("valueFrom" in variable for variable in container.get("env", []))


def test_no_pod_has_other_threads_than_its_image_says(rendered: Rendered) -> None:
    for workload, pod in rendered.pods():
        for container in containers(pod):
            named = {variable["name"] for variable in container.get("env", ())}
            assert named.isdisjoint(THREADS), workload["metadata"]["name"]


def test_every_workload_is_probed_bounded_spread_and_budgeted(rendered: Rendered) -> None:
    budgets = rendered.of("PodDisruptionBudget")
    for workload, pod in rendered.pods():
        name, labels = workload["metadata"]["name"], workload["spec"]["template"]["metadata"]["labels"]
        assert matches(workload["spec"]["selector"], labels), name
        for container in containers(pod):
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), name
        spread = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
        assert "kubernetes.io/hostname" in spread, name
        assert name not in SERVICES or "topology.kubernetes.io/zone" in spread, name
        assert all(matches(c["labelSelector"], labels) for c in pod["topologySpreadConstraints"]), name
        (budget,) = [b for b in budgets if matches(b["spec"]["selector"], labels)]
        assert budget["spec"]["maxUnavailable"] == 1, name  # never "all have to stay": a node could not be drained


def test_production_survives_the_loss_of_a_pod_of_each_service() -> None:
    production = render("production")
    for service in SERVICES:
        spec = production.get("Deployment", service)["spec"]
        assert spec["replicas"] >= 2
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_autoscalers_own_the_number_of_replicas() -> None:
    rendered = render("autoscaling")
    scaled = {hpa["spec"]["scaleTargetRef"]["name"]: hpa["spec"] for hpa in rendered.of("HorizontalPodAutoscaler")}
    assert set(scaled) == set(SERVICES)
    rules = yaml.safe_load(rendered.config("spillway-adapter-rules", "config.yaml"))["rules"]
    served = {rule["name"]["as"] for rule in rules}
    for name, spec in scaled.items():
        assert "replicas" not in rendered.get("Deployment", name)["spec"]
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
        asked = {metric["pods"]["metric"]["name"] for metric in spec["metrics"] if metric["type"] == "Pods"}
        assert asked <= served
        assert bool(asked) == (name in {"orchestrator", "executor"})  # who waits for models
        assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    documented = (REPOSITORY / "docs" / "metrics.md").read_text()
    for rule in rules:
        assert f"`{rule['seriesQuery'].partition('{')[0]}`" in documented


def test_without_an_adapter_autoscalers_ask_for_cpu_alone() -> None:
    """Kubernetes scales nothing down while one of the metrics cannot be had."""
    alone, both = render("autoscaling-cpu"), render("autoscaling")
    for name in SERVICES:
        spec = alone.get("HorizontalPodAutoscaler", name)["spec"]
        (metric,) = spec["metrics"]
        assert metric["resource"]["name"] == "cpu"
        assert "replicas" not in alone.get("Deployment", name)["spec"]
        fuller = both.get("HorizontalPodAutoscaler", name)["spec"]
        assert {**fuller, "metrics": fuller["metrics"][-1:]} == spec


def test_calls_in_flight_are_a_gauge_and_no_rate_of_what_ended() -> None:
    for rule in yaml.safe_load(render("autoscaling").config("spillway-adapter-rules", "config.yaml"))["rules"]:
        series, _, labels = rule["seriesQuery"].rstrip("}").partition("{")
        assert "rate(" not in rule["metricsQuery"]
        # What finds the series narrows the query too.
        narrowed = [label for label in labels.split(",") if "!=" not in label]
        assert all(label in rule["metricsQuery"] for label in narrowed)
        line = next(
            line for line in (REPOSITORY / "docs" / "metrics.md").read_text().splitlines() if f"`{series}`" in line
        )
        assert line.split("|")[3].strip() == "gauge"


def test_no_object_is_too_large_for_what_kubectl_notes_of_it(rendered: Rendered) -> None:
    for resource in rendered.resources:
        noted = json.dumps(json.dumps(resource))
        assert len(noted) < 200_000, resource["metadata"]["name"]
