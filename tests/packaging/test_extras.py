"""The wheel, installed with one extra in a virtual environment of its own, is enough for that service to serve."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "requirements.lock"

# What a service must not bring: the parts of the others that are large or reach out.
FOREIGN = {
    "orchestrator": ["faiss", "onnxruntime", "numpy", "sqlalchemy"],
    "classifier": ["faiss", "redis", "jsonschema_rs"],
    "cache": ["onnxruntime", "httpx"],
    "executor": ["faiss", "onnxruntime", "numpy"],
    "ledger": ["faiss", "onnxruntime", "redis", "httpx", "numpy", "matplotlib"],
}


def run(*command: str | Path, **kwargs: object) -> str:
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command], check=False, capture_output=True, text=True, timeout=280, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


def constraints(folder: Path) -> Path:
    """The lock without its hashes: the very versions that the suite is tested with."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^ \\\n]+)", LOCK.read_text(), re.MULTILINE)
    names = [name for name, _ in pins]
    # A package that is locked twice (for two Pythons) is left to pip.
    text = "\n".join(f"{name}=={version}" for name, version in pins if names.count(name) == 1)
    path = folder / "constraints.txt"
    path.write_text(text)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def install(environment: Path, *arguments: str | Path) -> None:
    """By this interpreter's pip; what the test imports is compiled then, and the rest not at all."""
    run(sys.executable, "-m", "pip", "--python", environment, "install", "-q", "--no-compile", *arguments)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", sorted(FOREIGN))
def test_a_service_serves_with_its_own_extra_alone(
    service: str, wheel: Path, environment: Path, tmp_path: Path
) -> None:
    install(environment, "-c", constraints(tmp_path), f"{wheel}[{service}]")
    for module in FOREIGN[service]:
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is not None)"
        run(environment, "-c", code)
    env = {**os.environ, "SPILLWAY_MODEL_DIR": str(tmp_path / "no-model")}
    process = subprocess.Popen(
        [str(environment), "-m", f"services.{service}", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=10)[1][-3000:]
        assert json.loads(line)["event"] == "serving"
    finally:
        process.terminate()
        process.communicate(timeout=40)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_client_needs_no_extra(wheel: Path, environment: Path, tmp_path: Path) -> None:
    install(environment, wheel)
    run(environment, "-c", "import spillway; spillway.Client; spillway.AsyncClient", cwd=tmp_path)
