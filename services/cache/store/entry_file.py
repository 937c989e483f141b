"""The file of a store of answers: SQLite with a write-ahead log, one transaction for all changes that come together.

Promises: what was committed survives the death of the process and, as far as the disk tells the truth, of the machine;
after a commit nothing that fails makes it one that did not happen, and after the next commit nothing makes one that
failed happen; a file that is no cache, is damaged, of another version, or used by another process is a FileStoreError
that names it; only its owner can read it. What had expired before the start leaves, and its space is given back, with
the commits of others; until then it is found for a deletion and a replacement, as a clock may be put back.

No index: a damaged one would leave a row there that is served again after the next start, though its deletion was
acknowledged. Where each key's row lies is known from reading all of them; a row is deleted by its number and its key,
and one that is not where it was is an error. So the check at the start has no indexes to hold against the rows, which
had cost three times as much as all else. Files of version 1 have two indexes, which nothing here is looked up by; their
starts take longer.

Synchronous; belongs to one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["FREE_BYTES_MAX", "PAGE_BYTES", "Deletion", "EntryFile", "FileStoreError", "Row"]

APPLICATION_ID = 0x53504C57
"""Marks the file as ours ("SPLW"), in SQLite's header."""

SCHEMA_VERSION = 2
VERSIONS_READ = (1, 2)

EXPIRED_PER_COMMIT_MAX = 256
FREE_BYTES_MAX = 4_194_304
VACUUM_BYTES = 1_048_576
"""Rows that had expired before the start leave with other changes; beyond 4 MiB of free pages, 1 MiB is given back with
each commit."""

LOG_BYTES = 4_194_304
"""A commit that finds a longer write-ahead log moves what is in it into the file."""

PAGE_BYTES = 16_384
"""Of new files. Older ones have 4,096, of which an entry mostly takes one of its own: a quarter more room, and time."""

_MAGIC = b"SQLite format 3\0"
_FORMATS = (b"\x01\x01", b"\x02\x02")
"""Bytes 18 and 19 of the file: with a write-ahead log, and as a copy that SQLite itself made may have them. With others
SQLite reads it and writes nothing, or does not find the log."""

_SCHEMA = """
CREATE TABLE entries (row INTEGER PRIMARY KEY, key TEXT NOT NULL, expires_at REAL NOT NULL, packed BLOB NOT NULL);
"""

_NUMBERS = "SELECT rowid, key, CASE WHEN expires_at > ? THEN x'' END FROM entries ORDER BY rowid"
_DELETE = "DELETE FROM entries WHERE rowid = ? AND key = ?"


class FileStoreError(Exception):
    """The file cannot be used; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry, as it lies there, in place of the one with its key."""

    key: str
    expires_at_unix_s: float
    packed: bytes


@dataclass(frozen=True, slots=True)
class Deletion:
    """Of the entries with these keys, those that the file has; and up to so many of those that had expired before the
    start."""

    keys: tuple[str, ...]
    expired_max: int = 0


