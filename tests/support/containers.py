"""Containers of the services' images for tests: podman, the host's network, loopback alone.

A container runs as a cluster would run it: its root file system read-only, no capability, no new privileges, no scratch
space that was not asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import wait_until

__all__ = ["USER", "Container"]

USER = 65532
READY_WAIT_S = 120.0
PODMAN_S = 60.0


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], check=False, capture_output=True, text=True, timeout=PODMAN_S)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done.stdout


class Container:
    """One `spillway/SERVICE` that prints a JSON line when it is ready. `volumes`: host folder -> place, writable."""

    def __init__(
        self,
        service: str,
        *,
        folder: Path,
        config: Path | None = None,
        arguments: Sequence[str] = (),
        volumes: Mapping[Path, str] | None = None,
    ) -> None:
        self.service = service
        # As `scripts/images --probe` found it: cgroups of both versions at once are known to runc alone, and no cgroups
        # at all to crun.
        oci = os.environ.get("SPILLWAY_RUNTIME") or ("runc" if shutil.which("runc") else "")
        runtime = ["--runtime", oci] if oci else []
        options = ["--cgroups", "disabled"] if oci == "crun" else []
        options += ["--detach", "--pull", "never", "--network", "host", "--read-only", "--read-only-tmpfs=false"]
        options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--log-driver", "k8s-file"]
        options += ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
        if config is not None:
            options += ["--volume", f"{config.parent}:/etc/spillway:ro"]
        for place, inside in (volumes or {}).items():
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, USER, USER)
            options += ["--volume", f"{place}:{inside}"]
        self.id = _podman(*runtime, "run", *options, f"docker.io/spillway/{service}:0.1.0", *arguments).strip()
        self._log = folder / f"{service}.log"

    def ready(self) -> dict[str, Any]:
        """The line of the process when it serves."""
        line: str = wait_until(self._first_line, what=f"{self.service} serves", within_s=READY_WAIT_S)
        found: dict[str, Any] = json.loads(line)
        return found

    def _first_line(self) -> str:
        assert self.state()["Running"], self.logs()
        return next((line for line in self.logs().splitlines() if '"serving"' in line or '"ready"' in line), "")

    def logs(self) -> str:
        """All that it has written, standard output and error."""
        done = subprocess.run(["podman", "logs", self.id], check=False, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    def inspect(self) -> dict[str, Any]:
        """What podman knows of it."""
        found: dict[str, Any] = json.loads(_podman("inspect", self.id))[0]
        return found

    def state(self) -> dict[str, Any]:
        """Running, Pid, ExitCode."""
        found: dict[str, Any] = self.inspect()["State"]
        return found

    def changed(self) -> list[str]:
        """What differs in its own file system from the image's, but for places where podman mounts something."""
        mounts = {str(mount["Destination"]) for mount in self.inspect()["Mounts"]} | {
            "/etc/hosts",
            "/run/.containerenv",
        }
        lines = [line.split(" ", 1) for line in _podman("diff", self.id).splitlines()]
        return [path for _, path in lines if not any(m == path or m.startswith(path + "/") for m in mounts)]

    def terminate(self, within_s: float) -> int:
        """SIGTERM to its first process; the exit status, or an AssertionError when it has not ended in time."""
        if self.state()["Running"]:
            _podman("kill", "--signal", "TERM", self.id)
        wait_until(lambda: not self.state()["Running"], what=f"{self.service} ends", within_s=within_s)
        return int(self.state()["ExitCode"])

    def remove(self) -> None:
        """Ends it, whatever it does, and forgets it."""
        self._log.write_text(self.logs())
        subprocess.run(
            ["podman", "rm", "--force", "--time", "0", self.id], check=False, capture_output=True, timeout=60
        )
