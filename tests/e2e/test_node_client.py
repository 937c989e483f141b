"""A caller in another language, straight from the .proto files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.suite import Suite

CLIENT = Path(__file__).parent / "node" / "client.js"
INVALID_ARGUMENT = 3


def test_a_node_service_completes_a_unary_and_a_streaming_call(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node, "node is missing: apt-get install nodejs npm"
    assert (CLIENT.parent / "node_modules").is_dir(), "run: npm ci --prefix tests/e2e/node"
    with Suite(tmp_path) as suite:
        suite.script({"*": [{"text": "Paris.", "confidence": 5}]})
        run = subprocess.run(
            [node, str(CLIENT), suite.target, "What is the capital of France?"],
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["unary"] == {"text": "Paris.", "tier": "simple", "attempts": 1}
    assert seen["stream"] == {"deltas": "Paris.", "text": "Paris.", "tier": "simple"}
    assert seen["refused"]["code"] == INVALID_ARGUMENT
