"""Runs the service that the image was built for, with passwords from files where SECRET_FILE_NAME says so.

The process is the container's first, for which the kernel ignores signals that nobody handles: a SIGTERM during the
imports would be lost without this handler. The service puts its own in its place as soon as its event loop runs.
"""

# ruff: noqa: INP001 - a script of the images, in no package
from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path


def _read_secrets() -> None:
    """SECRET_FILE_NAME=/path puts the file's content, without space around it, into the variable NAME."""
    prefix = "SECRET_FILE_"
    for variable, path in list(os.environ.items()):
        if variable.startswith(prefix):
            try:
                os.environ[variable.removeprefix(prefix)] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                sys.exit(f"{variable}: {path} cannot be read: {type(error).__name__}")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
_read_secrets()
runpy.run_module(f"services.{os.environ['SPILLWAY_SERVICE']}", run_name="__main__", alter_sys=True)
