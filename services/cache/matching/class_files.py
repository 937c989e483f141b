"""What classes of partitions learned, in files: one each.

Promises: a file is whole or not there; one that cannot be read is left out and counted, whatever is in it; no more is
read of one than a state may have. Names of files say nothing of tenants. It blocks: for threads.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.cache.matching.risk_state import STATE_BYTES_MAX
from spillway.routing import TaskType

__all__ = ["read_classes", "write_class"]

SUFFIX: Final = ".risk"
HEAD_BYTES_MAX: Final = 16_384
"""Of the line that names the class."""


def write_class(directory: Path, task_type: TaskType, tenant: str | None, state: bytes) -> None:
    """In the place of what was kept of it before. `tenant` is None for the class that tenants share. Raises OSError."""
    name = json.dumps([task_type.value, tenant])
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / (hashlib.sha256(name.encode()).hexdigest()[:32] + SUFFIX)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(name.encode() + b"\n" + state)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_classes(directory: Path, *, kept_max: int) -> tuple[list[tuple[TaskType, str | None, bytes]], int]:
    """What was written, the newest first, and how many files cannot be read. Those of the oldest classes, beyond
    `kept_max`, are removed unread."""
    found: list[tuple[TaskType, str | None, bytes]] = []
    left_out = 0
    paths = sorted(directory.glob(f"*{SUFFIX}"), key=_changed_at, reverse=True)
    for path in paths[kept_max:]:
        with suppress(OSError):
            path.unlink()
    for path in paths[:kept_max]:
        try:
            with path.open("rb") as file:
                head = json.loads(file.readline(HEAD_BYTES_MAX))
                state = file.read(STATE_BYTES_MAX + 1)
            task_type, tenant = head
            if tenant is not None and not isinstance(tenant, str):
                raise TypeError("a tenant is a text")
            found.append((TaskType(task_type), tenant, state))
        except (OSError, ValueError, TypeError, RecursionError):
            left_out += 1
    return found, left_out


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0
