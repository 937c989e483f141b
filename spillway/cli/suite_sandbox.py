"""The built-in sandbox as a process of the suite: the provider of models, the store of traces, or both.

Promises: starts nothing. Where real models answer, the process that keeps traces serves no model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from spillway.cli.probes import answers_http
from spillway.cli.supervisor import Liveness, ProcessSpec

__all__ = ["SANDBOX_STOP_RANK", "module_command", "sandbox_process", "traces_process"]

# After all that calls it.
SANDBOX_STOP_RANK: Final = 2


def sandbox_process(
    url: str, *, recorded: Sequence[Path], otlp_port: int | None, environment: Mapping[str, str]
) -> ProcessSpec:
    """A provider at `url`, of `recorded` answers or of its examples; with `otlp_port` it keeps traces as well."""
    arguments: list[str] = []
    for path in recorded:
        arguments += ["--recorded", str(path.resolve())]
    if otlp_port is not None:
        arguments += ["--otlp-port", str(otlp_port)]
    return _process("sandbox", url, arguments, environment)


def traces_process(url: str, otlp_port: int, environment: Mapping[str, str]) -> ProcessSpec:
    """A store of traces, which are read at `url`, and nothing else."""
    return _process("traces", url, ["--traces-only", "--otlp-port", str(otlp_port)], environment)


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """How a module of the suite is started."""
    # -P: a directory named `services` where the user happens to be must not shadow ours.
    return (sys.executable, "-P", "-m", module, *arguments)


def _process(name: str, url: str, arguments: Sequence[str], environment: Mapping[str, str]) -> ProcessSpec:
    host, port = url.removeprefix("http://").split(":")
    return ProcessSpec(
        name=name,
        command=module_command("services.sandbox", "--host", host, "--port", port, *arguments),
        environ=environment,
        address=url,
        ready_event="ready",
        stop_rank=SANDBOX_STOP_RANK,
        liveness=Liveness(answers_http),
    )
