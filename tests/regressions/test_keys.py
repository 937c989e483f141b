"""A key that no HTTP header can carry ends the executor at its start, with a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFIG = """
providers: {p: {base_url: "http://127.0.0.1:1/v1", api_key_env: TOY_KEY}}
tiers: [{name: only, targets: [
  {name: t, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]}]
"""


def test_the_executor_does_not_start_with_a_key_that_cannot_be_sent(tmp_path: Path) -> None:
    (tmp_path / "spillway.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "services.executor", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**os.environ, "TOY_KEY": "sk-abc…", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "the environment variable TOY_KEY has no usable key" in done.stderr
    assert "Traceback" not in done.stderr
    assert "sk-abc" not in done.stderr
