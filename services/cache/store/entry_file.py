"""The file of a store of answers: SQLite with a write-ahead log, one transaction for all changes that come together.

Promises: what was committed survives the death of the process and, as far as the disk tells the truth, of the machine;
after a commit nothing that fails makes it one that did not happen, and after the next commit nothing makes one that
failed happen; a file that is no cache, is damaged, of another version, or used by another process is a FileStoreError
that names it; only its owner can read it. What had expired before the start leaves, and its space is given back, with
the commits of others; until then it is found for a deletion and a replacement, as a clock may be put back. An
invalidation ends all of it with one note (`ended_rows`), and it leaves in idle turns too.

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
from pathlib import Path

from services.cache.store.ended_rows import EndedRows, notes_of, with_note, write_notes
from services.cache.store.entry_rows import EntryRows, RowChanges
from services.runtime.clock import Clock
from services.runtime.logs import get_logger

__all__ = ["FREE_BYTES_MAX", "PAGE_BYTES", "Deletion", "EntryFile", "FileStoreError", "Row", "way_out"]

APPLICATION_ID = 0x53504C57
"""Marks the file as ours ("SPLW"), in SQLite's header."""

SCHEMA_VERSION = 2
VERSIONS_READ = (1, 2)

EXPIRED_PER_COMMIT_MAX = 256
ENDED_PER_IDLE_COMMIT_MAX = 1_024
FREE_BYTES_MAX = 4_194_304
VACUUM_BYTES = 1_048_576
"""Rows that had expired before the start leave with other changes, and once they are over, in idle commits of some 25
ms; beyond 4 MiB of free pages, 1 MiB is given back with each commit."""

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

_ROWS = "SELECT rowid, key, CASE WHEN expires_at > ? {but_ended} THEN {found} END FROM entries ORDER BY rowid"
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
    """Of the entries with these keys, those that the file has; and perhaps all that had expired before the start."""

    keys: tuple[str, ...]
    ends_expired: bool = False


class EntryFile:
    """`open_and_read` and `check` first, then `clean`. `connection`: None while it is not open."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._version = SCHEMA_VERSION
        self._log = get_logger(__name__)
        self._page_bytes = PAGE_BYTES
        self._read_at_unix_s = 0.0
        self._rows = EntryRows()
        self._notes: list[EndedRows] = []
        self._is_ended = False  # what had expired before the start
        self._is_unsure = False  # what a commit that failed wrote may still lie in the log, as if it had not
        self.connection: sqlite3.Connection | None = None

    @property
    def expired(self) -> int:
        """How many keys have rows that had expired before the start, and are still there. Any thread may ask."""
        return len(self._rows.expired)

    @property
    def is_tidy(self) -> bool:
        """Whether nothing is there that should leave in idle turns. Any thread may ask."""
        return not (self._notes and self._rows.expired)

    def open_and_read(self) -> list[tuple[int, str, bytes | None]]:
        """Of every row, oldest first, its number, its key, and what lies there if it has not expired. Raises
        FileStoreError."""
        with self._named():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            for each in (self._path, _log_of(self._path)):
                if each.exists():
                    each.chmod(0o600)
            self._check_header()
            self.connection = connection = sqlite3.connect(
                self._path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check_version(connection)
            self._read_at_unix_s = self._clock.unix()
            self._notes = notes_of(connection)
            return self._read_rows(connection, "packed")

    def _read_rows(self, connection: sqlite3.Connection, found: str) -> list[tuple[int, str, bytes | None]]:
        """Of every row that has not expired and is not over, what is `found` there, and where each key lies."""
        query = _ROWS.format(found=found, but_ended=" AND (rowid > ? OR expires_at > ?)" * len(self._notes))
        bounds = [self._read_at_unix_s, *(bound for note in self._notes for bound in (note.row, note.until_unix_s))]
        rows: list[tuple[int, str, bytes | None]] = connection.execute(query, bounds).fetchall()
        try:
            self._rows = EntryRows(rows, ended=max((note.row for note in self._notes), default=0))
        except ValueError as error:
            raise sqlite3.DatabaseError(str(error)) from error
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
                f" process. {way_out(self._path)}"
            ) from error

    def clean(self, unreadable: Sequence[str], *, is_sealed: bool) -> None:
        """Deletes the rows and, when all are to be sealed, every trace of what lay there in the clear. What was deleted
        before may leave its traces on a disk that takes nothing more, until the next start. Raises FileStoreError."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._delete(connection, [(self._rows.living.pop(key), key) for key in unreadable])
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
                    self._read_rows(connection, "x''")
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
                f" {way_out(self._path)}"
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

    def commit(self, changes: Sequence[Row | Deletion], gone: Iterable[str], *, is_idle: bool = False) -> None:
        """All changes, in their order, after the rows that are gone, or none; and what should leave with it, which is
        more when it `is_idle`. Raises sqlite3.Error."""
        connection, rows = self._connected(), RowChanges(self._rows)
        notes, is_ended = self._notes, self._is_ended
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._is_unsure:  # whatever this commit has to write, it writes something, and over what lies there
                connection.execute(f"PRAGMA user_version={self._version}")
            self._delete(connection, rows.taken(gone))
            for change in changes:
                if isinstance(change, Deletion):
                    self._delete(connection, rows.taken(change.keys))
                    if change.ends_expired and rows.has_expired and not is_ended:
                        notes = with_note(notes, EndedRows(self._rows.last_expired, self._read_at_unix_s))
                        write_notes(connection, notes)
                        is_ended = True
                    continue
                self._delete(connection, rows.taken((change.key,)))
                connection.execute(
                    "INSERT INTO entries (rowid, key, expires_at, packed) VALUES (?, ?, ?, ?)",
                    (rows.put(change.key), change.key, change.expires_at_unix_s, change.packed),
                )
            leaving = ENDED_PER_IDLE_COMMIT_MAX if is_idle else EXPIRED_PER_COMMIT_MAX
            connection.executemany(_DELETE, rows.expired(leaving))
            if notes and not rows.has_expired:
                notes = []
                write_notes(connection, notes)
            connection.execute("COMMIT")
        except sqlite3.Error:
            self._is_unsure = True
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._is_unsure = False
        self._notes, self._is_ended = notes, is_ended
        rows.keep()
        with suppress(sqlite3.Error):  # a full disk, say: the changes are there all the same
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free * self._page_bytes > FREE_BYTES_MAX:
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_BYTES // self._page_bytes})")

    def _delete(self, connection: sqlite3.Connection, rows: Sequence[tuple[int, str]]) -> None:
        before = connection.total_changes
        connection.executemany(_DELETE, rows)
        if connection.total_changes - before < len(rows):
            raise sqlite3.DatabaseError(f"a row is not where it was: the file is damaged. {way_out(self._path)}")

    def close(self) -> None:
        """Lets go of the file."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def way_out(path: Path) -> str:
    """For messages. The log holds the latest changes; a start without the file would delete it."""
    return f"Move it away to begin anew, together with {_log_of(path).name}, if that is there."


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
