"""An entry as one string of bytes: in this process's memory and in its file.

A million entries as objects are ten million things for the garbage collector to visit; as bytes they are none, and take
a third of the memory. Unpacking one costs some 30 microseconds.

Promises: `unpack_entry(key, pack_entry(entry)) == entry`; bytes that are no entry of this version, or that have
changed, read as None and raise nothing; never a pickle.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import zlib
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from services.cache.entry import Entry, Question, Scope
from services.cache.store.answer_codec import answer_from_proto, answer_to_proto
from spillway.v1 import cache_pb2
from spillway.wire import WireError

__all__ = ["EntryHead", "head_of", "pack_entry", "unpack_entry", "unpack_head", "unpack_question", "unpack_vector"]

_FRAME = struct.Struct("<BIIII")
"""Version, CRC-32 of what follows, and the lengths of head, vector and answer."""

_VERSION = 2


@dataclass(frozen=True, slots=True)
class EntryHead:
    """All of an entry but its answer; and what that had cost."""

    scope: Scope
    stored_at_unix_s: float
    expires_at_unix_s: float
    partition: str
    embedding_model: str
    question: str
    tags: tuple[str, ...]
    cost_nanousd: int
    vector: bytes
    group: str = ""
    aliases: int = 1


def head_of(entry: Entry) -> EntryHead:
    """The head that `unpack_head` finds in the packed entry."""
    return EntryHead(
        entry.scope,
        entry.stored_at_unix_s,
        entry.expires_at_unix_s,
        entry.partition,
        entry.embedding_model,
        entry.question,
        entry.tags,
        entry.answer.cost_nanousd,
        entry.vector,
        entry.group,
        entry.aliases,
    )


def pack_entry(entry: Entry) -> bytes:
    """The entry without its key."""
    head = json.dumps(
        [
            dataclasses.astuple(entry.scope),
            entry.stored_at_unix_s,
            entry.expires_at_unix_s,
            entry.partition,
            entry.embedding_model,
            entry.question,
            entry.tags,
            entry.answer.cost_nanousd,
            entry.group,
            entry.aliases,
        ]
    ).encode()  # ASCII, so lone surrogates pass
    answer = answer_to_proto(entry.answer).SerializeToString()
    body = b"".join((head, entry.vector, answer))
    return _FRAME.pack(_VERSION, zlib.crc32(body), len(head), len(entry.vector), len(answer)) + body


def unpack_head(packed: bytes) -> EntryHead | None:
    """The head alone, several times faster than the entry."""
    if len(packed) < _FRAME.size:
        return None
    version, checksum, head_bytes, vector_bytes, answer_bytes = _FRAME.unpack_from(packed)
    body = memoryview(packed)[_FRAME.size :]
    if version != _VERSION or len(body) != head_bytes + vector_bytes + answer_bytes or zlib.crc32(body) != checksum:
        return None
    try:
        scope, stored_at, expires_at, partition, model, question, tags, cost, group, aliases = json.loads(
            str(body[:head_bytes], "ascii")
        )
        if not (math.isfinite(stored_at) and math.isfinite(expires_at)):
            return None
        vector = bytes(body[head_bytes : head_bytes + vector_bytes])
        return EntryHead(
            Scope(*scope),
            stored_at,
            expires_at,
            partition,
            model,
            question,
            tuple(tags),
            int(cost),
            vector,
            group,
            int(aliases),
        )
    except (ValueError, TypeError, RecursionError):
        return None


def unpack_vector(packed: bytes) -> bytes:
    """The vector alone, of what `unpack_head` has read before."""
    _, _, head_bytes, vector_bytes, _ = _FRAME.unpack_from(packed)
    begin = _FRAME.size + head_bytes
    return packed[begin : begin + vector_bytes]


def unpack_question(key: str, packed: bytes) -> Question | None:
    """The question of the entry with that key."""
    head = unpack_head(packed)
    if head is None:
        return None
    return Question(key, head.scope, head.partition, head.question, head.expires_at_unix_s, head.group, head.aliases)


def unpack_entry(key: str, packed: bytes) -> Entry | None:
    """The entry with that key."""
    head = unpack_head(packed)
    if head is None:
        return None
    (*_, answer_bytes) = _FRAME.unpack_from(packed)
    try:
        answer = answer_from_proto(cache_pb2.CachedAnswer.FromString(packed[len(packed) - answer_bytes :]))
    except (DecodeError, WireError):
        return None
    return Entry(
        key=key,
        scope=head.scope,
        answer=answer,
        stored_at_unix_s=head.stored_at_unix_s,
        expires_at_unix_s=head.expires_at_unix_s,
        partition=head.partition,
        vector=head.vector,
        embedding_model=head.embedding_model,
        question=head.question,
        tags=head.tags,
        group=head.group,
        aliases=head.aliases,
    )
