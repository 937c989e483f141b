"""The command's entry point without its extra."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from spillway.cli.app import app


def test_without_its_extra_the_command_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['rich'] = None; from spillway.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "missing: rich" in run.stderr
    assert "pip install 'spillway[cli]'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "command", [("ask", "hi"), ("breakers", "--once"), ("cache", "stats")], ids=lambda args: args[0]
)
def test_the_address_of_a_web_page_is_a_sentence_to_every_command(command: tuple[str, ...]) -> None:
    run = CliRunner().invoke(app, [*command, "--target", "http://127.0.0.1:1"])
    assert run.exit_code == 1
    assert "write 127.0.0.1:1, a gRPC address" in run.output


def test_a_key_that_cannot_be_one_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_API_KEY", "two words")
    run = CliRunner().invoke(app, ["ask", "hi", "--target", "127.0.0.1:1"])
    assert run.exit_code == 1
    assert "the API key has characters that no key has" in run.output
    assert "two words" not in run.output
