"""What the collector keeps, what is mounted for Prometheus and Grafana, and what Prometheus adds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.manifests import port_of, render, settings_of
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]


def test_the_collector_keeps_what_has_to_be_kept() -> None:
    production = render("production")
    (name,) = [m["metadata"]["name"] for m in production.of("ConfigMap") if m["metadata"]["name"].startswith("otel")]
    config = yaml.safe_load(production.config(name, "collector.yaml"))
    policies = {policy["name"]: policy for policy in config["processors"]["tail_sampling"]["policies"]}
    assert policies["errors"]["status_code"]["status_codes"] == ["ERROR"]
    attribute = policies["escalations"]["numeric_attribute"]
    assert attribute["min_value"] == 1
    assert f'"{attribute["key"]}"' in (REPOSITORY / "services" / "orchestrator" / "run.py").read_text()
    assert policies["slow"]["latency"]["threshold_ms"] > 0
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= config[part].keys()
    service = production.get("Service", "otel-collector")
    assert (
        f":{port_of(config['receivers']['otlp']['protocols']['grpc']['endpoint'])}"
        in settings_of(production).telemetry.otlp_endpoint
    )
    assert 4317 in [port["port"] for port in service["spec"]["ports"]]


def test_every_dashboard_and_rule_is_mounted() -> None:
    rendered = render("monitoring")
    folder = REPOSITORY / "deploy" / "k8s" / "overlays" / "monitoring"
    files = {path.name: path.read_text() for path in [*folder.glob("dashboards/*"), *folder.glob("rules/*")]}
    assert files
    held = {key: text for config in rendered.of("ConfigMap") for key, text in config["data"].items()}
    assert {name: held.get(name) for name in files} == files
    mounted = {
        source["configMap"]["name"]
        for _, pod in rendered.pods()
        for volume in pod["volumes"]
        for source in (volume, *volume.get("projected", {}).get("sources", []))
        if "configMap" in source
    }
    assert mounted >= {config["metadata"]["name"] for config in rendered.of("ConfigMap")}


def test_what_prometheus_adds_is_no_label_of_a_metric() -> None:
    rendered = render("monitoring")
    (name,) = [
        c["metadata"]["name"] for c in rendered.of("ConfigMap") if c["metadata"]["name"].startswith("prometheus-config")
    ]
    (job,) = yaml.safe_load(rendered.config(name, "prometheus.yaml"))["scrape_configs"]
    added = {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}
    assert {"namespace", "pod", "job"} <= added  # by these an adapter and the rules find a pod
    labels = " ".join(
        line.split("|")[4]
        for line in (REPOSITORY / "docs" / "metrics.md").read_text().splitlines()
        if line.startswith("| `")
    )
    assert "`outcome`" in labels
    assert not [label for label in added if f"`{label}`" in labels]


def test_promtool_takes_the_configuration_of_prometheus(tmp_path: Path) -> None:
    rendered = render("monitoring")
    held = {key: text for config in rendered.of("ConfigMap") for key, text in config["data"].items()}
    (tmp_path / "rules").mkdir()
    for name, text in held.items():
        if name.endswith(".rules.yaml"):
            (tmp_path / "rules" / name).write_text(text)
    config = yaml.safe_load(held["prometheus.yaml"])
    assert config["rule_files"] == ["/etc/prometheus/rules/*.yaml"]
    config["rule_files"] = [str(tmp_path / "rules" / "*.yaml")]
    # Debian builds Prometheus without Kubernetes.
    (discovery,) = config["scrape_configs"][0].pop("kubernetes_sd_configs")
    assert discovery == {"role": "pod", "namespaces": {"names": ["spillway"]}}
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["promtool", "check", "config", path], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