class EntryFile:
    """`open_and_read` and `check` first, then `clean`. `connection`: None while it is not open."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._version = SCHEMA_VERSION
        self._log = get_logger(__name__)
        self._page_bytes = PAGE_BYTES
        self._read_at_unix_s = 0.0
        self._rows: dict[str, int] = {}  # where each key lies
        self._expired: dict[str, tuple[int, ...]] = {}  # and where it lay what had expired before the start
        self._is_unsure = False  # what a commit that failed wrote may still lie in the log, as if it had not
        self.connection: sqlite3.Connection | None = None

    @property
    def expired(self) -> int:
        """How many keys have rows that had expired before the start, and are still there. Any thread may ask."""
        return len(self._expired)

    def open_and_read(self) -> list[tuple[int, str, bytes | None]]:
        """Of every row, oldest first, its number, its key, and what lies there if it has not expired. Raises
        FileStoreError."""
        with self._named():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._check_header()
            self.connection = connection = sqlite3.connect(
                self._path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check_version(connection)
            self._read_at_unix_s = self._clock.unix()
            rows: list[tuple[int, str, bytes | None]] = connection.execute(
                "SELECT rowid, key, CASE WHEN expires_at > ? THEN packed END FROM entries ORDER BY rowid",
                (self._read_at_unix_s,),
            ).fetchall()
            self._note(rows)
        return rows

    def _note(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """What had expired may be there under its key beside others: earlier versions did not find it for a put."""
        self._rows, self._expired, living = {}, {}, 0
        for row, key, packed in rows:
            if packed is None:
                self._expired[key] = (*self._expired.get(key, ()), row)
            else:
                self._rows[key] = row
                living += 1
        if len(self._rows) < living:
            raise sqlite3.DatabaseError("a key is there twice")

    def check(self) -> None:
        """Whether any part of it is damaged, or does not fit the others, before anything of it is used; lets go of the
        interpreter meanwhile. Raises FileStoreError."""
        with self._named():
            connection = self._connected()
            if (damage := connection.execute("PRAGMA integrity_check(1)").fetchone()) != ("ok",):
                raise sqlite3.DatabaseError(str(damage[0]))

    def _connected(self) -> sqlite3.Connection:
        if self.connection is None:
            raise sqlite3.ProgrammingError("closed")
        return self.connection

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as error:  # the last of a message that quotes what is damaged
            raise FileStoreError(
                f"{self._path} cannot be used ({error}): it may be damaged, no cache, or used by another"
                " process. Move it away to begin anew."
            ) from error

    def clean(self, unreadable: Sequence[str], *, is_sealed: bool) -> None:
        """Deletes the rows and, when all are to be sealed, every trace of what lay there in the clear. What was deleted
        before may leave its traces on a disk that takes nothing more, until the next start. Raises FileStoreError."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._delete(connection, [(self._rows.pop(key), key) for key in unreadable])
            clear = 0
            if is_sealed:  # those that have expired were not read
                clear = connection.execute("DELETE FROM entries WHERE substr(packed, 1, 1) != x'ff'").rowcount
            (left,) = connection.execute("SELECT EXISTS (SELECT 1 FROM entries)").fetchone()
            connection.execute("COMMIT")
            if is_sealed:
                # Pages in use may hold what was deleted without secure_delete: only writing the file anew removes it.
                rewritten = bool(unreadable or clear or not left)
                self._tidy("VACUUM" if rewritten else "PRAGMA incremental_vacuum", is_needed=bool(unreadable or clear))
                if rewritten:  # in a file of version 1 rows may have other numbers now
                    self._note(connection.execute(_NUMBERS, (self._read_at_unix_s,)).fetchall())
            if unreadable or is_sealed:
                self._tidy("PRAGMA wal_checkpoint(TRUNCATE)", is_needed=bool(unreadable or clear))
        except sqlite3.Error as error:
            raise FileStoreError(f"{self._path}: what cannot be read could not be deleted ({error})") from error

    def _tidy(self, statement: str, *, is_needed: bool) -> None:
        try:
            self._connected().executescript(statement)  # execute() stops a vacuum after one page
        except sqlite3.Error as error:
            if is_needed:
                raise
            self._log.warning("cache_file_not_tidied", file=str(self._path), error=str(error))

    def _check_header(self) -> None:
        with self._path.open("rb") as file:
            head = file.read(20)
        if head.startswith(_MAGIC) and head[18:20] not in _FORMATS:
            raise sqlite3.DatabaseError("its header is damaged")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        empty = tables == 0 and application == 0
        if empty:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        elif application != APPLICATION_ID or version not in VERSIONS_READ:
            raise FileStoreError(
                f"{self._path} is no cache of this version (it has {version}, this is {SCHEMA_VERSION})."
                " Move it away to begin anew."
            )
        else:
            self._version = version
        if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise sqlite3.DatabaseError("it takes no write-ahead log")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA journal_size_limit=67108864")
        (self._page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // self._page_bytes}")
        if empty:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID};"
                f" PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )

    def commit(self, changes: Sequence[Row | Deletion], gone: Iterable[str]) -> None:
        """All changes, in their order, after the rows that are gone, or none. Raises sqlite3.Error."""
        connection, rows = self._connected(), _Rows(self._rows, self._expired)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._is_unsure:  # whatever this commit has to write, it writes something, and over what lies there
                connection.execute(f"PRAGMA user_version={self._version}")
            self._delete(connection, rows.taken(gone))
            for change in changes:
                if isinstance(change, Deletion):
                    self._delete(connection, rows.taken(change.keys))
                    self._delete(connection, rows.expired(change.expired_max))
                    continue
                self._delete(connection, rows.taken((change.key,)))
                put = connection.execute(
                    "INSERT INTO entries (key, expires_at, packed) VALUES (?, ?, ?)",
                    (change.key, change.expires_at_unix_s, change.packed),
                )
                rows.put(change.key, put.lastrowid or 0)
            connection.executemany(_DELETE, rows.expired(EXPIRED_PER_COMMIT_MAX))
            connection.execute("COMMIT")
        except sqlite3.Error:
            self._is_unsure = True
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._is_unsure = False
        rows.keep()
        with suppress(sqlite3.Error):  # a full disk, say: the changes are there all the same
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free * self._page_bytes > FREE_BYTES_MAX:
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_BYTES // self._page_bytes})")

    @staticmethod
    def _delete(connection: sqlite3.Connection, rows: Sequence[tuple[int, str]]) -> None:
        before = connection.total_changes
        connection.executemany(_DELETE, rows)
        if connection.total_changes - before < len(rows):
            raise sqlite3.DatabaseError("a row is not where it was: the file is damaged. Move it away to begin anew.")

    def close(self) -> None:
        """Lets go of the file."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class _Rows:
    """Where keys lie, with the changes of a transaction, which are kept or not."""

    def __init__(self, rows: dict[str, int], expired: dict[str, tuple[int, ...]]) -> None:
        self._rows = rows
        self._expired = expired
        self._changed: dict[str, int | None] = {}
        self._left: set[str] = set()  # of those that had expired

    def taken(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        """Of the keys that lie somewhere, the rows and the key; from now on they lie nowhere."""
        taken = []
        for key in keys:
            row = self._changed[key] if key in self._changed else self._rows.get(key)
            if row is not None:
                taken.append((row, key))
                self._changed[key] = None
            if key in self._expired:
                taken += self._leaving(key)
        return taken

    def expired(self, count: int) -> list[tuple[int, str]]:
        """What had expired under up to `count` keys, which have nothing of that kind from now on."""
        remaining = (key for key in reversed(self._expired) if key not in self._left)
        return [pair for key in islice(remaining, count) for pair in self._leaving(key)]

    def _leaving(self, key: str) -> list[tuple[int, str]]:
        if key in self._left:
            return []
        self._left.add(key)
        return [(row, key) for row in self._expired[key]]

    def put(self, key: str, row: int) -> None:
        self._changed[key] = row

    def keep(self) -> None:
        for key, row in self._changed.items():
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row
        for key in self._left:
            del self._expired[key]
        if self._left and self._expired:  # or the next look from its end would pass by the gaps of all that left
            self._expired.update((self._expired.popitem(),))
