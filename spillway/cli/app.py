"""The commands of `spillway`: reads the command line, calls the modules beside this one, prints.

Answers go to standard output, remarks and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import os
import sys
from enum import StrEnum
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from spillway.cli import asking, cache, cost, jobs, keys, learning, modules, replaying, reporting
from spillway.cli.addresses import find_addresses
from spillway.cli.breakers import show_breakers
from spillway.cli.certificates import adopt
from spillway.cli.health import find_services, named_file, show_services
from spillway.cli.state import AlreadyRunningError, learned_in, read_state
from spillway.cli.suite import SuiteError, SuiteOptions, check_addresses, plan_suite
from spillway.cli.terminal import open_console
from spillway.cli.up import run_suite
from spillway.routing import CacheMode, RoutingOptions, Strategy

__all__ = ["app"]

app = typer.Typer(
    name="spillway",
    help="Routes each LLM request to the cheapest model that can answer it, and proves that the answer is good enough.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(modules.config_app, name="config")
app.add_typer(learning.calibrate_app, name="calibrate")
app.add_typer(modules.model_app, name="model")
app.add_typer(keys.app, name="keys")


class Ports(StrEnum):
    """How `up` chooses addresses."""

    FIXED = "fixed"
    FREE = "free"


class ReplayCache(StrEnum):
    """How a replay's routed pass may use the cache."""

    USE = "use"
    BYPASS = "bypass"


class Baseline(StrEnum):
    """What a replay compares with."""

    MEASURED = "measured"
    ESTIMATE = "estimate"


Target = Annotated[
    str,
    typer.Option(help="Address of the orchestrator; default: $SPILLWAY_TARGET, the suite of this directory, 50051."),
]
Tenant = Annotated[str, typer.Option(help="Whose request it is.")]
TierFloor = Annotated[str, typer.Option(help="The lowest tier that may answer.")]
TierCeiling = Annotated[str, typer.Option(help="The highest tier that may answer.")]
Pin = Annotated[str, typer.Option(help="The one target that may answer.")]
Cache = Annotated[CacheMode | None, typer.Option(help="How the cache may be used.")]
StrategyOption = Annotated[Strategy | None, typer.Option(help="How to walk the tiers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole answer, or the error, as JSON.")]
TimeoutS = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds for one request in all.")]
Prompt = Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")]


