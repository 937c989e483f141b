"""How many CPUs this process may use: the cgroup's limit, not the machine's size.

Promises: `cpus_allowed` is a function of the files' text; `read_cpus` reads them and never raises. A container that is
given 2 CPUs of a 64-core host and starts 64 threads is stopped by the kernel for most of every period.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["cgroup_directories", "cpus_allowed", "read_cpus"]

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
# Of /proc/self/cgroup and of the depth of the tree.
LINES_MAX = 64
DEPTH_MAX = 32


def cgroup_directories(membership: str, root: Path) -> list[Path]:
    """Where limits of this process may stand, its own group's first, then those of the groups around it.

    `membership` is /proc/self/cgroup: "0::/path" for version 2, "3:cpu,cpuacct:/path" for version 1. A container that
    sees only its own part of the tree finds its limits at the top, which is among them.
    """
    found: list[Path] = []
    for line in membership.splitlines()[:LINES_MAX]:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if number == "0" and not controllers:
            tops = [root, root / "unified"]
        elif "cpu" in names:
            tops = [root / controllers, root / "cpu"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", ".", "..")][:DEPTH_MAX]
        for top in tops:
            found += [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return list(dict.fromkeys(found))


def cpus_allowed(usable: int, limits: Sequence[tuple[str, str]]) -> int:
    """At least 1, at most `usable`. Each limit is the text of (cpu.max, "") or (cpu.cfs_quota_us, cpu.cfs_period_us).

    Half a CPU more is not rounded up: a thread beyond the quota stops all of them for the rest of a period.
    """
    allowed = float(usable)
    for first, second in limits:
        words = [*first.split(), *second.split()]
        try:
            quota, period = float(words[0]), float(words[1])
        except (IndexError, ValueError):
            # "max 100000": no limit.
            continue
        if quota > 0 and period > 0:
            allowed = min(allowed, quota / period)
    return max(1, int(allowed))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def read_cpus(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """The CPUs that this process may keep busy."""
    limits: list[tuple[str, str]] = []
    for directory in cgroup_directories(_text(membership), root):
        limits.append((_text(directory / "cpu.max"), ""))
        limits.append((_text(directory / "cpu.cfs_quota_us"), _text(directory / "cpu.cfs_period_us")))
    return cpus_allowed(len(os.sched_getaffinity(0)), limits)
