"""Who may talk to whom: nobody, but along the edges of the architecture, opened at both ends."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.manifests import OVERLAYS, SERVICES, Rendered, render
from tests.support.processes import REPOSITORY

pytestmark = [pytest.mark.usefixtures("tools"), pytest.mark.timeout(400)]

PORTS = {"orchestrator": 50051, "classifier": 50052, "cache": 50053, "executor": 50054, "ledger": 50055, "redis": 6379}
# The architecture's, inside of the suite.
EDGES = {
    ("orchestrator", "classifier"),
    ("orchestrator", "cache"),
    ("orchestrator", "executor"),
    ("orchestrator", "ledger"),
    ("cache", "classifier"),
    ("classifier", "executor"),
    ("orchestrator", "redis"),
    ("cache", "redis"),
    ("executor", "redis"),
}
LEAVES_THE_CLUSTER = {"orchestrator", "executor"}
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}
NAME = "app.kubernetes.io/name"
METADATA = [ipaddress.ip_address("169.254.169.254"), ipaddress.ip_address("fd00:ec2::254")]
# Prometheus' alone, to wherever the API server is: not 80, where the metadata is.
API_SERVER_PORTS = {443, 6443, 8443, 16443}
NAMESPACE = "kubernetes.io/metadata.name"
CALLER = "spillway.dev/caller"
BALANCER = "spillway.dev/balancer"
ENVOY = REPOSITORY / "deploy" / "envoy" / "envoy.yaml"


def names(selector: dict[str, Any], everybody: set[str]) -> set[str]:
    """The pods that a selector of this namespace means, by name."""
    labels = dict(selector.get("matchLabels", {}))
    if labels.keys() & {CALLER, BALANCER}:
        return set()  # none of the suite's
    found = {labels[NAME]} if NAME in labels else set(everybody)
    for expression in selector.get("matchExpressions", []):
        assert expression["key"] == NAME
        assert expression["operator"] == "In"
        found &= set(expression["values"])
    return found


def edges(rendered: Rendered, direction: str) -> Iterator[tuple[str, str, int]]:
    """(caller, called, port) of every rule between pods of the namespace, as one end has it."""
    everybody = {workload["metadata"]["name"] for workload, _ in rendered.pods()}
    key = "from" if direction == "ingress" else "to"
    for policy in rendered.of("NetworkPolicy"):
        own = names(policy["spec"]["podSelector"], everybody)
        for rule in policy["spec"].get(direction, []):
            for peer in rule[key]:
                if "podSelector" not in peer or "namespaceSelector" in peer or NAME not in str(peer):
                    continue
                for other in names(peer["podSelector"], everybody):
                    for mine in own:
                        for port in rule["ports"]:
                            pair = (other, mine) if direction == "ingress" else (mine, other)
                            yield (*pair, port["port"])


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls", "monitoring"])
def test_every_namespace_denies_both_ways_by_default(overlay: str) -> None:
    rendered = render(overlay)
    for namespace in {workload["metadata"]["namespace"] for workload, _ in rendered.pods()}:
        (policy,) = [
            policy["spec"]
            for policy in rendered.of("NetworkPolicy")
            if policy["metadata"]["namespace"] == namespace and policy["metadata"]["name"] == "default-deny"
        ]
        assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls"])
def test_the_edges_are_those_of_the_architecture_and_open_at_both_ends(overlay: str) -> None:
    rendered = render(overlay)
    running = {workload["metadata"]["name"] for workload, _ in rendered.pods()}
    expected = {(a, b, PORTS[b]) for a, b in EDGES if b in running}
    if "sandbox" in running:
        expected.add(("executor", "sandbox", 8090))
    for collector in running & {"jaeger", "otel-collector"}:
        expected |= {(service, collector, 4317) for service in SERVICES}
    outgoing = {edge for edge in edges(rendered, "egress") if edge[1] in running}
    assert outgoing == expected
    assert (
        set(edges(rendered, "ingress")) & {(a, b, p) for a, b, p in edges(rendered, "ingress") if b in running}
        == expected
    )


@pytest.mark.parametrize("overlay", ["base", "production", "autoscaling", "mtls"])
def test_only_the_executor_and_webhooks_leave_the_cluster(overlay: str) -> None:
    rendered = render(overlay)
    leaving: set[str] = set()
    for policy in rendered.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule.get("to"), policy["metadata"]["name"]  # a rule without peers is the whole world
            for peer in rule["to"]:
                block = peer.get("ipBlock")
                if block is None or block["cidr"] in PRIVATE or block["cidr"].startswith("169.254.20.10"):
                    continue
                leaving |= names(policy["spec"]["podSelector"], set())
                assert [port["port"] for port in rule["ports"]] == [443]
                if block["cidr"] == "0.0.0.0/0":
                    assert (
                        set(block["except"]) >= PRIVATE
                    )  # nor the cloud's metadata, nor another tenant of the cluster
    assert leaving == LEAVES_THE_CLUSTER


def test_in_development_nobody_but_webhooks_leaves_the_cluster() -> None:
    policy = render("dev").get("NetworkPolicy", "executor-providers")
    assert all("ipBlock" not in peer for rule in policy["spec"]["egress"] for peer in rule["to"])


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls"])
def test_callers_get_to_the_orchestrator_and_what_stands_before_it_alone(overlay: str) -> None:
    rendered = render(overlay)
    let_in = {
        policy["metadata"]["name"]
        for policy in rendered.of("NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for peer in rule["from"]
        if CALLER in str(peer)
    }
    assert let_in == {"orchestrator", "balancers"}


@pytest.mark.parametrize("overlay", ["base", *OVERLAYS])
def test_every_pod_may_ask_for_names_and_fall_back_to_tcp(overlay: str) -> None:
    policy = render(overlay).get("NetworkPolicy", "dns")["spec"]
    assert policy["podSelector"] == {}
    (rule,) = policy["egress"]
    assert {(port["port"], port["protocol"]) for port in rule["ports"]} == {(53, "UDP"), (53, "TCP")}
    pods, node = rule["to"]
    assert pods["namespaceSelector"]["matchLabels"] == {NAMESPACE: "kube-system"}
    (expression,) = pods["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == {"kube-dns", "node-local-dns"}
    assert node == {"ipBlock": {"cidr": "169.254.20.10/32"}}


@pytest.mark.parametrize("overlay", ["base", *OVERLAYS])
def test_nobody_gets_to_the_clouds_metadata(overlay: str) -> None:
    for policy in render(overlay).of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            name = policy["metadata"]["name"]
            if not rule.get("to"):  # everywhere
                assert (overlay, name) == ("monitoring", "prometheus")
                assert {port["port"] for port in rule["ports"]} == API_SERVER_PORTS
                continue
            for block in [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]:
                for address in METADATA:
                    inside = address in ipaddress.ip_network(block["cidr"])
                    spared = any(address in ipaddress.ip_network(part) for part in block.get("except", []))
                    assert not inside or spared, name


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls"])
def test_prometheus_gets_to_every_service_from_its_own_namespace(overlay: str) -> None:
    suite, monitoring = render(overlay), render("monitoring")
    spec = suite.get("NetworkPolicy", "metrics")["spec"]
    assert names(spec["podSelector"], {workload["metadata"]["name"] for workload, _ in suite.pods()}) == set(SERVICES)
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    (own,) = monitoring.of("Namespace")
    assert peer["namespaceSelector"]["matchLabels"] == {NAMESPACE: own["metadata"]["name"]}
    labels = monitoring.get("Deployment", "prometheus")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    (suites,) = suite.of("Namespace")
    outwards = [
        (peer["namespaceSelector"]["matchLabels"][NAMESPACE], port["port"])
        for rule in monitoring.get("NetworkPolicy", "prometheus")["spec"]["egress"]
        for peer in rule.get("to", [])
        for port in rule["ports"]
    ]
    assert outwards == [(suites["metadata"]["name"], port["port"]) for port in rule["ports"]]


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls"])
def test_a_caller_in_the_namespace_gets_out_to_the_orchestrator_and_nowhere_else(overlay: str) -> None:
    """It is denied like everybody there, so the edge has to be open at its end too."""
    rendered = render(overlay)
    caller = {CALLER: "true"}
    let_out = [p["spec"] for p in rendered.of("NetworkPolicy") if p["spec"]["podSelector"] == {"matchLabels": caller}]
    (rule,) = [rule for spec in let_out for rule in spec["egress"]]
    labels = rendered.get("Deployment", "orchestrator")["spec"]["template"]["metadata"]["labels"]
    assert rule["to"] == [
        {"podSelector": {"matchLabels": labels}},
        {"podSelector": {"matchLabels": {BALANCER: "true"}}},
    ]
    let_in = rendered.get("NetworkPolicy", "orchestrator")["spec"]["ingress"]
    assert [r["ports"] for r in let_in if {"podSelector": {"matchLabels": caller}} in r["from"]] == [rule["ports"]]


@pytest.mark.parametrize("overlay", ["base", "dev", "production", "autoscaling", "mtls"])
def test_a_balancer_gets_to_the_ports_of_the_shipped_envoy_and_callers_get_to_it(overlay: str) -> None:
    rendered = render(overlay)
    listener, cluster = (
        yaml.safe_load(ENVOY.read_text())["static_resources"][key][0] for key in ("listeners", "clusters")
    )
    (endpoint,) = [found["endpoint"] for found in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    called = endpoint["address"]["socket_address"]["port_value"], endpoint["health_check_config"]["port_value"]
    balancer, caller = ({"podSelector": {"matchLabels": {label: "true"}}} for label in (BALANCER, CALLER))
    own = rendered.get("NetworkPolicy", "balancers")["spec"]
    assert own["podSelector"] == balancer["podSelector"]

    (out,) = own["egress"]
    labels = rendered.get("Deployment", "orchestrator")["spec"]["template"]["metadata"]["labels"]
    assert out["to"] == [{"podSelector": {"matchLabels": labels}}]
    assert out["ports"] == [{"port": port, "protocol": "TCP"} for port in called]
    let_in = rendered.get("NetworkPolicy", "orchestrator")["spec"]["ingress"]
    assert [rule["ports"] for rule in let_in if balancer in rule["from"]] == [out["ports"]]

    (inwards,) = own["ingress"]
    assert caller in inwards["from"]
    listens = listener["address"]["socket_address"]["port_value"]
    assert inwards["ports"] == [{"port": listens, "protocol": "TCP"}]
    (outwards,) = rendered.get("NetworkPolicy", "callers")["spec"]["egress"]
    assert balancer in outwards["to"]
    assert outwards["ports"] == inwards["ports"]
