"""Whose key a call came with.

Promises: a key counts only by its hash, compared in constant time, and only while it stands in the file and has not
expired; why one does not is for the log alone. The file is looked at every `LOOK_S` at most and read when it has
changed, as a whole; one that cannot be used is logged and counted, and the keys that were in force stay so. No key and
no hash reaches a log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from services.orchestrator.doorkeeper import Caller
from services.runtime.clock import Clock
from services.runtime.errors import PermissionDenied, Unauthenticated
from services.runtime.logs import get_logger
from spillway.api_keys import FILE_BYTES_MAX, ApiKey, KeyFileError, digest, key_id_of, matches, parse_keys

__all__ = ["LOOK_S", "Keys"]

LOOK_S: Final = 1.0
_BEARER: Final = "bearer "
_NOBODY: Final = digest("")  # what an unknown id is compared with, so that it takes as long as a known one
_log = get_logger(__name__)

_Stamp = tuple[int, int, int, int]


class Keys:
    """The keys of one file. Reads it at once: raises KeyFileError. `on_bad_file` is called for each refused change."""

    def __init__(self, path: Path, clock: Clock, *, on_bad_file: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._clock = clock
        self._on_bad_file = on_bad_file
        self._looked_at_s = clock.monotonic()
        self._stamp: _Stamp | None
        self._stamp, self._keys = _read(path)

    def authenticate(self, metadata: Sequence[tuple[str, str | bytes]], scope: str) -> Caller:
        """Whose key the call came with: `authorization: Bearer KEY`, or `x-api-key: KEY`.

        Raises Unauthenticated, and PermissionDenied for a scope that the key does not have.
        """
        self._look()
        key = _presented(metadata)
        key_id = key_id_of(key) if key else None
        if key is None or key_id is None:
            raise Unauthenticated(detail="no key" if not key else "not of the form of a key")
        entry = self._keys.get(key_id)
        is_right = matches(key, entry.sha256 if entry else _NOBODY)
        if entry is None or not is_right:
            raise Unauthenticated(detail=f"key {key_id}: {'wrong secret' if entry else 'unknown or revoked'}")
        if entry.is_expired(datetime.fromtimestamp(self._clock.unix(), UTC)):
            raise Unauthenticated(detail=f"key {key_id}: expired")
        if not entry.allows(scope):
            raise PermissionDenied("the API key's scopes do not allow this", detail=f"key {key_id}: no scope {scope}")
        return Caller(entry.tenant, entry.id)

    def stands(self, key_id: str, scope: str) -> bool:
        """Whether the key has been neither revoked nor robbed of the scope; it may have expired."""
        self._look()
        entry = self._keys.get(key_id)
        return entry is not None and entry.allows(scope)

    def _look(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._looked_at_s < LOOK_S:
            return
        self._looked_at_s = now_s
        try:
            if self._stamp_or_none() == self._stamp:
                return
            stamp, keys = _read(self._path)
        except KeyFileError as error:
            self._stamp = self._stamp_or_none()  # one that is bad is complained of once
            self._on_bad_file()
            _log.error("keys_refused", path=str(self._path), problem=str(error))
            return
        self._stamp, self._keys = stamp, keys
        _log.info("keys_reloaded", path=str(self._path), keys=len(keys))

    def _stamp_or_none(self) -> _Stamp | None:
        try:
            return _stamp(self._path.stat())
        except OSError:
            return None


def _presented(metadata: Sequence[tuple[str, str | bytes]]) -> str | None:
    """The key of a call; None when there is none, or more than one."""
    found: set[str] = set()
    for name, value in metadata:
        if isinstance(value, bytes):
            continue
        if name == "authorization" and value[: len(_BEARER)].lower() == _BEARER:
            found.add(value[len(_BEARER) :].strip())
        elif name == "x-api-key":
            found.add(value.strip())
    return found.pop() if len(found) == 1 else None


def _read(path: Path) -> tuple[_Stamp, Mapping[str, ApiKey]]:
    """Raises KeyFileError."""
    try:
        with path.open("rb") as opened:
            stamp = _stamp(os.fstat(opened.fileno()))
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyFileError(f"it cannot be read: {type(error).__name__}") from error
    return stamp, {key.id: key for key in parse_keys(raw)}


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
