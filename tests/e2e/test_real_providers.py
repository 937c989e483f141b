"""The packaged configuration on a provider that the environment names, as with OpenAI, vLLM or Ollama.

A provider's server stands in for theirs: it speaks their wire format, and checks the key when it has one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spillway.client import Client
from spillway.routing import Completion
from tests.support.processes import Process

SERVICES = ("classifier", "cache", "executor", "orchestrator")
MODELS = {"SPILLWAY_SIMPLE_MODEL": "llama3.2:1b", "SPILLWAY_COMPLEX_MODEL": "llama3.3:70b"}
KEY = "sk-a-key-of-the-user"


def ask_through_default_configuration(folder: Path, environment: dict[str, str], script: dict[str, Any]) -> Completion:
    """Starts a provider that follows `script` and, with the packaged configuration, every service; asks one prompt."""
    (folder / "script.json").write_text(json.dumps(script))
    started: list[Process] = []
    try:
        provider = Process(
            "services.sandbox", ["--port", "0", "--script", str(folder / "script.json")], {}, folder / "provider.log"
        )
        started.append(provider)
        environment = {**environment, "OPENAI_BASE_URL": f"{provider.ready()['url']}/v1"}
        for name in SERVICES:
            process = Process(f"services.{name}", ["--listen", "127.0.0.1:0"], environment, folder / f"{name}.log")
            started.append(process)
            address = str(process.ready()["listen"])
            environment[f"SPILLWAY_{name.upper()}_TARGET"] = address
        with Client(address) as client:
            return client.complete("What is the capital of Italy?")
    finally:
        for process in reversed(started):
            process.stop()


GOOD = {"text": "Rome.", "confidence": 5}


def test_a_key_in_the_environment_opens_the_provider(tmp_path: Path) -> None:
    script = {"api_key": KEY, "models": {"*": [GOOD]}}
    completion = ask_through_default_configuration(tmp_path, {"OPENAI_API_KEY": KEY}, script)
    assert (completion.text, completion.model) == ("Rome.", "gpt-4.1-nano")
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert KEY not in logs


def test_a_server_without_keys_serves_its_own_models(tmp_path: Path) -> None:
    completion = ask_through_default_configuration(
        tmp_path, {"OPENAI_API_KEY": "", **MODELS}, {"models": {"*": [GOOD]}}
    )
    assert (completion.text, completion.model) == ("Rome.", MODELS["SPILLWAY_SIMPLE_MODEL"])
