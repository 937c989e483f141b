"""What every overlay keeps: security, room to stop, names and ports that agree with the configuration."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
import yaml

from services.runtime.config import Loaded, parse
from spillway.settings import Settings
from tests.support.manifests import OVERLAYS, SERVICES, TOOLS, Rendered, render
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]

SUITES = ("base", "dev", "production", "autoscaling", "mtls")
ALL = ("base", *OVERLAYS)
KUBERNETES = "1.36.0"
# Pods that ask the API server for something.
WITH_TOKEN = {"prometheus"}


@pytest.fixture(scope="module", params=ALL)
def rendered(request: pytest.FixtureRequest, tools: None) -> Rendered:
    return render(request.param)


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest, tools: None) -> Rendered:
    return render(request.param)


def settings_of(suite: Rendered) -> Settings:
    loaded: Loaded = parse(suite.config().encode(), Path("spillway.yaml"), {})
    return loaded.settings


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


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


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_probed_by_grpc_on_the_port_without_tls(service: str, suite: Rendered) -> None:
    (container,) = suite.get("Deployment", service)["spec"]["template"]["spec"]["containers"]
    port = port_of(settings_of(suite).tls.health_listen)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == port


def test_a_pod_has_time_to_drain_and_to_end_its_longest_call(suite: Rendered) -> None:
    settings = settings_of(suite)
    assert settings.limits.grace_s > settings.orchestrator.deadline_s
    for service in SERVICES:
        pod = suite.get("Deployment", service)["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > settings.limits.drain_s + settings.limits.grace_s


@pytest.mark.parametrize("service", SERVICES)
def test_ports_names_and_labels_agree_with_the_configuration(service: str, suite: Rendered) -> None:
    settings = settings_of(suite)
    address = getattr(settings.services, service)
    deployment = suite.get("Deployment", service)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert address.listen == f"0.0.0.0:{ports['grpc']}"
    assert settings.tls.health_listen == f"0.0.0.0:{ports['health']}"
    assert settings.telemetry.prometheus_listen == f"0.0.0.0:{ports['metrics']}"
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])
    # Whoever calls it balances by itself: the name is a headless Service's.
    scheme, _, target = address.target.rpartition("/")
    assert scheme == "dns://"
    host, _, port = target.partition(":")
    found = suite.get("Service", host)
    assert found["spec"]["clusterIP"] == "None"
    assert found["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert [(p["port"], p["targetPort"]) for p in found["spec"]["ports"]] == [(int(port), "grpc")]
    assert int(port) == ports["grpc"]
    assert container["image"] == f"docker.io/spillway/{service}:0.1.0"


def test_a_service_is_called_http2_in_the_clear_only_where_it_is(suite: Rendered) -> None:
    named = {
        service["metadata"]["name"]: port.get("appProtocol")
        for service in suite.of("Service")
        for port in service["spec"]["ports"]
        if port["name"] == "grpc"
    }
    expected = None if settings_of(suite).tls.is_on else "kubernetes.io/h2c"
    assert named == dict.fromkeys((*SERVICES, "orchestrator-headless"), expected)


def test_the_configuration_is_valid_and_a_change_reaches_running_pods(suite: Rendered) -> None:
    settings_of(suite)
    document = yaml.safe_load(suite.config())
    jsonschema_rs.validate(Settings.model_json_schema(), document)
    for service in SERVICES:
        pod = suite.get("Deployment", service)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (volume,) = [v for v in pod["volumes"] if v.get("configMap", {}).get("name") == "spillway-config"]
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == volume["name"]]
        assert mount["mountPath"] == "/etc/spillway"
        assert "subPath" not in mount  # a file mounted by itself never changes
        assert container["args"] == ["--config", "/etc/spillway/spillway.yaml"]


def test_what_the_configuration_names_is_mounted_and_what_is_written_is_a_volume(suite: Rendered) -> None:
    settings = settings_of(suite)
    written = {
        "classifier": [settings.classifier.memory.file],
        "cache": [settings.cache.snapshot_dir],
        "ledger": [settings.ledger.database_url.partition("///")[2]],
    }
    keys = [provider.api_key_file for provider in settings.providers.values() if provider.api_key_file]
    for service in SERVICES:
        (container,) = suite.get("Deployment", service)["spec"]["template"]["spec"]["containers"]
        writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
        readable = [m["mountPath"] for m in container["volumeMounts"]]
        for path in filter(None, written.get(service, [])):
            assert any(Path(path).is_relative_to(place) for place in writable), (service, path)
        if service == "executor":
            assert all(any(Path(key).is_relative_to(place) for place in readable) for key in keys)
        secrets = {v["name"]: v for v in container.get("env", []) if v["name"].startswith("SECRET_FILE_")}
        assert all(any(Path(v["value"]).is_relative_to(p) for p in readable) for v in secrets.values())


@pytest.mark.parametrize("overlay", ["production", "mtls"])
def test_the_database_outside_has_to_show_the_certificate_of_its_name(overlay: str) -> None:
    rendered = render(overlay)
    options = dict(parse_qsl(urlsplit(settings_of(rendered).ledger.database_url).query))
    assert options["sslmode"] == "verify-full"
    (container,) = rendered.get("Deployment", "ledger")["spec"]["template"]["spec"]["containers"]
    (secrets,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "secrets"]
    authority = Path(options["sslrootcert"])
    assert authority.parent == Path(secrets)
    described = (REPOSITORY / "docs" / "deployment.md").read_text()
    (line,) = [line for line in described.splitlines() if "create secret generic spillway-ledger" in line]
    assert f"--from-file={authority.name}" in line


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


def test_mutual_tls_differs_from_production_by_its_section_alone() -> None:
    plain = yaml.safe_load(render("production").config())
    secured = yaml.safe_load(render("mtls").config())
    tls = secured.pop("tls")
    assert plain.pop("tls") == {"health_listen": tls["health_listen"]}
    assert secured == plain


def test_certificates_have_the_names_that_are_dialled_and_admitted() -> None:
    mtls = render("mtls")
    settings = settings_of(mtls)
    names = {c["spec"]["secretName"]: c["spec"].get("dnsNames", []) for c in mtls.of("Certificate")}
    admitted: dict[str, set[str]] = {service: set(callers) for service, callers in settings.tls.callers.items()}
    for service in SERVICES:
        host = getattr(settings.services, service).target.rpartition("/")[2].partition(":")[0]
        assert host in names[f"{service}-tls"]
        pod = mtls.get("Deployment", service)["spec"]["template"]["spec"]
        (volume,) = [v for v in pod["volumes"] if v.get("secret", {}).get("secretName") == f"{service}-tls"]
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume["name"]]
        for path in (settings.tls.cert_file, settings.tls.key_file, settings.tls.ca_file):
            assert Path(path).parent == Path(mount["mountPath"])
        # Whoever is admitted has a certificate of that name, and of the others none has it.
        callers = admitted[service]
        assert callers == {secret.removesuffix("-tls") for secret, held in names.items() if callers & set(held)}
    assert not set(itertools.chain(*names.values())) & {"*", ""}


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


def test_no_object_is_too_large_for_what_kubectl_notes_of_it(rendered: Rendered) -> None:
    for resource in rendered.resources:
        noted = json.dumps(json.dumps(resource))
        assert len(noted) < 200_000, resource["metadata"]["name"]


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
