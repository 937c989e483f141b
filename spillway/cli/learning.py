"""The commands of what is learned: train, evaluate, calibrate, heads. The work is done in `lab`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from spillway.cli.modules import run_module
from spillway.cli.terminal import open_console

__all__ = ["calibrate_app", "register"]

Files = Annotated[
    list[Path], typer.Argument(help="Decision logs, or prompts with outcomes by tier; JSON lines, plain or .gz.")
]
Samples = Annotated[list[Path], typer.Argument(help="Decision logs, or any prompts; JSON lines, plain or .gz.")]
TiersOption = Annotated[
    str, typer.Option("--tiers", help="Cheapest first: A,B or, for runs of models, A=MODEL,B=MODEL.")
]
HeadsDir = Annotated[
    Path | None, typer.Option("--heads-dir", help="Default: classifier.heads_dir, else .spillway/heads.")
]
Config = Annotated[Path | None, typer.Option(help="spillway.yaml; default: as every service finds it.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of split, fit and bootstrap.")]
HeadName = Annotated[str, typer.Option("--head", help="A version, or builtin; default: the one in use.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the curves here, as PNG; needs matplotlib.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]

calibrate_app = typer.Typer(help="Fit thresholds to what was right and wrong.", no_args_is_help=True)
heads_app = typer.Typer(help="The classifier's trained heads.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(train)
    app.command()(evaluate)
    app.add_typer(heads_app, name="heads")


def train(  # noqa: PLR0917 - the options of a command are its arguments
    files: Files,
    tiers: TiersOption = "",
    heads_dir: HeadsDir = None,
    version: Annotated[str, typer.Option(help="Of the new head; default: the time.")] = "",
    seed: Seed = None,
    test_share: Annotated[float | None, typer.Option(help="Of the prompts, held out for the figures; 0.25.")] = None,
    held_out: Annotated[
        list[Path] | None, typer.Option("--held-out", help="Files to examine by instead of a share; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Keep and use it even if it is refused.")] = False,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Put it to use.")] = True,
    config: Config = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Fit a head that says which tier suffices, and report it on held-out prompts beside the one in use.

    A worse one, or one of no use, is refused: exit code 3. Running classifiers put it to use within a second or two.
    """
    flags = [
        name for name, given in (("--force", force), ("--no-activate", not activate), ("--json", as_json)) if given
    ]
    options = _given({"--tiers": tiers, "--heads-dir": heads_dir, "--version": version, "--seed": seed})
    options += _given({"--test-share": test_share, "--config": config, "--plot": plot})
    exam = ["--held-out", *map(str, held_out)] if held_out else []
    _run("lab.train_router", *options, *flags, *exam, "--", *map(str, files))


