"""Envoy with the configuration that is shipped, in front of the orchestrators of a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import Cluster
from tests.support.processes import REPOSITORY, wait_until
from tests.support.redis_server import free_port

__all__ = ["CONFIGURATION", "envoy_before"]

CONFIGURATION = REPOSITORY / "deploy" / "envoy" / "envoy.yaml"
TOOL = REPOSITORY / ".spillway" / "tools" / "envoy" / "bin" / "envoy"


def _install() -> None:
    """Of no effect, and no cost, when it is there."""
    script = REPOSITORY / "scripts" / "deploy-tools"
    done = subprocess.run([script, "--envoy"], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _local(cluster: Cluster, port: int) -> dict[str, Any]:
    """The configuration with places of this machine: ports, a name, and who knows that name. Nothing else changes."""
    config: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    del config["admin"]
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (orchestrator,) = config["static_resources"]["clusters"]
    (lb_endpoint,) = orchestrator["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint = lb_endpoint["endpoint"]
    endpoint["address"]["socket_address"] = {"address": "orchestrator", "port_value": cluster.ports["orchestrator"]}
    endpoint["health_check_config"]["port_value"] = cluster.health_port
    orchestrator["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": cluster.names.port}}],
            "dns_resolver_options": {"no_default_search_domain": True},
        },
    }
    return config


@contextmanager
def envoy_before(cluster: Cluster, folder: Path) -> Iterator[str]:
    """Its address, once it listens."""
    _install()
    port = free_port()
    path, log = folder / "envoy.yaml", folder / "envoy.log"
    path.write_text(yaml.safe_dump(_local(cluster, port)))
    command = [str(TOOL), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "--drain-time-s", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(
            lambda: process.poll() is not None or "starting main dispatch loop" in log.read_text(), what="Envoy listens"
        )
        assert process.poll() is None, log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
