"""The suite as the production overlay has it: two of each service behind names, as headless Services, on one machine.

Replica N of every service listens on 127.0.0.(N+1), at the service's own port; a DNS server of our own says which
replicas a name has. An orchestrator has a port for health checks besides. PostgreSQL and Redis are real and not ours.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.name_server import NameServer
from tests.support.processes import Process
from tests.support.redis_server import free_port
from tests.support.scrape import scrape
from tests.support.suite import LEAVES, Suite

__all__ = ["CONNECTION_AGE_S", "REPLICAS", "SERVICES", "Cluster"]

SERVICES: Final = (*LEAVES, "ledger", "orchestrator")
REPLICAS: Final = 2
CONNECTION_AGE_S: Final = float(os.environ.get("SPILLWAY_CONNECTION_AGE_S", "4"))
"""Of limits.connection_age_s, which is five minutes by default: nobody is to wait for that."""
FRONT_DRAIN_S: Final = 4.0
"""Of orchestrators, which are watched by others than gRPC's clients too: a balancer only asks now and then."""
STARTING_MAX: Final = 2
"""Processes that start at the same time: more make each of them slow, and all of them no quicker."""


class Cluster(Suite):
    """Starts everything in `__enter__`; replicas are called "executor-1", "executor-2", …"""

    def __init__(self, folder: Path, names: NameServer, *, redis_url: str, database_url: str) -> None:
        self.names = names
        self.ports = {service: free_port() for service in SERVICES}
        self.health_port = free_port()
        """Of the orchestrators."""
        services = {
            service: {"listen": f"127.0.0.1:{port}", "target": names.target(service, port)}
            for service, port in self.ports.items()
        }
        shared: dict[str, Any] = {
            "services": services,
            "orchestrator": {"redis_url": redis_url, "redis_timeout_s": 5.0},
            "cache": {"store": "redis", "redis_url": redis_url},
            "executor": {"share_redis_url": redis_url},
            "ledger": {"enabled": True, "database_url": database_url},
            "limits": {"drain_s": 0.5, "grace_s": 30, "connection_age_s": CONNECTION_AGE_S},
            "telemetry": {"prometheus_listen": "127.0.0.1:0"},
        }
        super().__init__(folder, config=shared, ledger=True)

    @property
    def target(self) -> str:
        """Of all orchestrators."""
        return self.names.target("orchestrator", self.ports["orchestrator"])

    def replicas(self, service: str) -> list[str]:
        """The names of those that were started."""
        return sorted(name for name in self.processes if name.startswith(f"{service}-"))

    def add(self, *names: str) -> None:
        """Starts replicas, and has their services' names say so once they serve."""
        waiting = iter(names)
        while some := tuple(itertools.islice(waiting, STARTING_MAX)):
            started = {name: self.launch(name, listen=self._place(name)) for name in some}
            for name, process in started.items():
                ready = process.ready()
                self.addresses[name] = str(ready["listen"])
                self.scraped[name] = str(ready["prometheus_listen"])
        self._publish(names)

    def remove(self, *names: str) -> None:
        """Takes them out of their services' names, and ends them."""
        ended = {name: self.processes.pop(name) for name in names}
        self._publish(names)
        with ThreadPoolExecutor(len(ended)) as together:
            codes = list(together.map(Process.stop, ended.values()))
        assert [(name, ended[name].log()[-2_000:]) for name, code in zip(ended, codes, strict=True) if code != 0] == []

    def served(self, service: str, *methods: str) -> dict[str, float]:
        """Replica -> calls of these methods that it has answered since it started."""
        found = scrape((name, self.scraped[name]) for name in self.replicas(service))
        counts = dict.fromkeys(found, 0.0)
        for name, metrics in found.items():
            calls = metrics.get("rpc_server_duration_seconds")
            for labels, value in calls.values if calls else ():
                if labels.get("rpc_method") in methods and labels.get("le") == "+Inf":
                    counts[name] += value
        return counts

    def stop(self) -> None:
        """The fronts first, so that nothing asks a service that is gone; then everything at once."""
        fronts = self.replicas("orchestrator")
        for names in (fronts, [name for name in self.processes if name not in fronts]):
            with ThreadPoolExecutor(len(self.processes) or 1) as together:
                list(together.map(Process.stop, [self.processes[name] for name in names]))

    def _start(self) -> None:
        self._start_sandbox()
        replicas = [f"{service}-{number + 1}" for service in SERVICES for number in range(REPLICAS)]
        for service in SERVICES:  # before anybody asks: who is told of no such name asks again after seconds only
            self.names.set(service, [self._host(f"{service}-{number + 1}") for number in range(REPLICAS)])
        self.add(*replicas)

    def _write_config(self, name: str = "") -> Path:
        path = super()._write_config(name)
        if not name.startswith("orchestrator-"):
            return path
        config = yaml.safe_load(path.read_text())
        config["tls"] = {"health_listen": f"{self._host(name)}:{self.health_port}"}
        config["limits"]["drain_s"] = FRONT_DRAIN_S
        own = self.folder / f"{name}.yaml"
        own.write_text(yaml.safe_dump(config))
        return own

    def _host(self, name: str) -> str:
        return f"127.0.0.{int(name.partition('-')[2]) + 1}"

    def _place(self, name: str) -> str:
        return f"{self._host(name)}:{self.ports[name.partition('-')[0]]}"

    def _publish(self, changed: Iterable[str]) -> None:
        for service in {name.partition("-")[0] for name in changed}:
            self.names.set(service, map(self._host, self.replicas(service)))