def evaluate(
    files: Files,
    head: HeadName = "",
    tiers: TiersOption = "",
    heads_dir: HeadsDir = None,
    seed: Seed = None,
    config: Config = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Report a head on prompts with outcomes that it was not fitted to; nothing is fitted."""
    options = _given({"--head": head, "--tiers": tiers, "--heads-dir": heads_dir, "--seed": seed})
    options += _given({"--config": config, "--plot": plot})
    _run("lab.evaluate_router", *options, *(["--json"] if as_json else []), "--", *map(str, files))


@calibrate_app.command("gates")
def calibrate_gates(
    files: Annotated[list[Path], typer.Argument(help="Recorded or logged answers with outcomes, JSON lines or .gz.")],
    out: Annotated[Path | None, typer.Option(help="Write the artifact here, for executor.gate_weights.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of folds and bootstrap.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="How many held-out folds.")] = None,
    answer: Annotated[str, typer.Option(help="Of recorded runs: the model whose answers are gated.")] = "",
    opinions: Annotated[str, typer.Option(help="Of recorded runs: who was asked beside it, by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fit the composite gate, and report how good it is on answers that it was not fitted to."""
    options = _given({"--out": out, "--seed": seed, "--folds": folds, "--answer": answer, "--opinions": opinions})
    _run("lab.calibrate_gates", *options, *(["--report=json"] if as_json else []), "--", *map(str, files))


@calibrate_app.command("classifier")
def calibrate_classifier(  # noqa: PLR0917 - the options of a command are its arguments
    files: Samples,
    target_strong_share: Annotated[
        float | None, typer.Option(help="The share of prompts that should start at the dearest tier.")
    ] = None,
    probability: Annotated[
        float | None, typer.Option(help="The other way round: which share this P(suffices) sends there.")
    ] = None,
    head: HeadName = "",
    tiers: TiersOption = "",
    heads_dir: HeadsDir = None,
    seed: Seed = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find policy.sufficiency_min for a share of traffic, from a sample of its prompts."""
    if (target_strong_share is None) == (probability is None):
        raise typer.BadParameter("one of --target-strong-share and --probability is needed")
    options = _given({"--target-strong-share": target_strong_share, "--probability": probability})
    options += _given({"--head": head, "--tiers": tiers, "--heads-dir": heads_dir, "--seed": seed, "--config": config})
    _run("lab.calibrate_classifier", *options, *(["--json"] if as_json else []), "--", *map(str, files))


@calibrate_app.command("cache")
def calibrate_cache(
    file: Annotated[Path, typer.Argument(help="Labelled pairs of questions, or a stream; JSON lines or .gz.")],
    out: Annotated[Path | None, typer.Option(help="Write the verifier fitted to pairs here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw hit rate against wrong rate here, as PNG.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, orders and bootstrap.")] = None,
    orders: Annotated[int | None, typer.Option(min=1, help="Random orders of a stream.")] = None,
    limit: Annotated[float | None, typer.Option(help="Wrong answers as a share of all lookups.")] = None,
    as_json: AsJson = False,
) -> None:
    """Report hit rate against wrong rate for every way to decide a semantic hit; write a starting verifier.

    A row of pairs is {"a": QUESTION, "b": QUESTION, "same": 1 or 0}: does one answer serve both? 400 rows at least.

    A row of a stream is {"text": QUESTION, "answer": NAME}; questions of one right answer share a name. 20,000 at most.
    """
    options = _given({"--out": out, "--plot": plot, "--seed": seed, "--orders": orders, "--limit": limit})
    _run("lab.calibrate_cache", *options, *(["--report=json"] if as_json else []), "--", str(file))


@heads_app.command("list")
def heads_list(heads_dir: HeadsDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """All versions, and which is in use."""
    _heads("list", *(["--json"] if as_json else []), heads_dir=heads_dir, config=config)


@heads_app.command("use")
def heads_use(
    version: Annotated[str, typer.Argument(help="A version, or builtin for none.")],
    heads_dir: HeadsDir = None,
    config: Config = None,
) -> None:
    """Put a version to use; running classifiers follow within a second or two."""
    _heads("use", version, heads_dir=heads_dir, config=config)


@heads_app.command("rollback")
def heads_rollback(heads_dir: HeadsDir = None, config: Config = None) -> None:
    """Use what was in use before."""
    _heads("rollback", heads_dir=heads_dir, config=config)


def _heads(*arguments: str, heads_dir: Path | None, config: Path | None) -> None:
    options = _given({"--heads-dir": heads_dir, "--config": config})
    _run("services.classifier.heads_command", arguments[0], *options, *arguments[1:])


def _given(options: dict[str, object]) -> list[str]:
    """As one argument each, so that a value may begin with a dash."""
    return [f"{name}={value}" for name, value in options.items() if value not in {None, ""}]


def _run(module: str, *arguments: str) -> None:
    if find_spec("numpy") is None:
        remark = "numpy is not installed; pip install 'spillway[classifier]'"
        open_console(remarks=True).print(Text(remark, style="red"), soft_wrap=True)
        raise typer.Exit(1)
    run_module(module, *arguments)
