"""Runs the command line of a module of the suite, which this package does not import, in a process of its own; and the
commands that do nothing else: config, model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from spillway.cli.state import learned_in

__all__ = ["config_app", "model_app", "run_module"]

config_app = typer.Typer(help="The configuration file, spillway.yaml.", no_args_is_help=True)
model_app = typer.Typer(help="The classifier's embedding model.", no_args_is_help=True)


def run_module(module: str, *arguments: str) -> None:
    """With this process's output; ends the command with the module's exit code.

    The packaged configuration means what it means to the suite of this directory.
    """
    environment = learned_in(Path.cwd()) | os.environ
    command = [sys.executable, "-P", "-m", module, *arguments]
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the file."""
    run_module("services.runtime.config", "schema")


@config_app.command("check")
def config_check(file: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Print every error of the file, each with its place, or that it is good."""
    run_module("services.runtime.config", "check", *([str(file)] if file else []))


@config_app.command("show")
def config_show(file: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Print the settings in force, defaults included."""
    run_module("services.runtime.config", "show", *([str(file)] if file else []))


@model_app.command("build")
def model_build(force: Annotated[bool, typer.Option("--force", help="Build even if it is there.")] = False) -> None:
    """Build the model's file (once per machine; needs no network)."""
    run_module("services.classifier.model", "build", *(["--force"] if force else []))


@model_app.command("check")
def model_check() -> None:
    """Verify the model that is there."""
    run_module("services.classifier.model", "check")
