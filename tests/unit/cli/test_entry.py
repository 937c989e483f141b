"""The command's entry point without its extra."""

from __future__ import annotations

import subprocess
import sys


def test_without_its_extra_the_command_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['rich'] = None; from spillway.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "missing: rich" in run.stderr
    assert "pip install 'spillway[cli]'" in run.stderr
    assert "Traceback" not in run.stderr
