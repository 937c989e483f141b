"""The index in one file, so that a replica is warm without reading every entry again.

Promises: a snapshot is the index as it was at one moment, with the position in the change log that belongs to it; it
appears whole or not at all (written beside, synced, renamed); a file that is truncated, changed, of another version or
of other directions for its codes is no snapshot, and reading it raises nothing; nothing is ever unpickled. Writing and
reading run in the executor; the event loop pays for copying the keys, and for entering what was read.

    magic, 8 bytes · length of the head, uint32 · CRC-32 of the head, uint32 · the head, JSON
    for each partition: keys (UTF-8, NUL between them) · expiry times, float64 · vectors · codes · centre
    CRC-32 of all partitions, uint32           (little-endian throughout)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from services.cache.index.partition_rows import FrozenPartition
from services.cache.index.sign_codes import SignCoder
from services.cache.index.vector_index import DIMENSIONS_MAX, VectorIndex
from services.cache.index.vector_rows import Matrix, Vector
from services.runtime.logs import get_logger

__all__ = ["FILE_NAME", "POSITION_BYTES_MAX", "load_snapshot", "remove_snapshot", "save_snapshot"]

FILE_NAME = "index.snapshot"
POSITION_BYTES_MAX = 4_096

HEAD_BYTES_MAX = 268_435_456
"""Room for a million partitions; a longer head is a broken one."""

_MAGIC = b"SPLWIX\x00\x01"
_FRAME = struct.Struct("<II")
_CHECKSUM = struct.Struct("<I")
_READ_BYTES = 16_777_216


class _InvalidSnapshotError(Exception):
    """The file is no snapshot that this version can use."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    position: str
    dimensions: dict[str, int]
    partitions: list[FrozenPartition]


def remove_snapshot(directory: Path) -> None:
    """Deletes the snapshot, and what an unfinished writing left. Raises OSError."""
    for path in (directory / FILE_NAME, *directory.glob(f"{FILE_NAME}.*.part")):
        path.unlink(missing_ok=True)


async def save_snapshot(index: VectorIndex, directory: Path, *, position: str, executor: Executor) -> int:
    """Writes the index as it is now; how many entries. `position` says where in the change log that is.

    Raises OSError when the disk does not take it; an older snapshot then stays.
    """
    if len(position.encode()) > POSITION_BYTES_MAX:
        raise ValueError(f"a position has at most {POSITION_BYTES_MAX} bytes")
    partitions, dimensions = index.freeze()
    entries = len(index)
    snapshot = _Snapshot(position, dimensions, partitions)
    await asyncio.get_running_loop().run_in_executor(executor, _write, directory, snapshot)
    return entries


async def load_snapshot(index: VectorIndex, directory: Path, *, now_unix_s: float, executor: Executor) -> str | None:
    """Fills the index, which is emptied first; the snapshot's position, or None when there is none to be used."""
    index.clear()
    log = get_logger(__name__)
    try:
        snapshot = await asyncio.get_running_loop().run_in_executor(executor, _read, directory / FILE_NAME)
    except FileNotFoundError:
        return None
    except (_InvalidSnapshotError, OSError) as error:
        log.warning("cache_snapshot_not_used", file=str(directory / FILE_NAME), error=str(error))
        return None
    index.thaw(snapshot.partitions, snapshot.dimensions, now_unix_s=now_unix_s)
    log.info("cache_snapshot_loaded", indexed_entries=len(index))
    return snapshot.position


def _write(directory: Path, snapshot: _Snapshot) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{FILE_NAME}.{os.getpid()}.part"
    try:
        with partial.open("wb") as stream:
            keys = [_packed_keys(partition.keys) for partition in snapshot.partitions]
            head = _head(snapshot, keys)
            stream.write(_MAGIC + _FRAME.pack(len(head), zlib.crc32(head)) + head)
            checksum = 0
            for partition, packed in zip(snapshot.partitions, keys, strict=True):
                for piece in _pieces(partition, packed):
                    stream.write(piece)
                    checksum = zlib.crc32(piece, checksum)
            stream.write(_CHECKSUM.pack(checksum))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(directory / FILE_NAME)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _packed_keys(keys: list[str]) -> bytes:
    packed = "\0".join(keys).encode()
    if packed.count(0) != len(keys) - 1:
        raise ValueError("a key contains NUL")
    return packed


def _head(snapshot: _Snapshot, keys: list[bytes]) -> bytes:
    partitions = [
        [
            partition.name,
            len(partition.keys),
            len(packed),
            partition.vectors[0].shape[1],
            0 if partition.centre is None else partition.codes[0].shape[1],
        ]
        for partition, packed in zip(snapshot.partitions, keys, strict=True)
    ]
    widths = {
        len(partition.centre): partition.centre for partition in snapshot.partitions if partition.centre is not None
    }
    directions = {str(width): SignCoder(centre).fingerprint() for width, centre in widths.items()}
    head = {
        "position": snapshot.position,
        "dimensions": snapshot.dimensions,
        "directions": directions,
        "partitions": partitions,
    }
    return json.dumps(head).encode()


