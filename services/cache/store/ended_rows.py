"""What an invalidation says of rows that had expired before a start: they are over, whatever a clock says later.

Whose those rows are nobody has read, and deleting many takes long. So one note stands for all of them, in the same
transaction as the rest of the invalidation: the rows up to a number that had expired at a time. They leave afterwards,
and then the note. A row that is put later has a higher number.

Synchronous; on a connection that the caller has opened, in a transaction that is the caller's.
"""

from __future__ import annotations

import math
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EndedRows", "notes_of", "with_note", "write_notes"]

_NOTE = struct.Struct(">qd")
_SUM = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class EndedRows:
    """The rows up to number `row` that had expired at `until_unix_s`."""

    row: int
    until_unix_s: float


def notes_of(connection: sqlite3.Connection) -> list[EndedRows]:
    """All notes. Raises sqlite3.Error, also for one that is damaged."""
    (is_there,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ended'").fetchone()
    notes = connection.execute("SELECT note FROM ended").fetchall() if is_there else []
    return [_read(note) for (note,) in notes]


def with_note(notes: Sequence[EndedRows], ended: EndedRows) -> list[EndedRows]:
    """The notes and this one, which takes the place of those that say less."""
    return [each for each in notes if each.row > ended.row or each.until_unix_s > ended.until_unix_s] + [ended]


def write_notes(connection: sqlite3.Connection, notes: Sequence[EndedRows]) -> None:
    """In place of all that are there. Raises sqlite3.Error."""
    connection.execute("CREATE TABLE IF NOT EXISTS ended (note BLOB NOT NULL)")
    connection.execute("DELETE FROM ended")
    packed = [_NOTE.pack(note.row, note.until_unix_s) for note in notes]
    connection.executemany("INSERT INTO ended VALUES (?)", [(each + _SUM.pack(zlib.crc32(each)),) for each in packed])


def _read(note: object) -> EndedRows:
    if not isinstance(note, bytes) or len(note) != _NOTE.size + _SUM.size:
        raise sqlite3.DatabaseError("a note of what is over is damaged")
    packed = note[: _NOTE.size]
    row, until_unix_s = _NOTE.unpack(packed)
    if _SUM.pack(zlib.crc32(packed)) != note[_NOTE.size :] or not math.isfinite(until_unix_s):
        raise sqlite3.DatabaseError("a note of what is over is damaged")
    return EndedRows(row, until_unix_s)
