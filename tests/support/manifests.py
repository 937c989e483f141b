"""The rendered overlays, and what is asked of them by name."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.runtime.config import parse
from spillway.settings import Settings
from tests.support.processes import REPOSITORY

__all__ = ["K8S", "OVERLAYS", "SERVICES", "TOOLS", "Rendered", "port_of", "render", "settings_of"]

K8S = REPOSITORY / "deploy" / "k8s"
TOOLS = REPOSITORY / ".spillway" / "tools"
OVERLAYS = ("dev", "production", "autoscaling", "autoscaling-cpu", "mtls", "monitoring")
SERVICES = ("orchestrator", "classifier", "cache", "executor", "ledger")

Labels = dict[str, str]
Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One overlay as kustomize renders it."""

    name: str
    text: str
    resources: tuple[Resource, ...]

    def of(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] == kind]

    def get(self, kind: str, name: str) -> Resource:
        (found,) = [resource for resource in self.of(kind) if resource["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[Resource, Resource]]:
        """Every workload with the spec of its pods."""
        for resource in self.resources:
            if resource["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
                yield resource, resource["spec"]["template"]["spec"]

    def config(self, name: str = "spillway-config", key: str = "spillway.yaml") -> str:
        text: str = self.get("ConfigMap", name)["data"][key]
        return text


@functools.cache
def render(overlay: str) -> Rendered:
    """`kubectl apply -k deploy/k8s/overlays/OVERLAY`, up to the sending. Needs scripts/deploy-tools."""
    tool = os.environ.get("KUSTOMIZE", str(TOOLS / "bin" / "kustomize"))
    folder: Path = K8S / "base" if overlay == "base" else K8S / "overlays" / overlay
    done = subprocess.run([tool, "build", str(folder)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a deprecation is a failure of the next version
    return Rendered(overlay, done.stdout, tuple(yaml.safe_load_all(done.stdout)))


def settings_of(rendered: Rendered) -> Settings:
    """The configuration that an overlay mounts, checked."""
    return parse(rendered.config().encode(), Path("spillway.yaml"), {}).settings


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