def _pieces(partition: FrozenPartition, packed_keys: bytes) -> Iterator[bytes | memoryview]:
    yield packed_keys
    yield np.asarray(partition.expires_at_unix_s, "<f8").tobytes()
    dtype = "<f4" if partition.centre is None else "<f2"
    for matrix in partition.vectors:
        yield np.ascontiguousarray(matrix, dtype).data.cast("B")
    if partition.centre is not None:
        for matrix in partition.codes:
            yield np.ascontiguousarray(matrix).data.cast("B")
        yield partition.centre.astype("<f4").tobytes()


def _read(path: Path) -> _Snapshot:
    with path.open("rb") as stream:
        head = _read_head(stream)
        try:
            shapes = [_Shape(*row) for row in head["partitions"]]
            position, dimensions, directions = head["position"], head["dimensions"], head["directions"]
        except (KeyError, TypeError) as error:
            raise _InvalidSnapshotError("the head is not complete") from error
        size_bytes = stream.tell() + sum(shape.size_bytes for shape in shapes) + _CHECKSUM.size
        if os.fstat(stream.fileno()).st_size != size_bytes:
            raise _InvalidSnapshotError("the file has not the length that its head says")
        reader = _Reader(stream)
        partitions = [_read_partition(reader, shape) for shape in shapes]
        if stream.read(_CHECKSUM.size) != _CHECKSUM.pack(reader.checksum):
            raise _InvalidSnapshotError("the checksum does not match")
    for partition in partitions:
        centre = partition.centre
        if centre is not None and directions.get(str(len(centre))) != SignCoder(centre).fingerprint():
            raise _InvalidSnapshotError("the codes have other directions")
    return _Snapshot(position, dimensions, partitions)


def _read_head(stream: BinaryIO) -> Any:
    frame = stream.read(len(_MAGIC) + _FRAME.size)
    if len(frame) != len(_MAGIC) + _FRAME.size or not frame.startswith(_MAGIC):
        raise _InvalidSnapshotError("no snapshot of this version")
    length, checksum = _FRAME.unpack(frame[len(_MAGIC) :])
    if length > HEAD_BYTES_MAX:
        raise _InvalidSnapshotError("the head is too long")
    head = stream.read(length)
    if len(head) != length or zlib.crc32(head) != checksum:
        raise _InvalidSnapshotError("the head's checksum does not match")
    return json.loads(head)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A partition in the head."""

    name: str
    rows: int
    keys_bytes: int
    width: int
    code_bytes: int

    def __post_init__(self) -> None:
        if not (self.rows > 0 and self.keys_bytes >= 0 and 0 < self.width <= DIMENSIONS_MAX and self.code_bytes >= 0):
            raise _InvalidSnapshotError("a partition's shape is none")

    @property
    def size_bytes(self) -> int:
        if not self.code_bytes:
            return self.keys_bytes + self.rows * (8 + 4 * self.width)
        return self.keys_bytes + self.rows * (8 + 2 * self.width + self.code_bytes) + 4 * self.width


class _Reader:
    """Reads arrays and keeps the checksum of all that it read. The file is known to be long enough."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.checksum = 0

    def array(self, shape: tuple[int, ...], dtype: str) -> Matrix:
        values: npt.NDArray[Any] = np.empty(shape, dtype)
        view = values.data.cast("B")
        for begin in range(0, len(view), _READ_BYTES):
            part = view[begin : begin + _READ_BYTES]
            if self._stream.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise _InvalidSnapshotError("the file got shorter")
            self.checksum = zlib.crc32(part, self.checksum)
        return values


def _read_partition(reader: _Reader, shape: _Shape) -> FrozenPartition:
    packed: Matrix = reader.array((shape.keys_bytes,), "u1")
    expires_at: Matrix = reader.array((shape.rows,), "<f8")
    vectors = reader.array((shape.rows, shape.width), "<f2" if shape.code_bytes else "<f4")
    codes: list[Matrix] = []
    centre: Vector | None = None
    if shape.code_bytes:
        codes = [reader.array((shape.rows, shape.code_bytes), "u1")]
        centre = reader.array((shape.width,), "<f4")
    try:
        keys = packed.tobytes().decode().split("\0")
    except UnicodeDecodeError as error:
        raise _InvalidSnapshotError("the keys are no text") from error
    if len(keys) != shape.rows or not np.isfinite(expires_at).all():
        raise _InvalidSnapshotError("a partition is not what its head says")
    return FrozenPartition(shape.name, keys, array("d", expires_at.astype("d").tobytes()), [vectors], codes, centre)
