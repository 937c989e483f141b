"""Names, ports, volumes and times of the overlays agree with the configuration that they mount."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
import yaml

from spillway.settings import Settings
from tests.support.manifests import K8S, SERVICES, Rendered, port_of, render, settings_of
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]

SUITES = ("base", "dev", "production", "autoscaling", "mtls")


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest, tools: None) -> Rendered:
    return render(request.param)


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


def test_an_overlay_of_ones_own_is_described_with_the_order_of_ours() -> None:
    described = (REPOSITORY / "docs" / "deployment.md").read_text()
    (own,) = [text for text in re.findall(r"```yaml\n(.*?)```", described, re.DOTALL) if "kind: Kustomization" in text]
    ours = yaml.safe_load((K8S / "overlays" / "autoscaling" / "kustomization.yaml").read_text())
    assert yaml.safe_load(own)["sortOptions"] == ours["sortOptions"]
