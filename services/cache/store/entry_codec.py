"""An entry as one string of bytes: in this process's memory and in its file.

A million entries as objects are ten million things for the garbage collector to visit; as bytes they are none, and take
a third of the memory. Unpacking one costs some 25 microseconds, its outline 2: what many entries have in common (scope,
tags, partition, model) stands first, and is read once.

Promises: `unpack_entry(key, pack_entry(entry)) == entry`; bytes that are no entry of this version and this key, or that
have changed, read as None and raise nothing; never a pickle. Version 2 had no key in its checksum: `renewed` takes a
row of it for whatever key it lies under, so two such rows that were exchanged with each other go unnoticed.
"""

from __future__ import annotations

import functools
import json
import math
import struct
import sys
import zlib
from dataclasses import astuple, dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from services.cache.entry import Entry, Question, Scope
from services.cache.store.answer_codec import answer_from_proto
from spillway.v1 import cache_pb2
from spillway.wire import WireError, cached_answer_to_proto

__all__ = [
    "Common",
    "Outline",
    "outline_of",
    "pack_entry",
    "renewed",
    "unpack_entry",
    "unpack_outline",
    "unpack_question",
    "unpack_vector",
]

_FRAME = struct.Struct("<BIIIIddqI")
"""Version, the lengths of what is common, of texts, vector and answer; when it was stored and expires, cost, aliases.
These parts follow, and then the CRC-32 of the key and of all that is before it."""

_LENGTHS = struct.Struct("<xIII")
_CHECKSUM = struct.Struct("<I")
_CHECKED = 0x2144DF1C
"""The CRC-32 of anything that ends with its own CRC-32, whatever that began with."""

_VERSION = 3

_FRAME_2 = struct.Struct("<BIIII")
"""Of version 2: version, CRC-32 of what follows, and the lengths of head (JSON), vector and answer."""

COMMONS_MAX = 16_384
"""Different ones that are kept ready, some 500 bytes each; reading another takes 3 microseconds."""


@dataclass(frozen=True, slots=True)
class Common:
    """What an entry mostly shares with others: whose it is, and among which questions it may be found; `partition` is
    empty for one that is only found exactly."""

    scope: Scope
    tags: tuple[str, ...]
    partition: str
    embedding_model: str


class Outline(NamedTuple):
    """What a store has to know of an entry beside its bytes. A tuple, as a million are made at a start."""

    common: Common
    expires_at_unix_s: float
    cost_nanousd: int


class _Frame(NamedTuple):
    common: bytes
    texts_begin: int
    vector_begin: int
    answer_begin: int
    stored_at_unix_s: float
    expires_at_unix_s: float
    cost_nanousd: int
    aliases: int


def outline_of(entry: Entry) -> Outline:
    """The outline that `unpack_outline` finds in the packed entry."""
    common = Common(entry.scope, entry.tags, entry.partition, entry.embedding_model)
    return Outline(_common(_common_bytes(common)), entry.expires_at_unix_s, entry.answer.cost_nanousd)


def pack_entry(entry: Entry) -> bytes:
    """The entry without its key."""
    return _pack(
        entry.key,
        Common(entry.scope, entry.tags, entry.partition, entry.embedding_model),
        [entry.question, entry.group],
        entry.vector,
        cached_answer_to_proto(entry.answer).SerializeToString(),
        (entry.stored_at_unix_s, entry.expires_at_unix_s, entry.answer.cost_nanousd, entry.aliases),
    )


def unpack_outline(key: str, packed: bytes) -> Outline | None:
    """The outline of a packed entry, which is wholly looked at. As `_frame`, for a third of the time."""
    if len(packed) < _FRAME.size or zlib.crc32(packed, _seed(key)) != _CHECKED:
        return None
    version, common, texts, vector, answer, stored_at, expires_at, cost, _ = _FRAME.unpack_from(packed)
    end = _FRAME.size + common
    if version != _VERSION or len(packed) != end + texts + vector + answer + _CHECKSUM.size:
        return None
    if not math.isfinite(stored_at + expires_at):
        return None
    try:
        return Outline(_common(packed[_FRAME.size : end]), expires_at, cost)
    except (ValueError, TypeError, RecursionError):
        return None


def unpack_vector(packed: bytes) -> bytes:
    """The vector alone, of what `unpack_outline` has read before."""
    common_bytes, texts_bytes, vector_bytes = _LENGTHS.unpack_from(packed)
    begin: int = _FRAME.size + common_bytes + texts_bytes
    return packed[begin : begin + vector_bytes]


