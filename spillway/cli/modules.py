"""Runs the command line of a module of the suite, which this package does not import, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import typer

__all__ = ["run_module"]


def run_module(module: str, *arguments: str) -> None:
    """With this process's output; ends the command with the module's exit code."""
    raise typer.Exit(subprocess.run([sys.executable, "-P", "-m", module, *arguments], check=False).returncode)
