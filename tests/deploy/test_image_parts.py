"""What goes into an image: the packages of its service alone, and the start that finds secrets in files."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from services.classifier.model import model_directory, sha256_of
from services.classifier.model_build import build
from spillway.cli.suite import THREADS
from tests.support.processes import REPOSITORY

DOCKER = REPOSITORY / "deploy" / "docker"
LOCK = (REPOSITORY / "requirements.lock").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
SERVICES = ("orchestrator", "classifier", "cache", "executor", "ledger", "sandbox")
# Of the parts that are large or reach out, what a service must not bring.
FOREIGN = {
    "orchestrator": {"faiss-cpu", "onnxruntime", "numpy", "sqlalchemy", "jsonschema-rs"},
    "classifier": {"faiss-cpu", "redis", "sqlalchemy", "jsonschema-rs", "onnx"},
    "cache": {"onnxruntime", "httpx", "sqlalchemy", "tokenizers"},
    "executor": {"faiss-cpu", "onnxruntime", "numpy", "sqlalchemy"},
    "ledger": {"faiss-cpu", "onnxruntime", "redis", "httpx", "numpy", "matplotlib"},
    "sandbox": {"faiss-cpu", "onnxruntime", "numpy", "redis", "sqlalchemy"},
}
OF_DEVELOPMENT = {"pytest", "mypy", "ruff", "hypothesis", "grpcio-tools", "matplotlib"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"image_{name}", DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def requirements() -> ModuleType:
    return script("requirements")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_what_its_extra_needs_and_nothing_of_the_others(service: str, requirements: ModuleType) -> None:
    roots = requirements.roots(PROJECT, service)
    selected = requirements.selected(LOCK, roots)
    names = set(re.findall(r"^([a-z0-9-]+)==", selected, re.MULTILINE))
    assert roots <= names
    assert {"grpcio", "protobuf", "pydantic", "typing-extensions"} <= names
    assert not names & (FOREIGN[service] | OF_DEVELOPMENT)


@pytest.mark.parametrize("service", SERVICES)
def test_what_all_images_share_and_what_a_service_adds_is_what_its_extra_needs(
    service: str, requirements: ModuleType
) -> None:
    def names(selected: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+)==", selected, re.MULTILINE))

    shared, wanted = requirements.roots(PROJECT, "runtime"), requirements.roots(PROJECT, service)
    own = names(requirements.selected(LOCK, wanted, beyond=shared))
    assert own
    assert not own & names(requirements.selected(LOCK, shared))
    assert own | names(requirements.selected(LOCK, shared)) == names(requirements.selected(LOCK, wanted))


@pytest.mark.parametrize("service", SERVICES)
def test_every_package_of_an_image_is_locked_by_hash(service: str, requirements: ModuleType) -> None:
    selected = requirements.selected(LOCK, requirements.roots(PROJECT, service))
    blocks = re.split(r"\n(?=[a-z0-9])", selected.strip())
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert set(selected.splitlines()) - {""} <= set(LOCK.splitlines())  # not a version or hash of its own


def test_a_package_that_the_lock_does_not_have_ends_the_build(requirements: ModuleType) -> None:
    with pytest.raises(ValueError, match="run scripts/lock"):
        requirements.selected(LOCK, ["no-such-package"])


def test_what_is_needed_by_what_is_needed_comes_too(requirements: ModuleType) -> None:
    lock = (
        "# head\na==1 \\\n    --hash=sha256:0\n    # via spillway (pyproject.toml)\n"
        "b==2 \\\n    --hash=sha256:1\n    # via a\nc==3 ; python_full_version < '3.12' \\\n    --hash=sha256:2\n"
        "    # via\n    #   b\n    #   d\nd==4 \\\n    --hash=sha256:3\n    # via spillway (pyproject.toml)\n"
    )
    selected = requirements.selected(lock, ["a"])
    assert re.findall(r"^(\w)==", selected, re.MULTILINE) == ["a", "b", "c"]
    assert "python_full_version < '3.12'" in selected


def test_the_model_that_is_baked_in_is_the_one_that_the_classifier_builds() -> None:
    directory = model_directory(os.environ)
    build(directory)
    lines = [line.split() for line in (DOCKER / "model.sha256").read_text().splitlines()]
    assert {Path(path).name: digest for digest, path in lines} == {
        name: sha256_of(directory / name) for name in ("model.onnx", "tokenizer.json")
    }


def test_images_and_spillway_up_give_small_products_as_many_threads() -> None:
    last_stage = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    said = dict(re.findall(r"^(?:ENV| {3}) (\w+)=(\S*)", last_stage, re.MULTILINE))
    assert "SPILLWAY_SERVICE" in said
    assert said.items() >= THREADS.items()


def start(folder: Path, body: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """`serve.py` with a service of its own, which is `body`."""
    package = folder / "services" / "probe"
    package.mkdir(parents=True, exist_ok=True)
    (folder / "services" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(body)
    return subprocess.Popen(
        [sys.executable, "-P", DOCKER / "serve.py", "--listen", "x"],
        env={**os.environ, "PYTHONPATH": str(folder), "SPILLWAY_SERVICE": "probe", **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_password_comes_from_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    body = "import os, sys; print(os.environ['DATABASE_PASSWORD'], *sys.argv[1:])"
    process = start(tmp_path, body, {"SECRET_FILE_DATABASE_PASSWORD": str(tmp_path / "password")})
    assert process.communicate(timeout=30) == ("hunter2 --listen x\n", "")


def test_a_password_file_that_is_missing_ends_the_start_and_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "print('served')", {"SECRET_FILE_X": str(tmp_path / "none")})
    out, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert error.strip() == f"SECRET_FILE_X: {tmp_path / 'none'} cannot be read: FileNotFoundError"


def test_sigterm_while_a_service_is_still_being_imported_ends_it(tmp_path: Path) -> None:
    body = "import threading; print('importing', flush=True); threading.Event().wait(60)"
    process = start(tmp_path, body, {})
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.timeout(300)
def test_the_bill_of_materials_names_every_package_with_its_hashes(requirements: ModuleType) -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "sbom"], check=False, capture_output=True, text=True, timeout=280, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for service in SERVICES:
        bill = json.loads((REPOSITORY / ".spillway" / "sbom" / f"{service}.cdx.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        found = {(part["name"], part["version"]) for part in bill["components"]}
        selected = requirements.selected(LOCK, requirements.roots(PROJECT, service))
        assert found == set(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\n]+)", selected, re.MULTILINE))


def test_the_bill_of_an_image_adds_the_debian_packages_that_are_installed() -> None:
    status = (
        "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13.dfsg-1\n"
        "Description: compression: library\n Status: unknown\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12.4+deb12u1\n\n\n"
    )
    python = {"type": "library", "name": "grpcio", "version": "1"}
    bill = script("bill").with_debian({"bomFormat": "CycloneDX", "components": [python]}, status)
    assert bill["components"][0] == python
    assert [part["purl"] for part in bill["components"][1:]] == [
        "pkg:deb/debian/base-files@12.4%2Bdeb12u1?arch=amd64",
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64",
    ]