def unpack_question(key: str, packed: bytes) -> Question | None:
    """The question of the entry with that key."""
    frame = _frame(key, packed)
    try:
        if frame is None:
            return None
        common = _common(frame.common)
        question, group = json.loads(packed[frame.texts_begin : frame.vector_begin])
    except (ValueError, TypeError, RecursionError):
        return None
    return Question(key, common.scope, common.partition, question, frame.expires_at_unix_s, group, frame.aliases)


def unpack_entry(key: str, packed: bytes) -> Entry | None:
    """The entry with that key."""
    frame = _frame(key, packed)
    try:
        if frame is None:
            return None
        common = _common(frame.common)
        question, group = json.loads(packed[frame.texts_begin : frame.vector_begin])
        answer = answer_from_proto(cache_pb2.CachedAnswer.FromString(packed[frame.answer_begin : -_CHECKSUM.size]))
    except (DecodeError, WireError, ValueError, TypeError, RecursionError):
        return None
    return Entry(
        key=key,
        scope=common.scope,
        answer=answer,
        stored_at_unix_s=frame.stored_at_unix_s,
        expires_at_unix_s=frame.expires_at_unix_s,
        partition=common.partition,
        vector=packed[frame.vector_begin : frame.answer_begin],
        embedding_model=common.embedding_model,
        question=question,
        tags=common.tags,
        group=group,
        aliases=frame.aliases,
    )


def renewed(key: str, packed: bytes) -> bytes | None:
    """An entry that version 2 packed, as it is packed now; None for anything else."""
    if len(packed) < _FRAME_2.size:
        return None
    version, checksum, head_bytes, vector_bytes, answer_bytes = _FRAME_2.unpack_from(packed)
    body = packed[_FRAME_2.size :]
    if version != 2 or len(body) != head_bytes + vector_bytes + answer_bytes or zlib.crc32(body) != checksum:
        return None
    try:
        scope, stored_at, expires_at, partition, model, question, tags, cost, group, aliases = json.loads(
            body[:head_bytes]
        )
        return _pack(
            key,
            Common(Scope(*scope), tuple(tags), partition, model),
            [question, group],
            body[head_bytes : head_bytes + vector_bytes],
            body[head_bytes + vector_bytes :],
            (stored_at, expires_at, cost, aliases),
        )
    except (ValueError, TypeError, RecursionError, OverflowError, struct.error):
        return None


def _seed(key: str) -> int:
    """Where a checksum begins, so that an entry is none under another key."""
    return zlib.crc32(key.encode() if key.isascii() else key.encode("utf-8", "surrogatepass"))


def _pack(
    key: str,
    common: Common,
    texts: list[str],
    vector: bytes,
    answer: bytes,
    numbers: tuple[float, float, int, int],
) -> bytes:
    head = _common_bytes(common)
    own = json.dumps(texts).encode()  # ASCII, so lone surrogates pass
    frame = _FRAME.pack(_VERSION, len(head), len(own), len(vector), len(answer), *numbers)
    packed = b"".join((frame, head, own, vector, answer))
    return packed + _CHECKSUM.pack(zlib.crc32(packed, _seed(key)))


def _frame(key: str, packed: bytes) -> _Frame | None:
    """What stands where, if this is an entry that has not changed."""
    if len(packed) < _FRAME.size:
        return None
    version, common_bytes, texts_bytes, vector_bytes, answer_bytes, *numbers = _FRAME.unpack_from(packed)
    texts_begin = _FRAME.size + common_bytes
    vector_begin = texts_begin + texts_bytes
    answer_begin = vector_begin + vector_bytes
    if version != _VERSION or len(packed) != answer_begin + answer_bytes + _CHECKSUM.size:
        return None
    if zlib.crc32(packed, _seed(key)) != _CHECKED or not math.isfinite(numbers[0] + numbers[1]):
        return None
    return _Frame(packed[_FRAME.size : texts_begin], texts_begin, vector_begin, answer_begin, *numbers)


def _common_bytes(common: Common) -> bytes:
    return json.dumps([astuple(common.scope), common.tags, common.partition, common.embedding_model]).encode()


@functools.lru_cache(maxsize=COMMONS_MAX)
def _common(raw: bytes) -> Common:
    """The one object for all entries that have these bytes. Raises ValueError and TypeError."""
    scope, tags, partition, model = json.loads(raw)
    return Common(_scope(*scope), tuple(tags), sys.intern(partition), sys.intern(model))


@functools.lru_cache(maxsize=COMMONS_MAX)
def _scope(tenant: str, namespace: str, template_version: str, knowledge_version: str) -> Scope:
    return Scope(tenant, namespace, template_version, knowledge_version)
