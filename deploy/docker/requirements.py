"""The part of requirements.lock that one extra of the distribution needs, with its versions and hashes.

Promises: offline and pure. What the extra names is followed through the "# via" lines that the lock carries, so every
package that comes out is one that the tests ran with, and none is there without a reason.

    python requirements.py EXTRA [PACKAGE ...] [--beyond EXTRA]

EXTRA may be "-" for none; PACKAGE is one more root, by name; with --beyond, what that other extra brings is left out.
"""

# ruff: noqa: INP001 - a script of the images, in no package
from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["closure", "roots", "selected"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN = "spillway"


def _normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def roots(project: Mapping[str, object], extra: str) -> frozenset[str]:
    """The packages that `extra` names, itself or through other extras, and those that every install has.

    `project` is the table of that name in pyproject.toml. Raises KeyError for an extra that does not exist.
    """
    found: set[str] = set()
    extras: Mapping[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    base: list[str] = project["dependencies"]  # type: ignore[assignment]
    seen: set[str] = set()
    waiting = [extra]
    requirements = list(base)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for requirement in extras[name]:
            if requirement.startswith(f"{_OWN}["):
                waiting += requirement[len(_OWN) + 1 : requirement.index("]")].split(",")
            else:
                requirements.append(requirement)
    for requirement in requirements:
        match = _NAME.match(requirement)
        if match is not None:
            found.add(_normal(match[0]))
    return frozenset(found)


def _blocks(lock: str) -> list[tuple[str, str, frozenset[str]]]:
    """For every entry of the lock: its package, its text, and the packages that want it."""
    blocks = []
    for text in re.split(r"\n(?=[A-Za-z0-9])", "\n" + lock)[1:]:
        match = _NAME.match(text)
        if match is None:
            continue
        _, _, comments = text.partition("# via")
        wanted_by = {_normal(name) for name in re.findall(r"^\s*#?\s*([A-Za-z0-9][\w.-]*)", comments, re.MULTILINE)}
        body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        blocks.append((_normal(match[0]), body, frozenset(wanted_by)))
    return blocks


def closure(lock: str, wanted: Iterable[str]) -> frozenset[str]:
    """`wanted`, and all that the lock holds because of it."""
    reached = set(wanted)
    blocks = _blocks(lock)
    grew = True
    while grew:
        more = {name for name, _, wanted_by in blocks if name not in reached and wanted_by & reached}
        reached |= more
        grew = bool(more)
    return frozenset(reached)


def selected(lock: str, wanted: Iterable[str], beyond: Iterable[str] = ()) -> str:
    """The lock's entries for `wanted` and all that they need, but for what `beyond` and its needs are.

    Raises ValueError for one that the lock does not have.
    """
    wanted = frozenset(wanted)
    missing = wanted - {name for name, _, _ in _blocks(lock)}
    if missing:
        raise ValueError(f"requirements.lock has no {', '.join(sorted(missing))}: run scripts/lock")
    names = closure(lock, wanted) - closure(lock, beyond)
    return "\n".join(body for name, body, _ in _blocks(lock) if name in names) + "\n"


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("extra")
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--beyond", metavar="EXTRA", default="-")
    arguments = parser.parse_args()
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

    def wanted(extra: str) -> frozenset[str]:
        return roots(project, extra) if extra != "-" else frozenset()

    lock = Path("requirements.lock").read_text(encoding="utf-8")
    packages = wanted(arguments.extra) | set(map(_normal, arguments.packages))
    sys.stdout.write(selected(lock, packages, wanted(arguments.beyond)))


if __name__ == "__main__":
    _main()
