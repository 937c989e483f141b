"""What an API server and a kubelet make of the rendering: nothing to wait for, room for all, nothing done twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import yaml

from services.cache.index.follower import WARM_S_MAX
from services.orchestrator.__main__ import EXECUTOR_WAIT_S
from tests.support.manifests import OVERLAYS, SERVICES, Rendered, render
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]

BUILT_IN = {"v1", "apps/v1", "policy/v1", "autoscaling/v2", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
# Processes take over what changes in these; a name without a hash restarts nobody.
FOLLOWED = {"spillway-config", "spillway-adapter-rules"}
SECRETS = {"spillway-executor", "spillway-orchestrator", "spillway-cache", "spillway-ledger"}
# What every namespace has.
EVERYWHERE = {("ConfigMap", "kube-root-ca.crt")}
# A node of 2 CPUs and 4 GiB less what kubeadm's control plane, its DNS and a network plugin ask for.
NODE_CPU, NODE_MEMORY = Fraction("2") - Fraction("0.95"), (4 * 1024 - 512) * 2**20
# What a cluster's DNS and its cache on the node answer may be this old (kubeadm's).
DNS_REMEMBERS_S = 30
SUFFIXES: dict[str, int | Fraction] = {"": 1, "m": Fraction(1, 1000), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@pytest.fixture(scope="module", params=("base", *OVERLAYS))
def rendered(request: pytest.FixtureRequest, tools: None) -> Rendered:
    return render(request.param)


def amount(quantity: str) -> Fraction:
    number, suffix = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    return Fraction(number) * SUFFIXES[suffix]


def needed(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What has to be there before the pod can start, by kind and name."""
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod.get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "configMap" in source and not source["configMap"].get("optional"):
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source and not source["secret"].get("optional"):
                yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]


def missing(rendered: Rendered) -> set[tuple[str, str]]:
    brought = {(resource["kind"], resource["metadata"]["name"]) for resource in rendered.resources}
    brought |= {("Secret", certificate["spec"]["secretName"]) for certificate in rendered.of("Certificate")}
    return {need for _, pod in rendered.pods() for need in needed(pod)} - brought - EVERYWHERE


def quantities(node: Any, key: str = "") -> Iterator[str]:
    """Every amount of something, wherever it stands."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in {"requests", "limits"}:
                yield from map(str, value.values())
            elif name in {"sizeLimit", "averageValue"}:
                yield str(value)
            else:
                yield from quantities(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from quantities(value, key)


@pytest.mark.parametrize("overlay", ["base", "dev", "monitoring"])
def test_no_pod_waits_for_what_the_overlay_does_not_bring(overlay: str) -> None:
    assert missing(render(overlay)) == set()


@pytest.mark.parametrize("overlay", ["production", "autoscaling", "autoscaling-cpu", "mtls"])
def test_production_waits_for_its_four_secrets_alone(overlay: str) -> None:
    assert missing(render(overlay)) == {("Secret", name) for name in SECRETS}
    guide = (REPOSITORY / "docs" / "deployment.md").read_text()
    assert all(f"create secret generic {name} " in guide for name in SECRETS)


def test_development_claims_no_volume() -> None:
    assert not render("dev").of("PersistentVolumeClaim")


def test_only_mutual_tls_needs_kinds_that_kubernetes_does_not_have(rendered: Rendered) -> None:
    foreign = {resource["apiVersion"] for resource in rendered.resources} - BUILT_IN
    assert foreign == ({"cert-manager.io/v1"} if rendered.name == "mtls" else set())


def test_namespace_and_walls_come_first_and_pods_when_all_that_they_need_is_there(rendered: Rendered) -> None:
    kinds = [resource["kind"] for resource in rendered.resources]
    assert kinds[0] == "Namespace"
    assert set(kinds[1 : 1 + kinds.count("NetworkPolicy")]) == {"NetworkPolicy"}
    last = len(kinds) - kinds.count("HorizontalPodAutoscaler")
    assert set(kinds[last - kinds.count("Deployment") : last]) == {"Deployment"}


def test_an_overlay_stays_in_its_namespace_so_that_order_does_not_matter(rendered: Rendered) -> None:
    (namespace,) = [resource["metadata"]["name"] for resource in rendered.of("Namespace")]
    assert {r["metadata"]["namespace"] for r in rendered.resources if r["kind"] != "Namespace"} == {namespace}


@pytest.mark.parametrize("overlay", ["base", "dev", "production"])
def test_prometheus_of_the_other_namespace_may_look_for_pods_and_nothing_else(overlay: str) -> None:
    suite, monitoring = render(overlay), render("monitoring")
    assert suite.get("Role", "prometheus")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    (subject,) = suite.get("RoleBinding", "prometheus")["subjects"]
    account = monitoring.get("ServiceAccount", subject["name"])
    assert account["metadata"]["namespace"] == subject["namespace"]


def test_what_was_applied_is_written_as_kubernetes_keeps_it(rendered: Rendered) -> None:
    """Another way to write an amount would be a change at each `kubectl apply`."""
    for written in quantities(list(rendered.resources)):
        assert re.fullmatch(r"[1-9][0-9]*(m|Ki|Mi|Gi)?", written), written
        number, suffix = re.fullmatch(r"([0-9]+)([A-Za-z]*)", written).groups()  # type: ignore[union-attr]
        assert int(number) % {"m": 1000, "Ki": 1024, "Mi": 1024}.get(suffix, int(number) + 1), written


def test_what_an_api_server_would_add_inside_of_a_list_is_written_out(rendered: Rendered) -> None:
    """Lists that are replaced as a whole would lose it at each `kubectl apply`, and get it again."""
    for _, pod in rendered.pods():
        for volume in pod.get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                for item in source.get("downwardAPI", {}).get("items", []):
                    assert item["fieldRef"]["apiVersion"] == "v1"
                assert "expirationSeconds" in source.get("serviceAccountToken", {"expirationSeconds": 0})
    for policy in rendered.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
            assert all("protocol" in port for port in rule["ports"])
    for autoscaler in rendered.of("HorizontalPodAutoscaler"):
        assert autoscaler["spec"]["metrics"][-1]["type"] == "Resource"


def test_what_a_pod_writes_to_a_disk_is_within_what_it_may(rendered: Rendered) -> None:
    """The kubelet counts volumes of the node's disk, and evicts who is above."""
    for workload, pod in rendered.pods():
        disks = sum(amount(v["emptyDir"]["sizeLimit"]) for v in pod.get("volumes", []) if "emptyDir" in v)
        allowed = sum(amount(c["resources"]["limits"]["ephemeral-storage"]) for c in pod["containers"])
        assert disks + 64 * 2**20 <= allowed, workload["metadata"]["name"]  # and some logs


