"""Entries as earlier versions packed them."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib

from services.cache.entry import Entry
from spillway.wire import cached_answer_to_proto

__all__ = ["packed_by_version_2"]


def packed_by_version_2(entry: Entry) -> bytes:
    """Version, CRC-32, lengths of head, vector and answer; these."""
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
    ).encode()
    answer = cached_answer_to_proto(entry.answer).SerializeToString()
    body = head + entry.vector + answer
    return struct.pack("<BIIII", 2, zlib.crc32(body), len(head), len(entry.vector), len(answer)) + body
