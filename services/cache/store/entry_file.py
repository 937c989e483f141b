"""The file of a store of answers: SQLite with a write-ahead log, one transaction for all changes that come together.

Promises: what was committed survives the death of the process and, as far as the disk tells the truth, of the machine;
after a commit nothing that fails makes it one that did not happen; a file that is no cache, is damaged, of another
version, or used by another process is a FileStoreError that names it; only its owner can read it. Expired rows leave,
and their space is given back, with the commits of others.

Rows are deleted by key, through an index: one that is damaged would leave a row there that is served again after the
next start, though its deletion was acknowledged. So the check at the start holds every index against the rows, and a
deletion that finds less than it should looks through the rows themselves: what it then finds without the index fails
it. The check takes 0.5 s of CPU for 200,000 entries instead of 0.23, and 3.5 s for a million instead of 1.25, on a core
of its own while the entries are loaded, which takes longer.

Synchronous; belongs to one thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.runtime.clock import Clock

__all__ = ["FREE_PAGES_MAX", "SCHEMA_VERSION", "Deletion", "EntryFile", "FileStoreError", "Row"]

APPLICATION_ID = 0x53504C57
"""Marks the file as ours ("SPLW"), in SQLite's header."""

SCHEMA_VERSION = 1

EXPIRED_PER_COMMIT_MAX = 256
FREE_PAGES_MAX = 1_024
VACUUM_PAGES = 256
"""Expired rows leave with other changes; beyond 4 MiB of free pages, 1 MiB is given back with each commit."""

_SCHEMA = """
CREATE TABLE entries (key TEXT PRIMARY KEY, expires_at REAL NOT NULL, packed BLOB NOT NULL);
CREATE INDEX entries_expiry ON entries (expires_at);
"""


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
    """Of the entries with these keys, which are all different. `held`: how many of them the file has, as far as is
    known; more than it has costs time alone."""

    keys: tuple[str, ...]
    held: int = 0


class EntryFile:
    """`open_and_read` and `check` first, then `clean`. `connection`: None while it is not open."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self.connection: sqlite3.Connection | None = None

    def open_and_read(self) -> list[tuple[str, bytes]]:
        """The rows that have not expired, by key, oldest first. Raises FileStoreError."""
        with self._named():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self.connection = connection = sqlite3.connect(
                self._path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check_version(connection)
            rows: list[tuple[str, bytes]] = connection.execute(
                "SELECT key, packed FROM entries WHERE expires_at > ? ORDER BY rowid", (self._clock.unix(),)
            ).fetchall()
        return rows

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
        """Deletes the rows and, when all are to be sealed, every trace of what lay there in the clear. Raises
        FileStoreError."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in unreadable))
            clear = 0
            if is_sealed:  # those that have expired were not read
                clear = connection.execute("DELETE FROM entries WHERE substr(packed, 1, 1) != x'ff'").rowcount
            (left,) = connection.execute("SELECT EXISTS (SELECT 1 FROM entries)").fetchone()
            connection.execute("COMMIT")
            if is_sealed:
                # Pages in use may hold what was deleted without secure_delete: only writing the file anew removes it.
                rewritten = bool(unreadable or clear or not left)
                connection.executescript("VACUUM" if rewritten else "PRAGMA incremental_vacuum")
            if unreadable or is_sealed:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise FileStoreError(f"{self._path}: what cannot be read could not be deleted ({error})") from error

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        empty = tables == 0 and application == 0
        if empty:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise FileStoreError(
                f"{self._path} is no cache of this version (it has {version}, this is {SCHEMA_VERSION})."
                " Move it away to begin anew."
            )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA journal_size_limit=67108864")
        if empty:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID};"
                f" PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )

    def commit(self, changes: Sequence[Row | Deletion], gone: Iterable[str]) -> None:
        """All changes, in their order, after the rows that are gone, or none. Raises sqlite3.Error."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in gone))
            for change in changes:
                if isinstance(change, Row):
                    connection.execute(
                        "INSERT OR REPLACE INTO entries (key, expires_at, packed) VALUES (?, ?, ?)",
                        (change.key, change.expires_at_unix_s, change.packed),
                    )
                else:
                    _delete(connection, change)
            connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE expires_at <= ? LIMIT ?)",
                (self._clock.unix(), EXPIRED_PER_COMMIT_MAX),
            )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        with suppress(sqlite3.Error):  # a full disk, say: the changes are there all the same
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free > FREE_PAGES_MAX:
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")  # execute() stops after one page

    def close(self) -> None:
        """Lets go of the file."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def _delete(connection: sqlite3.Connection, deletion: Deletion) -> None:
    before = connection.total_changes
    connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in deletion.keys))
    if connection.total_changes - before < deletion.held:
        # Either some have expired, by a clock that was put back since, and are gone; or the index does not lead to
        # them. SQLite raises for a row whose place in the index is missing.
        connection.execute(
            "DELETE FROM entries NOT INDEXED WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(deletion.keys),),
        )
