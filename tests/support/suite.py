"""The whole suite as a user runs it: a sandbox provider and every service as processes of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from spillway.client import Client
from tests.support.processes import Process

__all__ = ["LADDER", "Suite"]

PRICES = {
    "small-1": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4},
    "small-2": {"input_usd_per_mtok": 0.2, "output_usd_per_mtok": 0.6},
    "large-1": {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0},
}


def _target(name: str) -> dict[str, Any]:
    return {"name": name, "provider": "sandbox", "model": name, "price": PRICES[name]}


# Two rungs, the lower one with a stand-in and a gate: enough to accept, escalate and fall back.
LADDER: dict[str, Any] = {
    "tiers": [
        {
            "name": "simple",
            "targets": [_target("small-1"), _target("small-2")],
            "gates": [{"kind": "self_confidence", "threshold": 3}],
            "attempt_timeout_s": 20,
        },
        {"name": "complex", "targets": [_target("large-1")], "attempt_timeout_s": 60},
    ],
    "policy": {"start_tier": {"simple": "simple", "medium": "simple", "complex": "simple"}, "confidence_bump": {}},
}

LEAVES = ("classifier", "cache", "executor")


class Suite:
    """Starts everything in `__enter__`, stops everything in `__exit__`; single services can be killed and restarted.

    With `ledger` there is one, on a file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        executors: int = 1,
        otlp_endpoint: str = "",
        sandbox_args: tuple[str, ...] = (),
        ledger: bool = False,
    ) -> None:
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.addresses: dict[str, str] = {}
        self.scraped: dict[str, str] = {}
        """Where each process's metrics are, with `telemetry.prometheus_listen` in `config`."""
        self._overrides = copy.deepcopy(dict(config or {}))
        self._executors = executors
        self._otlp_endpoint = otlp_endpoint
        self._sandbox_args = sandbox_args
        self._leaves = (*LEAVES, "ledger") if ledger else LEAVES

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def target(self) -> str:
        """The orchestrator's address."""
        return self.addresses["orchestrator"]

    @property
    def decision_log(self) -> Path:
        return self.folder / "decisions.jsonl"

    def client(self, **options: Any) -> Client:
        return Client(self.target, **options)

    def script(self, models: Mapping[str, list[dict[str, Any]]]) -> None:
        """What the sandbox does from now on; also empties its journal."""
        with httpx.Client(base_url=self.addresses["sandbox"], timeout=10, trust_env=False) as http:
            http.put("/sandbox/script", json={"models": dict(models)}).raise_for_status()
            http.delete("/sandbox/calls").raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        """The sandbox's journal since the last script."""
        with httpx.Client(base_url=self.addresses["sandbox"], timeout=10, trust_env=False) as http:
            calls: list[dict[str, Any]] = http.get("/sandbox/calls").raise_for_status().json()["calls"]
            return calls

    def start(self, name: str, *, listen: str = "127.0.0.1:0") -> str:
        """Starts one service ("executor", "executor-2", …), waits until it serves, and gives its address."""
        ready = self.launch(name, listen=listen).ready()
        self.addresses[name] = str(ready["listen"])
        if "prometheus_listen" in ready:
            self.scraped[name] = str(ready["prometheus_listen"])
        return self.addresses[name]

    def launch(self, name: str, *, listen: str) -> Process:
        """Starts one service and does not wait for it."""
        module = "services." + name.partition("-")[0]
        args = ["--config", str(self._write_config(name)), "--listen", listen]
        process = Process(module, args, {"OTEL_BSP_SCHEDULE_DELAY": "100"}, self.folder / f"{name}.log")
        self.processes[name] = process
        return process

    def restart(self, name: str) -> None:
        """Starts a killed service again, at the same address."""
        self.start(name, listen=self.addresses[name])

    def stop(self) -> None:
        # The front first, so that nothing asks a service that is gone.
        for process in reversed(list(self.processes.values())):
            process.stop()

    def _start(self) -> None:
        self._start_sandbox()
        for name in self._leaves:
            self.start(name)
        for number in range(2, self._executors + 1):
            self.start(f"executor-{number}")
        self.start("orchestrator")

    def _start_sandbox(self) -> None:
        sandbox = Process("services.sandbox", ["--port", "0", *self._sandbox_args], {}, self.folder / "sandbox.log")
        self.processes["sandbox"] = sandbox
        ready = sandbox.ready()
        self.addresses["sandbox"] = str(ready["url"])
        if "otlp_endpoint" in ready:  # with --otlp-port
            self.addresses["sandbox_otlp"] = str(ready["otlp_endpoint"])

    def _write_config(self, name: str) -> Path:
        executors = [address for name, address in self.addresses.items() if name.startswith("executor")]
        services = {name: _address(self.addresses.get(name, "127.0.0.1:1")) for name in ("orchestrator", *self._leaves)}
        services["executor"]["target"] = "ipv4:" + ",".join(executors or ["127.0.0.1:1"])
        base: dict[str, Any] = {
            "version": 1,
            "providers": {"sandbox": {"base_url": self.addresses["sandbox"] + "/v1"}},
            **LADDER,
            # Time enough on a machine that does much else: what is tested is the path, not its speed.
            "orchestrator": {
                "decision_log": str(self.decision_log),
                "cache_timeout_s": 5.0,
                "classifier_timeout_s": 10.0,
            },
            "services": services,
            "ledger": {
                "enabled": "ledger" in self._leaves,
                "database_url": f"sqlite:///{self.folder / 'ledger.sqlite'}",
            },
            "limits": {"drain_s": 0.2, "grace_s": 5},
            # One answer in twenty would cost calls of models that a test did not ask for.
            "canary": {"share": 0.0},
            "telemetry": {"otlp_endpoint": self._otlp_endpoint, "export_interval_s": 0.1},
        }
        for section, values in self._overrides.items():
            merged = {**base.get(section, {}), **values} if isinstance(values, Mapping) else values
            base[section] = merged
        path = self.folder / "spillway.yaml"
        path.write_text(yaml.safe_dump(base))
        return path


def _address(address: str) -> dict[str, str]:
    return {"listen": address, "target": address}
