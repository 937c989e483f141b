"""What `spillway up` is to run: which processes, where they listen, with which configuration and environment.

Promises: decides all of it before anything starts, and refuses what cannot work (a configuration that does not follow
the chosen addresses, a taken port) with a sentence that says what to do. Looks at ports and files; starts nothing.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from services.runtime.config import ConfigError, load
from spillway.cli.certificates import CertificatesError, certificates_of_caller
from spillway.cli.probes import answers_grpc
from spillway.cli.suite_notes import KEY_VARIABLE, answerer_notes, key_notes, model_notes, price_notes
from spillway.cli.suite_sandbox import module_command, sandbox_process, traces_process
from spillway.cli.supervisor import Liveness, ProcessSpec
from spillway.settings import Settings

__all__ = ["THREADS", "Suite", "SuiteError", "SuiteOptions", "check_addresses", "plan_suite"]

HOST = "127.0.0.1"
SERVICES = ("orchestrator", "classifier", "cache", "executor", "ledger")
FIXED_PORTS = {"orchestrator": 50051, "classifier": 50052, "cache": 50053, "executor": 50054, "ledger": 50055}
# Further executors of a fixed suite: 50154, 50254, …
EXECUTOR_PORT_STEP = 100
EXECUTORS_MAX = 16
SANDBOX_PORT, SANDBOX_OTLP_PORT = 50080, 50081
# Below the range from which the kernel takes ports for outgoing connections, so that nobody else takes one meanwhile.
FREE_PORTS = range(15_000, 32_000)
FREE_PORT_TRIES = 200
URL_VARIABLE, OTLP_VARIABLE = "OPENAI_BASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"
CONFIG_VARIABLE = "SPILLWAY_CONFIG"
# The front first, so that nothing new comes in; what answers it next; what answers those last.
STOP_RANKS = {"orchestrator": 0, "classifier": 1, "cache": 1, "executor": 1, "ledger": 1}
# A library that only the service's own extra brings.
EXTRAS = {
    "classifier": "onnxruntime",
    "cache": "faiss",
    "executor": "jsonschema_rs",
    "ledger": "sqlalchemy",
    "sandbox": "starlette",
}
# The products that numpy and FAISS are asked for are small: threads that wait for each other cost more than they bring
# (docs/deployment.md has figures). Models and large searches have threads of their own. As in deploy/docker/Dockerfile.
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class SuiteError(Exception):
    """The suite cannot be started as asked. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """What was asked. `sandbox` None: when there is neither a key nor a provider's URL, and no configuration named."""

    config: Path | None = None
    executors: int = 1
    recorded: tuple[Path, ...] = ()
    sandbox: bool | None = None
    free_ports: bool = False
    otlp_url: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What is to run. `trace_query_url` is empty without a trace store; `notes` are to be shown.

    `certificates`: authority, certificate and key to call it with; none where it takes no TLS or the environment names
    others.
    """

    processes: tuple[ProcessSpec, ...]
    settings: Settings
    config_path: Path
    target: str
    trace_query_url: str
    sandbox: bool
    notes: tuple[str, ...]
    certificates: tuple[str, ...] = ()

    @property
    def stop_timeout_s(self) -> float:
        """How long one service may take to end."""
        return self.settings.limits.drain_s + self.settings.limits.grace_s + 2


def plan_suite(options: SuiteOptions, environment: Mapping[str, str], home: Path) -> Suite:
    """Decide all of it. Raises SuiteError."""
    if not 1 <= options.executors <= EXECUTORS_MAX:
        raise SuiteError(f"--executors is 1 to {EXECUTORS_MAX}")
    missing = [path for path in options.recorded if not path.is_file()]
    if missing:
        raise SuiteError(f"no such file: {', '.join(str(path) for path in missing)}")
    with_sandbox = _with_sandbox(options, environment)
    _check_installed(with_sandbox=with_sandbox)
    ports = _Ports(free=options.free_ports)
    variables = THREADS | dict(environment)
    if options.otlp_url:
        variables[OTLP_VARIABLE] = options.otlp_url
    keeps_traces = not variables.get(OTLP_VARIABLE) and (with_sandbox or _is_installed("sandbox"))
    url = f"http://{HOST}:{ports.take(SANDBOX_PORT)}" if with_sandbox or keeps_traces else ""
    otlp_port = ports.take(SANDBOX_OTLP_PORT) if keeps_traces else None
    if with_sandbox:
        variables |= {URL_VARIABLE: f"{url}/v1", KEY_VARIABLE: "sandbox"}  # a real key stays out of it
    if otlp_port is not None:
        variables[OTLP_VARIABLE] = f"http://{HOST}:{otlp_port}"
    executors = _addresses(options, variables, ports)
    settings, path = _load(options, variables)
    if with_sandbox and not any(one.base_url == variables[URL_VARIABLE] for one in settings.providers.values()):
        raise SuiteError(
            f"{path} has no provider at the sandbox: write ${{{URL_VARIABLE}}} as a base_url there, "
            "or leave out --sandbox"
        )
    if settings.telemetry.otlp_endpoint not in {"", variables.get(OTLP_VARIABLE)}:
        otlp_port = None  # the file names a collector of its own
    helpers: list[ProcessSpec] = []
    if with_sandbox:
        helpers = [sandbox_process(url, recorded=options.recorded, otlp_port=otlp_port, environment=environment)]
    elif otlp_port is not None:
        helpers = [traces_process(url, otlp_port, environment)]
    services = _services(options, settings, path, variables, executors)
    return Suite(
        processes=(*services, *helpers),
        settings=settings,
        config_path=path,
        target=settings.services.orchestrator.target,
        trace_query_url=settings.telemetry.query_url or (url if otlp_port is not None else ""),
        sandbox=with_sandbox,
        notes=(
            *answerer_notes(options.recorded, with_sandbox=with_sandbox, is_asked_for=options.sandbox is not None),
            *model_notes(settings, variables, home),
            *key_notes(settings, variables),
            *price_notes(settings, path),
        ),
        certificates=_certificates(settings, services, environment),
    )


def check_addresses(suite: Suite) -> None:
    """Raises SuiteError when another process already listens where one of the suite is to."""
    for spec in suite.processes:
        host, _, port = spec.address.removeprefix("http://").rpartition(":")
        if port.isdigit() and int(port) and host and not _is_free(host.strip("[]"), int(port)):
            raise SuiteError(f"{spec.address} ({spec.name}) is in use; stop what listens there, or use --ports free")


def _check_installed(*, with_sandbox: bool) -> None:
    missing = [name for name in EXTRAS if (with_sandbox or name != "sandbox") and not _is_installed(name)]
    if missing:
        raise SuiteError(f"not installed: {', '.join(missing)}. Install all services with: pip install 'spillway[all]'")


def _is_installed(extra: str) -> bool:
    return find_spec(EXTRAS[extra]) is not None


def _with_sandbox(options: SuiteOptions, environment: Mapping[str, str]) -> bool:
    if options.sandbox is not None:
        if options.recorded and not options.sandbox:
            raise SuiteError("--recorded is served by the sandbox: leave out --no-sandbox")
        return options.sandbox
    if options.recorded:
        return True
    named = options.config or environment.get(CONFIG_VARIABLE) or Path("spillway.yaml").is_file()
    return not named and not environment.get(KEY_VARIABLE) and not environment.get(URL_VARIABLE)


def _addresses(options: SuiteOptions, variables: dict[str, str], ports: _Ports) -> list[str]:
    """Choose an address for each service and set the variables that the packaged configurations read.

    Returns the executors' addresses. What the caller's environment says is left as it is, unless ports are free.
    """
    for name in SERVICES:
        listen, target = (f"SPILLWAY_{name.upper()}_{what}" for what in ("LISTEN", "TARGET"))
        if options.free_ports or not variables.get(listen):
            variables[listen] = variables[target] = f"{HOST}:{ports.take(FIXED_PORTS[name])}"
        else:
            variables.setdefault(target, variables[listen])
    steps = (FIXED_PORTS["executor"] + number * EXECUTOR_PORT_STEP for number in range(1, options.executors))
    executors = [variables["SPILLWAY_EXECUTOR_LISTEN"], *(f"{HOST}:{ports.take(port)}" for port in steps)]
    if len(executors) > 1:
        variables["SPILLWAY_EXECUTOR_TARGET"] = "ipv4:" + ",".join(executors)
    return executors


def _load(options: SuiteOptions, variables: Mapping[str, str]) -> tuple[Settings, Path]:
    path = options.config
    if path is None and options.recorded:
        path = Path(str(resources.files("spillway") / "configs" / "replay.yaml"))
    try:
        loaded = load(path, variables)
    except ConfigError as error:
        raise SuiteError(str(error)) from error
    return loaded.settings, loaded.path.resolve()


def _services(
    options: SuiteOptions, settings: Settings, path: Path, variables: Mapping[str, str], executors: list[str]
) -> list[ProcessSpec]:
    specs = []
    for name in SERVICES:
        if name == "ledger" and not settings.ledger.enabled:
            continue
        address = getattr(settings.services, name)
        follows = address.listen == variables[f"SPILLWAY_{name.upper()}_LISTEN"]
        if options.free_ports and not follows:
            raise SuiteError(
                f"{path} fixes services.{name}.listen to {address.listen}: use --ports fixed, or write "
                f"${{SPILLWAY_{name.upper()}_LISTEN:-{address.listen}}} there"
            )
        listens = [address.listen]
        if name == "executor" and len(executors) > 1:
            if not follows or address.target != variables["SPILLWAY_EXECUTOR_TARGET"]:
                raise SuiteError(
                    f"{path} fixes services.executor: for more than one, write ${{SPILLWAY_EXECUTOR_LISTEN}} as listen "
                    "and ${SPILLWAY_EXECUTOR_TARGET} as target there"
                )
            listens = executors
        specs += [
            ProcessSpec(
                name=name if number == 1 else f"{name}-{number}",
                command=module_command(f"services.{name}", "--config", str(path), "--listen", listen),
                environ=variables,
                address=listen,
                stop_rank=STOP_RANKS[name],
                liveness=Liveness(answers_grpc),
            )
            for number, listen in enumerate(listens, start=1)
        ]
    return specs


def _certificates(settings: Settings, services: list[ProcessSpec], environment: Mapping[str, str]) -> tuple[str, ...]:
    names = [spec.name for spec in services if spec.name in SERVICES]
    try:
        return certificates_of_caller(settings.tls, names, environment)
    except CertificatesError as error:
        raise SuiteError(str(error)) from error


class _Ports:
    """Hands out ports: the given ones, or free ones, none twice."""

    def __init__(self, *, free: bool) -> None:
        self._free = free
        self._taken: set[int] = set()

    def take(self, fixed: int) -> int:
        if not self._free:
            return fixed
        for port in random.sample(FREE_PORTS, FREE_PORT_TRIES):
            if port not in self._taken and _is_free(HOST, port):
                self._taken.add(port)
                return port
        raise SuiteError("no free port found")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False
