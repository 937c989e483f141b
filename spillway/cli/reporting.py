"""The commands of what the ledger holds: report, rollout. The work is done in `services.ledger.report`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from spillway.cli.modules import run_module
from spillway.routing import TaskType

__all__ = ["register"]

Config = Annotated[Path | None, typer.Option(help="spillway.yaml; default: as every service finds it.")]
Database = Annotated[str, typer.Option(help="The ledger's; default: ledger.database_url.")]
Logs = Annotated[list[Path] | None, typer.Option("--log", help="Decision logs instead of a ledger; repeatable.")]
Since = Annotated[str, typer.Option(help="A time (ISO 8601), or an age such as 30d or 12h; default: 30d.")]
Until = Annotated[str, typer.Option(help="The same; default: now.")]
Tenant = Annotated[str | None, typer.Option(help="Of this tenant alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(report)
    app.command()(rollout)


def report(  # noqa: PLR0917 - the options of a command are its arguments
    html: Annotated[Path | None, typer.Option(help="Write the figures as a page with plots, too.")] = None,
    export: Annotated[list[Path] | None, typer.Option(help="FILE.csv, .json or .parquet; repeatable.")] = None,
    since: Since = "",
    until: Until = "",
    tenant: Tenant = None,
    log: Logs = None,
    database: Database = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """What requests cost, what was saved, and how good the answers were, with intervals."""
    arguments = ["--html", str(html)] if html else []
    for path in export or []:
        arguments += ["--export", str(path)]
    _run("figures", [*arguments, *_shared(since, until, tenant, log, database, config, as_json)])


def rollout(
    task_type: Annotated[TaskType | None, typer.Option(help="Of this kind of work alone.")] = None,
    since: Since = "",
    until: Until = "",
    tenant: Tenant = None,
    log: Logs = None,
    database: Database = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Whether the evidence supports the next step of the rollout. Exit code 3: it does not (yet).

    Of all kinds of work that have no percentage of their own, or of one kind.
    """
    arguments = ["--task-type", task_type.value] if task_type else []
    _run("rollout", [*arguments, *_shared(since, until, tenant, log, database, config, as_json)])


def _shared(
    since: str,
    until: str,
    tenant: str | None,
    logs: list[Path] | None,
    database: str,
    config: Path | None,
    as_json: bool,
) -> list[str]:
    named = {"--since": since, "--until": until, "--database": database, "--config": str(config or "")}
    arguments = [part for name, value in named.items() if value for part in (name, value)]
    if tenant is not None:
        arguments += ["--tenant", tenant]
    for path in logs or []:
        arguments += ["--log", str(path)]
    return [*arguments, *(["--json"] if as_json else [])]


def _run(command: str, arguments: list[str]) -> None:
    if find_spec("sqlalchemy") is None or find_spec("matplotlib") is None:
        typer.echo("not installed: the report needs: pip install 'spillway[report]'", err=True)
        raise typer.Exit(2)
    run_module("services.ledger.report", command, *arguments)
