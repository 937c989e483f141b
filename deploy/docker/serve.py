"""Runs the service that the image was built for.

The process is the container's first, for which the kernel ignores signals that nobody handles: a SIGTERM during the
imports would be lost without this handler. The service puts its own in its place as soon as its event loop runs.
"""

# ruff: noqa: INP001 - a script of the images, in no package
from __future__ import annotations

import os
import runpy
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
runpy.run_module(f"services.{os.environ['SPILLWAY_SERVICE']}", run_name="__main__", alter_sys=True)