def test_development_fits_a_node_of_two_cpus_also_during_a_rollout() -> None:
    cpu = memory = Fraction(0)
    for workload, pod in render("dev").pods():
        surge = 0 if workload["spec"].get("strategy", {}).get("type") == "Recreate" else 1
        pods = workload["spec"]["replicas"] + surge
        for container in pod["containers"]:
            cpu += pods * amount(container["resources"]["requests"]["cpu"])
            memory += pods * amount(container["resources"]["requests"]["memory"])
    assert cpu <= NODE_CPU
    assert memory <= NODE_MEMORY


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"ledger"}))
@pytest.mark.parametrize("overlay", ["base", "dev", "production", "mtls"])
def test_callers_know_another_pod_when_one_goes(service: str, overlay: str) -> None:
    """Who says NOT_SERVING is left at once, and names are asked for anew only when a connection ends."""
    spec = render(overlay).get("Deployment", service)["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] >= DNS_REMEMBERS_S


def test_what_ends_without_a_drain_waits_until_its_address_is_gone() -> None:
    """Of what requests go through; the services' own drain is tested with the time that pods have to stop."""
    pod = render("dev").get("Deployment", "sandbox")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert 0 < container["lifecycle"]["preStop"]["sleep"]["seconds"] < pod["terminationGracePeriodSeconds"]


def test_one_node_takes_every_replica(rendered: Rendered) -> None:
    for workload, pod in rendered.pods():
        assert "affinity" not in pod
        assert {c["whenUnsatisfiable"] for c in pod["topologySpreadConstraints"]} == {"ScheduleAnyway"}
        assert "nodeSelector" not in pod, workload["metadata"]["name"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_start_slowly_and_is_asked_as_a_whole(service: str) -> None:
    (container,) = render("base").get("Deployment", service)["spec"]["template"]["spec"]["containers"]
    startup = container["startupProbe"]
    window_s = startup["periodSeconds"] * startup["failureThreshold"]
    # What the start may wait for, several times over; the classifier loads its model.
    assert window_s >= 8 * max(WARM_S_MAX, EXECUTOR_WAIT_S)
    assert service != "classifier" or window_s >= 240
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert not container[probe]["grpc"].get("service")  # the health of the process; no name to get wrong


def test_an_image_that_was_loaded_on_the_node_is_used(rendered: Rendered) -> None:
    for _, pod in rendered.pods():
        for container in pod["containers"]:
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert re.search(r":v?[0-9]+\.[0-9][0-9a-z.-]*$", container["image"]), container["image"]


def test_a_configuration_that_nobody_follows_restarts_its_pods_when_it_changes(rendered: Rendered) -> None:
    for config in rendered.of("ConfigMap"):
        name = config["metadata"]["name"]
        assert bool(re.search(r"-[a-z0-9]{10}$", name)) == (name not in FOLLOWED), name


def test_jaeger_listens_where_it_is_called_and_looked_at() -> None:
    dev = render("dev")
    pod = dev.get("Deployment", "jaeger")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (name,) = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "config"]
    (key,) = dev.get("ConfigMap", name)["data"]
    assert container["args"] == ["--config", f"{mount}/{key}"]
    config = yaml.safe_load(dev.config(name, key))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == f"0.0.0.0:{ports['otlp']}"
    query, storage = config["extensions"]["jaeger_query"], config["extensions"]["jaeger_storage"]["backends"]
    assert query["http"]["endpoint"] == f"0.0.0.0:{ports['ui']}"
    assert {query["storage"]["traces"], config["exporters"]["jaeger_storage_exporter"]["trace_storage"]} == set(storage)
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    for part in ("receivers", "processors", "exporters"):
        assert config["service"]["pipelines"]["traces"][part] == list(config[part])
