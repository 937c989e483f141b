"""`spillway status`: does each process serve, and by which version of the configuration?

Promises: asks every address of a name; a process that does not answer within `ASK_S_MAX` is shown as such, and delays
the others no longer than that. Where a configuration file is refused it says where the file is wrong, once for all
who refuse it; and what is wrong, in the words of `spillway config check`, where the file at hand is the one meant.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.runtime.config import ConfigError, load
from services.runtime.health import CONFIG_NAME, KEPT_KEY, REFUSED_KEY, VERSION_KEY, places_text
from spillway.cli.addresses import NoServiceError, addresses_of
from spillway.cli.channels import open_channel
from spillway.cli.state import read_state
from spillway.cli.terminal import open_console
from spillway.configuration.document import Problem

__all__ = [
    "ServiceHealth",
    "as_checked",
    "find_services",
    "named_file",
    "refusal_notes",
    "restart_notes",
    "service_health",
    "services_json",
    "services_view",
    "show_services",
]

ASK_S_MAX: Final = 2.0
# A connection of its own, past every proxy: what is asked is whether this process answers now.
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """One process. With an `error` it did not answer.

    `config_refused`: where the file on disk is wrong, empty when it is good; `needs_restart`: the settings of the file
    that this process does not take over while it runs.
    """

    service: str
    address: str
    serving: bool = False
    config_version: str = ""
    config_refused: str = ""
    needs_restart: tuple[str, ...] = ()
    error: str = ""


def find_services(config: Path | None, environment: Mapping[str, str], directory: Path) -> tuple[tuple[str, str], ...]:
    """Names and addresses: of the suite of this directory, else of what the configuration names.

    Raises NoServiceError.
    """
    state = read_state(directory) if config is None else None
    if state is not None:
        return tuple((one.name, one.address) for one in state.services if not one.address.startswith("http"))
    try:
        services = load(config, environment).settings.services
    except ConfigError as error:
        raise NoServiceError(str(error)) from error
    return tuple(
        (name, address)
        for name in type(services).model_fields
        for address in addresses_of(getattr(services, name).target)
    )


def named_file(config: Path | None, directory: Path) -> Path | None:
    """The configuration file of what `find_services` finds; None: the one that this process would find itself."""
    state = read_state(directory) if config is None else None
    return Path(state.config) if state is not None else config


def as_checked(file: Path | None, environment: Mapping[str, str]) -> tuple[Problem, ...]:
    """What `spillway config check` would say of the file as it is now."""
    try:
        load(file, environment)
    except ConfigError as error:
        return error.problems
    return ()


async def show_services(services: Sequence[tuple[str, str]], *, file: Path | None = None, as_json: bool) -> bool:
    """Prints how they are. Whether all serve, by a file that is good. Raises NoServiceError when none answers."""
    seen = await asyncio.gather(*(service_health(*one) for one in services))
    if all(one.error for one in seen):
        where = ", ".join(f"{one.service} at {one.address} ({one.error})" for one in seen) or "no address"
        raise NoServiceError(f"no service answers: {where}\nIs the suite running? Other addresses: --config.")
    if as_json:
        print(services_json(seen))
    else:
        refused = any(one.config_refused for one in seen)
        open_console().print(services_view(seen, as_checked(file, os.environ) if refused else ()))
    return all(one.serving and not one.config_refused for one in seen)


async def service_health(service: str, address: str) -> ServiceHealth:
    """What the process at `address` says of itself."""
    async with open_channel(address, _OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs leave the methods out
        try:
            overall = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ASK_S_MAX)
            asking = stub.Check(health_pb2.HealthCheckRequest(service=CONFIG_NAME), timeout=ASK_S_MAX)
            told = {key: str(value) for key, value in await asking.trailing_metadata() or ()}
            code = await asking.code()
        except grpc.aio.AioRpcError as error:
            return ServiceHealth(service, address, error=error.code().name.lower().replace("_", " "))
    if code not in {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}:  # an older one knows no such name
        return ServiceHealth(service, address, error=code.name.lower().replace("_", " "))
    return ServiceHealth(
        service,
        address,
        serving=overall.status == health_pb2.HealthCheckResponse.SERVING,
        config_version=told.get(VERSION_KEY, ""),
        config_refused=told.get(REFUSED_KEY, ""),
        needs_restart=tuple(filter(None, told.get(KEPT_KEY, "").split(", "))),
    )


def services_json(seen: Sequence[ServiceHealth]) -> str:
    """All that is known, for programs."""
    return json.dumps({"services": [asdict(one) for one in seen]}, indent=2, ensure_ascii=False)


def services_view(seen: Sequence[ServiceHealth], problems: Sequence[Problem] = ()) -> RenderableType:
    """A row for each process, and below what is to be done. `problems` are those of the file at hand."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("service", "address", "state", "configuration"):
        table.add_column(name, no_wrap=True)
    for one in seen:
        table.add_row(Text(one.service, style="bold"), Text(one.address), _state(one), Text(one.config_version))
    notes = [*refusal_notes(seen, problems), *restart_notes(seen)]
    versions = {one.config_version for one in seen if one.config_version}
    if len(versions) > 1:
        notes.append(Text(f"{len(versions)} versions of the configuration are in force", "yellow"))
    return Group(table, *notes)


def refusal_notes(seen: Sequence[ServiceHealth], problems: Sequence[Problem] = ()) -> list[Text]:
    """Who refuses the file and why, once for all who say the same. `problems` stand in for the places that a process
    tells, which has no words for them, where they are of the same places."""
    notes: list[Text] = []
    for places, names in _together((one.config_refused, one.service) for one in seen):
        notes.append(Text(f"{names}: the file is refused, the version in force stays", "red"))
        are_meant = bool(problems) and places_text(problems) == places
        notes += [Text(f"  {said}", "red") for said in (map(str, problems) if are_meant else places.split("; "))]
    return notes


def restart_notes(seen: Sequence[ServiceHealth]) -> list[Text]:
    """Who needs a restart for what, once for all who need it for the same."""
    told = _together((", ".join(one.needs_restart), one.service) for one in seen)
    return [Text(f"{names}: needs a restart for {paths}", "yellow") for paths, names in told]


def _together(told: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What was said, if anything, with the names of all who said it."""
    names: dict[str, list[str]] = {}
    for what, name in told:
        if what:
            names.setdefault(what, []).append(name)
    return [(what, ", ".join(who)) for what, who in names.items()]


def _state(one: ServiceHealth) -> Text:
    if one.error:
        return Text(f"no answer: {one.error}", "red")
    return Text("serving", "green") if one.serving else Text("not serving", "yellow")
