"""Trained heads on disk, by version: VERSION.npz, its card VERSION.json, and which of them is in use.

    VERSION.npz     the head (`sufficiency`): arrays, no pickle
    VERSION.json    its card; `artifact_sha256` vouches for the .npz
    VERSION.seen    fingerprints of the prompts that it was fitted to, 8 bytes each, little-endian, ascending
    VERSION.near    what tells near copies of those prompts (`lab.fitted_prompts`); absent where none was kept
    current         the version in use, one line; absent or "builtin": none, the built-in rule alone
    previous        what was in use before, for `rollback`

Promises: a version that is there is never written over; every file appears as a whole (written beside, flushed, then
renamed), so that a reader never sees half of one; writers exclude each other by a lock that dies with its owner. What
is read is bounded and checked, and nothing but a regular file is read. Blocking functions for a thread or a command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.classifier.regular_file import read_regular
from services.classifier.sufficiency import ARTIFACT_BYTES_MAX, SufficiencyError, SufficiencyModel, parse_sufficiency

__all__ = ["BUILTIN", "DEFAULT_DIRECTORY", "HeadStore", "HeadStoreError", "Stamp", "StoredHead"]

BUILTIN: Final = "builtin"
"""Names the absence of a trained head."""
DEFAULT_DIRECTORY: Final = Path(".spillway") / "heads"

CARD_BYTES_MAX: Final = 1 << 20
POINTER_BYTES_MAX: Final = 256
SEEN_MAX: Final = 1_000_000
SAME_NAMES_MAX: Final = 100
NEAR_BYTES_MAX: Final = 256 << 20
VERSIONS_LISTED_MAX: Final = 10_000
# A path, an option and a label of metrics at once. "builtin-1" and "heuristics-1" are names of what is packaged.
_VERSION: Final = re.compile(r"(?!builtin|heuristics|current$|previous$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class HeadStoreError(Exception):
    """The head cannot be read, written or put to use. The message says which and why."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head on disk: its version and its card."""

    version: str
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Changes whenever the head to use, or a file of it, changes. `version` is as `current` has it, unchecked."""

    version: str
    files: tuple[tuple[int, int, int] | None, ...] = ()


class HeadStore:
    """The heads in `directory`, which is made when something is first written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def current(self) -> str:
        """The version in use, BUILTIN when none is. Raises HeadStoreError for what is no name."""
        return self._pointer("current")

    def previous(self) -> str:
        """What was in use before; empty when nothing was. Raises HeadStoreError for what is no name."""
        return self._pointer("previous", absent="")

    def stamp(self) -> Stamp:
        """What `current` says now, and the state of its files. Raises OSError."""
        version = self._read_pointer("current")
        if version in {"", BUILTIN} or not _VERSION.fullmatch(version):
            return Stamp(version)
        return Stamp(version, tuple(_state(self._path(version, kind)) for kind in ("npz", "json")))

    def versions(self) -> tuple[StoredHead, ...]:
        """Those that have a head and a readable card, oldest first. Raises HeadStoreError."""
        try:
            found = [path for path in self.directory.glob("*.npz") if _VERSION.fullmatch(path.stem)]
            found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        except OSError as error:
            raise HeadStoreError(f"{self.directory} cannot be read: {error.strerror}") from error
        heads = []
        for path in found[:VERSIONS_LISTED_MAX]:
            try:
                heads.append(StoredHead(path.stem, self.card(path.stem)))
            except HeadStoreError:
                continue
        return tuple(heads)

    def card(self, version: str) -> Mapping[str, Any]:
        """The card of a version. Raises HeadStoreError."""
        self._check_name(version)
        text = self._read_if_there(self._path(version, "json"), CARD_BYTES_MAX)
        if text is None:
            raise HeadStoreError(f"there is no head {version} in {self.directory}")
        try:
            card = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HeadStoreError(f"the card of head {version} is no JSON") from error
        if not isinstance(card, dict) or card.get("version") != version:
            raise HeadStoreError(f"the card of head {version} is not its own")
        return card

    def load(self, version: str) -> SufficiencyModel:
        """The head of a version, held against its card. Raises HeadStoreError."""
        card = self.card(version)
        data = self._read(self._path(version, "npz"), ARTIFACT_BYTES_MAX)
        if hashlib.sha256(data).hexdigest() != card.get("artifact_sha256"):
            raise HeadStoreError(f"head {version} is not what its card vouches for")
        try:
            model = parse_sufficiency(data)
        except SufficiencyError as error:
            raise HeadStoreError(f"head {version}: {error}") from error
        if model.version != version:
            raise HeadStoreError(f"head {version} calls itself by another name")
        return model

    def seen(self, version: str) -> npt.NDArray[np.uint64]:
        """Fingerprints of what the version was fitted to; none when they were not kept. Raises HeadStoreError."""
        self._check_name(version)
        data = self._read_if_there(self._path(version, "seen"), 8 * SEEN_MAX) or b""
        if len(data) % 8:
            raise HeadStoreError(f"the fingerprints of head {version} are torn")
        return np.frombuffer(data, dtype="<u8").astype(np.uint64)

    def near(self, version: str) -> bytes:
        """What tells near copies of the prompts it was fitted to; empty when not kept. Raises HeadStoreError."""
        self._check_name(version)
        return self._read_if_there(self._path(version, "near"), NEAR_BYTES_MAX) or b""

    def add(
        self,
        version: str,
        artifact: bytes,
        card: Mapping[str, Any],
        seen: npt.NDArray[np.uint64],
        near: bytes = b"",
    ) -> None:
        """Writes a new version. `card` must have `version` and `artifact_sha256`. Raises HeadStoreError."""
        self.check_free(version)
        prints = np.unique(seen)[:SEEN_MAX].astype("<u8").tobytes()
        # Half a surrogate pair, which UTF-8 has no bytes for, becomes JSON's own escape.
        text = json.dumps(card, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        if len(text) > CARD_BYTES_MAX or len(artifact) > ARTIFACT_BYTES_MAX or len(near) > NEAR_BYTES_MAX:
            raise HeadStoreError(f"head {version} is too large to be kept")
        with self._locked():
            self.check_free(version)
            # The head itself last: what has no .npz is no version.
            for kind, data in (("seen", prints), ("near", near), ("json", text), ("npz", artifact)):
                self._replace(self._path(version, kind), data)

    def check_free(self, version: str) -> None:
        """Raises HeadStoreError when the name is none, or taken."""
        self._check_name(version)
        # Also what is no file, or a link to nothing, takes the name.
        if any(os.path.lexists(self._path(version, kind)) for kind in ("npz", "json")):
            raise HeadStoreError(f"head {version} is there already; a version is never written over")

    def free_name(self, wanted: str) -> str:
        """`wanted`, or where that is taken the first of wanted-2, wanted-3, … that is not. Raises HeadStoreError."""
        for name in (wanted, *(f"{wanted}-{number}" for number in range(2, SAME_NAMES_MAX + 1))):
            try:
                self.check_free(name)
            except HeadStoreError:
                self._check_name(name)
                continue
            return name
        raise HeadStoreError(f"{SAME_NAMES_MAX} heads are called {wanted}")

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Excludes everybody else who decides by a comparison what is put to use; waits for them. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".deciding").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def use(self, version: str, *, instead_of: str | None = None) -> None:
        """Puts a version (or BUILTIN) to use, and remembers what was in use before. Raises HeadStoreError.

        `instead_of`: only if that is in use.
        """
        if version != BUILTIN:
            self.load(version)
        with self._locked():
            before = self._read_pointer("current") or BUILTIN
            if instead_of is not None and before != instead_of:
                raise HeadStoreError(f"{before} was put to use meanwhile, not {instead_of}; {version} is not in use")
            if before == version:
                return
            self._replace(self.directory / "previous", f"{before}\n".encode())
            self._replace(self.directory / "current", f"{version}\n".encode())

    def rollback(self) -> str:
        """Exchanges what is in use with what was before; what is in use now. Raises HeadStoreError."""
        with self._locked():
            before, now = self.previous(), self._read_pointer("current") or BUILTIN
            if not before or before == now:
                raise HeadStoreError("there is nothing to go back to")
            if before != BUILTIN:
                self.load(before)
            self._replace(self.directory / "previous", f"{now}\n".encode())
            self._replace(self.directory / "current", f"{before}\n".encode())
        return before

    def _path(self, version: str, kind: str) -> Path:
        return self.directory / f"{version}.{kind}"

    @staticmethod
    def _check_name(version: str) -> None:
        if not _VERSION.fullmatch(version):
            raise HeadStoreError(
                f"{version[:80]!r} is no name for a head: letters, digits, dots, dashes and underscores, at most 64, "
                "and neither a name of the store's own nor one that begins with builtin or heuristics"
            )

    def _pointer(self, name: str, *, absent: str = BUILTIN) -> str:
        try:
            found = self._read_pointer(name)
        except OSError as error:
            raise HeadStoreError(f"{self.directory / name} cannot be read: {error.strerror}") from error
        if found not in {"", BUILTIN}:
            self._check_name(found)
        return found or absent

    def _read_pointer(self, name: str) -> str:
        try:
            return read_regular(self.directory / name, POINTER_BYTES_MAX).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""

    def _read(self, path: Path, bytes_max: int) -> bytes:
        data = self._read_if_there(path, bytes_max)
        if data is None:
            raise HeadStoreError(f"there is no {path.name} in {self.directory}")
        return data

    @staticmethod
    def _read_if_there(path: Path, bytes_max: int) -> bytes | None:
        try:
            data = read_regular(path, bytes_max + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HeadStoreError(f"{path} cannot be read: {error.strerror}") from error
        if len(data) > bytes_max:
            raise HeadStoreError(f"{path} is larger than {bytes_max} bytes")
        return data

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise HeadStoreError(f"{self.directory} cannot be written: {error.strerror}") from error

    def _replace(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