@app.command()
def up(
    config: Annotated[
        Path | None, typer.Option(help="spillway.yaml; default: as every service, else packaged.")
    ] = None,
    executors: Annotated[int, typer.Option(min=1, help="How many executors.")] = 1,
    recorded: Annotated[list[Path] | None, typer.Option(help="Recorded answers for the sandbox; repeatable.")] = None,
    sandbox: Annotated[
        bool | None,
        typer.Option(
            "--sandbox/--no-sandbox",
            help="Whether the built-in sandbox answers; default: without a key, but never with a configuration of your "
            "own (--config, SPILLWAY_CONFIG, ./spillway.yaml).",
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Route eight prompts before your eyes.")] = False,
    leave: Annotated[bool, typer.Option("--exit", help="End when all serve (with --demo: after it).")] = False,
    ports: Annotated[Ports, typer.Option(help="50051 and on, or any that are free.")] = Ports.FIXED,
    otlp: Annotated[
        str,
        typer.Option(help="OTLP gRPC endpoint for traces, e.g. http://127.0.0.1:4317; default: a store of its own."),
    ] = "",
) -> None:
    """Start every service on this machine and watch over them. Ctrl-C ends all of it.

    A service that crashes is started again. Even if this command is killed, the services end with it (on Linux).
    """
    options = SuiteOptions(config, executors, tuple(recorded or ()), sandbox, ports is Ports.FREE, otlp)
    try:
        suite = plan_suite(options, learned_in(Path.cwd()) | os.environ, Path.home())
        check_addresses(suite)
        code = asyncio.run(run_suite(suite, directory=Path.cwd(), demo=demo, leave=leave))
    except (SuiteError, AlreadyRunningError) as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command()
def ask(  # noqa: PLR0917 - the options of a command are its arguments
    prompt: Prompt,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False,
    tier_floor: TierFloor = "",
    tier_ceiling: TierCeiling = "",
    pin: Pin = "",
    cache: Cache = None,
    strategy: StrategyOption = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    target: Target = "",
    trace_url: Annotated[str, typer.Option(help="Jaeger's query API; default: that of the running suite.")] = "",
    timeout_s: TimeoutS = 60.0,
) -> None:
    """The answer, the path it took, what it cost against the flagship, and its trace."""
    options = RoutingOptions(
        strategy=strategy, tier_floor=tier_floor, tier_ceiling=tier_ceiling, pinned_target=pin, cache_mode=cache
    )

    def command() -> None:
        where = _where(target, trace_url)
        asking.ask(where, _text(prompt), options, tenant=tenant, timeout_s=timeout_s, stream=stream, as_json=as_json)

    _run(command, as_json=as_json)


@app.command()
def explain(  # noqa: PLR0917 - the options of a command are its arguments
    prompt: Prompt,
    tier_floor: TierFloor = "",
    tier_ceiling: TierCeiling = "",
    pin: Pin = "",
    cache: Cache = None,
    strategy: StrategyOption = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    target: Target = "",
    timeout_s: TimeoutS = 30.0,
) -> None:
    """The plan for a prompt and why, with no model called."""
    options = RoutingOptions(
        strategy=strategy, tier_floor=tier_floor, tier_ceiling=tier_ceiling, pinned_target=pin, cache_mode=cache
    )

    def command() -> None:
        asking.explain(_where(target), _text(prompt), options, tenant=tenant, timeout_s=timeout_s, as_json=as_json)

    _run(command, as_json=as_json)


@app.command()
def replay(  # noqa: PLR0917 - the options of a command are its arguments
    files: Annotated[list[Path], typer.Argument(help="Recorded prompts, JSON lines, plain or .gz.")],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests under way at a time.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many prompts, chosen at random.")] = None,
    sample_seed: Annotated[int, typer.Option(help="Which random choice --limit makes.")] = 0,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures and each result here.")
    ] = None,
    cache: Annotated[
        ReplayCache, typer.Option(help="Whether the routed pass may use the cache; a second run would only measure it.")
    ] = ReplayCache.BYPASS,
    baseline: Annotated[
        Baseline, typer.Option(help="Call the flagship for every prompt too, or take the suite's estimate of its cost.")
    ] = Baseline.MEASURED,
    baseline_target: Annotated[
        str, typer.Option("--baseline-model", help="The target to compare with; default: the flagship.")
    ] = "",
    target: Target = "",
    timeout_s: TimeoutS = 120.0,
) -> None:
    """Run recorded prompts through the running suite; report accuracy, cost and savings against the flagship."""
    order = replaying.ReplayOrder(
        files=tuple(files),
        concurrency=concurrency,
        limit=limit,
        sample_seed=sample_seed,
        use_cache=cache is ReplayCache.USE,
        measured=baseline is Baseline.MEASURED,
        baseline_target=baseline_target,
        timeout_s=timeout_s,
        json_out=json_out,
    )
    _run(lambda: asyncio.run(replaying.replay(_where(target).target, order)))


@app.command()
def breakers(
    target: Annotated[
        str, typer.Option(help="Addresses of executors; default: the suite of this directory, the configuration.")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="spillway.yaml that names the executors.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the states once.")] = False,
    as_json: AsJson = False,
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show the circuit breaker of every target in every executor, live. Ctrl-C ends it."""

    def show() -> None:
        addresses = find_addresses("executor", target, config, os.environ, Path.cwd())
        if not target and config is None:
            _adopt_certificates()
        asyncio.run(show_breakers(addresses, interval_s=interval_s, once=once, as_json=as_json))

    _run(show, as_json=as_json)


@app.command()
def status(
    config: Annotated[
        Path | None, typer.Option(help="spillway.yaml that names the services; default: the suite of this directory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Whether each process serves, by which version of the configuration, and what of the file it cannot take over.

    Ends with 1 when one does not serve or refuses the file.
    """

    def show() -> None:
        found = find_services(config, os.environ, Path.cwd())
        if config is None:
            _adopt_certificates()
        if not asyncio.run(show_services(found, file=named_file(config, Path.cwd()), as_json=as_json)):
            raise typer.Exit(1)

    _run(show, as_json=as_json)


learning.register(app)
cost.register(app)
reporting.register(app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"spillway {distribution_version('spillway')}")


def _run(command: asking.Command, *, as_json: bool = False) -> None:
    """Run a command that talks to the suite; its errors become a sentence, or JSON, and exit code 1."""
    try:
        command()
    except asking.FAILURES as error:
        if not as_json:
            _fail(asking.sentence(error))
        print(asking.error_json(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _where(target: str, trace_url: str = "") -> asking.SuiteAddress:
    where = asking.find_suite(target, trace_url, os.environ, Path.cwd())
    adopt(where.certificates)
    return where


def _adopt_certificates() -> None:
    """Those of the suite of this directory, for commands that ask its processes themselves."""
    if (state := read_state(Path.cwd())) is not None:
        adopt(state.certificates)


def _text(prompt: str) -> str:
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise asking.UnreadablePromptError(f"standard input is not UTF-8 (at byte {error.start + 1})") from error


def _fail(message: str) -> None:
    open_console(remarks=True).print(Text(message, style="red"), soft_wrap=True)
    raise typer.Exit(1)


cache.register(app, _run)
jobs.register(app, _run, _text)
