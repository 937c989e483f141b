"""What a running suite tells the other commands: `.spillway/up.json` in the directory where `spillway up` runs.

Promises: the file is replaced as a whole, so no reader sees half of it; it counts only while the suite lives, which the
kernel vouches for with a lock that dies with its owner, so a suite that was killed leaves nothing to be believed.
"""

from __future__ import annotations

import fcntl
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

__all__ = ["AlreadyRunningError", "ServiceState", "StateFile", "SuiteState", "learned_in", "read_state"]

DIRECTORY = ".spillway"
# A reader holds the lock for microseconds; an owner for as long as it lives.
LOCK_TRIES = 20
LOCK_PAUSE_S = 0.05


def learned_in(directory: Path) -> dict[str, str]:
    """The variables by which the packaged configuration keeps what is learned, and the ledger, beside the suite's
    state."""
    home = directory / DIRECTORY
    return {
        "SPILLWAY_HEADS_DIR": str(home / "heads"),
        "SPILLWAY_MEMORY_FILE": str(home / "memory.json"),
        "SPILLWAY_LEDGER_URL": f"sqlite:///{home / 'ledger.sqlite'}",
    }


class AlreadyRunningError(Exception):
    """Another suite runs from this directory."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One process of the suite; `pid` is None while it is being restarted."""

    name: str
    pid: int | None
    address: str


@dataclass(frozen=True, slots=True)
class SuiteState:
    """A running suite. `trace_query_url` is empty without a trace store, `certificates` (files: authority, certificate,
    key) where commands need none or find them in their environment."""

    pid: int
    target: str
    trace_query_url: str
    config: str
    services: tuple[ServiceState, ...]
    certificates: tuple[str, ...] = ()


class StateFile:
    """The state of the suite that runs in `directory`, as its owner writes it. A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / DIRECTORY
        self._path = self.directory / "up.json"
        self._lock: IO[str] | None = None
        self._written: SuiteState | None = None

    def __enter__(self) -> Self:
        """Take the directory. Raises AlreadyRunningError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = (self.directory / "up.lock").open("w")
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_PAUSE_S)
            else:
                self._lock = lock
                self._path.unlink(missing_ok=True)
                return self
        lock.close()
        raise AlreadyRunningError(f"a suite already runs from this directory (see {self._path})")

    def write(self, state: SuiteState) -> None:
        """Replace the state, if it is another than before."""
        if state == self._written:
            return
        self._written = state
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
        draft.replace(self._path)

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def read_state(directory: Path) -> SuiteState | None:
    """The suite that runs in `directory`; None when none does."""
    home = directory / DIRECTORY
    try:
        with (home / "up.lock").open() as lock:
            if not _is_held(lock):
                return None
        value = json.loads((home / "up.json").read_text(encoding="utf-8"))
        services = tuple(ServiceState(**service) for service in value.pop("services"))
        certificates = tuple(str(path) for path in value.pop("certificates", ()))
        return SuiteState(**value, services=services, certificates=certificates)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
