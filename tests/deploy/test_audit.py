"""The audit of what is in the images: which vulnerabilities fail the gate, and which are explained."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.processes import REPOSITORY

TODAY = date(2026, 11, 22)
AUDIT = REPOSITORY / "deploy" / "tools" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_audit", AUDIT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def report(*dependencies: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(dependencies), "fixes": []}


def package(name: str, *ids: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": id_, "aliases": [f"CVE-{id_}"], "fix_versions": ["1.1"]} for id_ in ids],
    }


def entry(**fields: Any) -> dict[str, Any]:
    return {"explained": [{"id": "CVE-A", "package": "x", "reason": "unreachable", "until": TODAY, **fields}]}


def test_a_vulnerability_that_nobody_explained_stands(audit: ModuleType) -> None:
    verdict = audit.judge(report(package("x", "A"), package("y")), (), TODAY)
    assert [str(found) for found in verdict.open] == ["x 1.0: A, CVE-A (fixed in 1.1)"]
    assert verdict.audited == 2


def test_an_explanation_by_any_of_its_names_holds_until_its_day(audit: ModuleType) -> None:
    explained = audit.explanations(entry())
    assert audit.judge(report(package("x", "A")), explained, TODAY).open == ()
    late = audit.judge(report(package("x", "A")), audit.explanations(entry(until=date(2026, 11, 21))), TODAY)
    assert [found.package for found in late.open] == ["x"]


def test_an_explanation_is_of_one_package_and_one_vulnerability(audit: ModuleType) -> None:
    explained = audit.explanations(entry())
    verdict = audit.judge(report(package("x", "B"), package("y", "A")), explained, TODAY)
    assert [found.ids[0] for found in verdict.open] == ["B", "A"]
    assert [idle.id for idle in verdict.idle] == ["CVE-A"]


@pytest.mark.parametrize("flaw", [{"reason": " "}, {"until": "soon"}])
def test_an_explanation_without_reason_or_day_is_refused(audit: ModuleType, flaw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs a reason and a date"):
        audit.explanations(entry(**flaw))


def test_the_list_that_is_shipped_can_be_read(audit: ModuleType) -> None:
    audit.explanations(tomllib.loads(audit.EXPLAINED.read_text()))


def run(tmp_path: Path, answers: str) -> subprocess.CompletedProcess[str]:
    """The command, with a pip-audit that prints `answers`."""
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{answers}\nEND\n")
    fake.chmod(0o755)
    requirements = tmp_path / "all.txt"
    requirements.write_text("x==1.0\ny==1.0\n")
    return subprocess.run(
        [sys.executable, AUDIT, fake, requirements], check=False, capture_output=True, text=True, timeout=60
    )


def test_what_could_not_be_asked_for_is_not_taken_for_harmless(tmp_path: Path) -> None:
    skipped = {"name": "x", "skip_reason": "Dependency not found on PyPI and could not be audited: x (1.0)"}
    for answers in (json.dumps(report(skipped)), "", "[]]"):
        done = run(tmp_path, answers)
        assert done.returncode == 75
        assert "nothing was audited" in done.stderr


def test_a_vulnerability_fails_the_gate_and_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, json.dumps(report(package("x", "A"))))
    assert done.returncode == 1
    assert "VULNERABLE: x 1.0: A, CVE-A" in done.stdout
    assert run(tmp_path, json.dumps(report(package("x")))).returncode == 0
