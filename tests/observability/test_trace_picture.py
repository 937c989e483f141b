"""The picture of a trace in docs/tracing.md is drawn from the trace beside it, and shows all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support import jaeger

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT / "docs" / "img" / "trace.json"


def test_the_picture_is_of_the_trace_beside_it() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "trace-picture"), str(TRACE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert done.stdout == (ROOT / "docs" / "img" / "trace.svg").read_text()
    (trace,) = json.loads(TRACE.read_text())["data"]
    told = "\n".join(element.text or "" for element in ET.fromstring(done.stdout).iter())
    for span in jaeger.tree(trace).walk():
        assert f"{span.service.removeprefix('spillway-')}  {span.name.removeprefix('spillway.v1.')}" in told
    assert "rejected" in told
    assert "escalation" in told
