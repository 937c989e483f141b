"""Known vulnerabilities of the packages in the images, as pip-audit finds them, held against those that are explained.

    python deploy/tools/audit.py PIP_AUDIT REQUIREMENTS [SERVICE]      SERVICE: pypi (the default), osv

Promises: a vulnerability fails the gate (status 1) unless audit.toml explains it, with a reason and a date until which
that holds. What could not be asked for is said and never counts as free of vulnerabilities: when the advisory service
answers nothing (it is asked for one package first) the status is 75, and nothing was audited.
"""

# ruff: noqa: INP001 - a script of the gate, in no package
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

__all__ = ["Explained", "Finding", "Verdict", "explanations", "judge"]

EXPLAINED = Path(__file__).with_name("audit.toml")
# sysexits.h: try again later.
UNAVAILABLE = 75
AUDIT_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a vulnerability may stand, and until when (inclusive)."""

    id: str
    package: str
    reason: str
    until: date


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability of one package. `ids`: its name and its aliases."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fixed version"
        return f"{self.package} {self.version}: {', '.join(self.ids)} ({remedy})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit says. `unasked` are packages that the service knew nothing of, `idle` explanations of nothing."""

    audited: int
    open: tuple[Finding, ...]
    explained: tuple[Finding, ...]
    unasked: tuple[str, ...]
    idle: tuple[Explained, ...]


def explanations(table: Mapping[str, Any]) -> tuple[Explained, ...]:
    """The entries of audit.toml. Raises ValueError for one that lacks a reason or a date."""
    found = []
    for entry in table.get("explained", []):
        one = Explained(**entry)
        if not one.reason.strip() or not isinstance(one.until, date):
            raise ValueError(f"{one.id} needs a reason and a date")
        found.append(one)
    return tuple(found)


def judge(report: Mapping[str, Any], explained: Sequence[Explained], today: date) -> Verdict:
    """`report` is pip-audit's JSON."""
    standing: list[Finding] = []
    excused: list[Finding] = []
    unasked: list[str] = []
    used: set[Explained] = set()
    audited = 0
    for dependency in report["dependencies"]:
        if "skip_reason" in dependency:
            unasked.append(dependency["name"])
            continue
        audited += 1
        for raw in dependency["vulns"]:
            ids = (raw["id"], *raw.get("aliases", ()))
            finding = Finding(dependency["name"], dependency["version"], ids, tuple(raw.get("fix_versions", ())))
            why = next((e for e in explained if e.package == finding.package and e.id in ids), None)
            if why is not None:
                used.add(why)
            (excused if why is not None and today <= why.until else standing).append(finding)
    idle = tuple(e for e in explained if e not in used)
    return Verdict(audited, tuple(standing), tuple(excused), tuple(unasked), idle)


def _ask(pip_audit: str, requirements: Path, service: str) -> Mapping[str, Any] | None:
    """pip-audit's report, or None when it made none."""
    command = [pip_audit, "--requirement", str(requirements), "--vulnerability-service", service, "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S)  # noqa: S603
        report: Mapping[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return report


def _lines(heading: str, items: Iterable[object]) -> str:
    return "".join(f"{heading}: {item}\n" for item in items)


def main(pip_audit: str, requirements: str, service: str = "pypi") -> int:
    explained = explanations(tomllib.loads(EXPLAINED.read_text(encoding="utf-8")))
    today = datetime.now(UTC).date()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as one:
        one.write(next(line for line in Path(requirements).read_text(encoding="utf-8").splitlines() if "==" in line))
        one.seek(0)
        first = _ask(pip_audit, Path(one.name), service)
    if first is None or judge(first, (), today).audited == 0:
        sys.stderr.write(f"the advisory service ({service}) does not answer: nothing was audited\n")
        return UNAVAILABLE
    report = _ask(pip_audit, Path(requirements), service)
    if report is None:
        sys.stderr.write(f"the advisory service ({service}) broke off: nothing was audited\n")
        return UNAVAILABLE
    verdict = judge(report, explained, today)
    sys.stdout.write(f"{verdict.audited} packages audited\n")
    sys.stdout.write(_lines("not audited, unknown to the service", verdict.unasked))
    sys.stdout.write(_lines("explained in audit.toml", verdict.explained))
    sys.stdout.write(_lines("explained in audit.toml, and no longer found", (e.id for e in verdict.idle)))
    sys.stdout.write(_lines("VULNERABLE", verdict.open))
    return 1 if verdict.open else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
