"""Runs the command line of a module of the suite, which this package does not import, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

from spillway.cli.state import learned_in

__all__ = ["run_module"]


def run_module(module: str, *arguments: str) -> None:
    """With this process's output; ends the command with the module's exit code.

    The packaged configuration means what it means to the suite of this directory.
    """
    environment = learned_in(Path.cwd()) | os.environ
    command = [sys.executable, "-P", "-m", module, *arguments]
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)
