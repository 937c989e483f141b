"""`spillway job`: long work, queued, looked at, waited for and stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from spillway.cli import asking
from spillway.cli.certificates import adopt
from spillway.cli.modules import run_module
from spillway.cli.show import completion_view
from spillway.cli.terminal import harmless_json, open_console
from spillway.client import Client
from spillway.routing import Job, JobState, RoutingOptions, Strategy
from spillway.wire import job_to_proto

__all__ = ["job_view", "register"]

Target = Annotated[
    str,
    typer.Option(help="Address of the orchestrator; default: $SPILLWAY_TARGET, the suite of this directory, 50051."),
]
Tenant = Annotated[str, typer.Option(help="Whose job it is.")]
JobId = Annotated[str, typer.Argument(help="The id that submit printed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job, or the error, as JSON; one line a state.")]

Run = Callable[..., None]
Work = Callable[[Client, Console], None]

_STYLES = {
    JobState.QUEUED: "dim",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "bold green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}


def register(app: typer.Typer, run: Run, read_text: Callable[[str], str]) -> None:
    """Adds `job`. `run` runs a command that talks to the suite, `read_text` reads a prompt."""
    job_app = typer.Typer(help="Long work: submit it, watch it, stop it.", no_args_is_help=True)
    app.add_typer(job_app, name="job")

    @job_app.command()
    def submit(
        prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
        webhook: Annotated[str, typer.Option(help="An https URL to be told of the end.")] = "",
        job_timeout_s: Annotated[
            float | None, typer.Option("--job-timeout", min=0.001, max=86_400, help="Seconds, waiting included.")
        ] = None,
        strategy: Annotated[Strategy | None, typer.Option(help="How to walk the tiers.")] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Watch it to its end.")] = False,
        tenant: Tenant = "",
        as_json: AsJson = False,
        target: Target = "",
    ) -> None:
        """Queue a prompt, and print the job's id."""

        def work(client: Client, console: Console) -> None:
            options = RoutingOptions(strategy=strategy)
            job = client.submit_job(
                read_text(prompt), options=options, webhook_url=webhook, job_timeout_s=job_timeout_s
            )
            if wait:
                _watch(client, console, job.job_id, as_json=as_json)
            elif as_json:
                _print_json(job)
            else:
                console.out(job.job_id, highlight=False)

        run(lambda: _with_client(work, target, tenant), as_json=as_json)

    @job_app.command()
    def get(job_id: JobId, tenant: Tenant = "", as_json: AsJson = False, target: Target = "") -> None:
        """Show a job as it is now; with its answer once it has succeeded."""

        def work(client: Client, console: Console) -> None:
            _print(client.get_job(job_id), console, as_json=as_json)

        run(lambda: _with_client(work, target, tenant), as_json=as_json)

    @job_app.command()
    def watch(job_id: JobId, tenant: Tenant = "", as_json: AsJson = False, target: Target = "") -> None:
        """Show each change of a job until it has ended. Exit code 1 unless it succeeded."""

        def work(client: Client, console: Console) -> None:
            _watch(client, console, job_id, as_json=as_json)

        run(lambda: _with_client(work, target, tenant), as_json=as_json)

    @job_app.command()
    def cancel(job_id: JobId, tenant: Tenant = "", as_json: AsJson = False, target: Target = "") -> None:
        """Stop a job; one that has ended stays as it ended."""

        def work(client: Client, console: Console) -> None:
            _print(client.cancel_job(job_id), console, as_json=as_json)

        run(lambda: _with_client(work, target, tenant), as_json=as_json)

    @job_app.command()
    def dead(
        config: Annotated[Path | None, typer.Option(help="spillway.yaml; default: as every service finds it.")] = None,
        count: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    ) -> None:
        """List jobs of all tenants that failed, the latest first, as JSON lines. For who can reach Redis."""
        where = ["--config", str(config)] if config else []
        run_module("services.orchestrator.jobs.dead_letters", *where, "--count", str(count))


def job_view(job: Job) -> RenderableType:
    """A job as a person reads it; not the answer itself."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    rows.add_row("job", job.job_id)
    rows.add_row("state", _state(job))
    rows.add_row("submitted", _time(job.submitted_at_unix_s))
    rows.add_row("changed", _time(job.changed_at_unix_s))
    rows.add_row("tries", str(job.tries))
    if job.expires_at_unix_s is not None:
        rows.add_row("kept until", _time(job.expires_at_unix_s))
    for delivery in job.deliveries:
        became = delivery.error or "delivered"
        status = f", HTTP {delivery.status}" if delivery.status else ""
        rows.add_row("webhook", f"{_time(delivery.at_unix_s)}  {became}{status}")
    return rows if job.completion is None else Group(rows, "", completion_view(job.completion))


def _with_client(work: Work, target: str, tenant: str) -> None:
    where = asking.find_suite(target, "", os.environ, Path.cwd())
    adopt(where.certificates)
    with Client(where.target, tenant=tenant) as client:
        work(client, open_console())


def _watch(client: Client, console: Console, job_id: str, *, as_json: bool) -> None:
    job: Job | None = None
    for job in client.watch_job(job_id):
        if as_json:
            _print_json(job)
        elif not job.state.has_ended:
            open_console(remarks=True).print(Text(f"{job.job_id}  ").append(_state(job)), soft_wrap=True)
    if job is not None and not as_json:
        _print(job, console, as_json=False)
    if job is None or job.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


def _print(job: Job, console: Console, *, as_json: bool) -> None:
    if as_json:
        _print_json(job)
        return
    if job.completion is not None and job.completion.text:
        console.out(job.completion.text, highlight=False)
    console.print(job_view(job))


def _print_json(job: Job) -> None:
    text = MessageToJson(job_to_proto(job), preserving_proto_field_name=True, ensure_ascii=False, indent=None)
    print(harmless_json(text), flush=True)


def _state(job: Job) -> Text:
    text = Text(job.state.value, style=_STYLES[job.state])
    if job.error_reason:
        text.append(f"  {job.error_reason}: {job.error_message}", style="default")
    return text


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
