"""How entries and changes lie in Redis: names of keys, fields of hashes and of stream records.

Promises: versioned key names; no pickle; reading is total: what is not an entry of this version reads as None. All keys
share one hash tag, so that the transactions also work on a Redis Cluster (on one of its nodes).

    spillway:{cache}:1:entry:<entry key>   hash, expires with the entry
    spillway:{cache}:1:entries             sorted set "<tenant digest>:<entry key>" by expiry in Unix milliseconds
    spillway:{cache}:1:changes             stream of changes, bounded
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from redis.typing import EncodableT, FieldT

from services.cache.answer_codec import answer_from_proto, answer_to_proto
from services.cache.answer_store import Change, Indexed, Removed
from services.cache.entry import Entry, Scope
from spillway.v1 import cache_pb2
from spillway.wire import WireError

__all__ = [
    "CHANGES",
    "ENTRIES",
    "ENTRY_FIELDS",
    "INDEX_FIELDS",
    "META_FIELDS",
    "change_of_record",
    "entry_name",
    "entry_of_fields",
    "fields_of_entry",
    "indexed_of_fields",
    "key_of_member",
    "member",
    "meta_of_fields",
    "record_of_deletion",
    "record_of_entry",
    "tenant_pattern",
]

PREFIX = "spillway:{cache}:1:"
ENTRIES = f"{PREFIX}entries"
CHANGES = f"{PREFIX}changes"

META_FIELDS = ("tenant", "namespace", "template_version", "knowledge_version", "tags")
INDEX_FIELDS = ("partition", "embedding_model", "vector", "expires_at")
ENTRY_FIELDS = (*META_FIELDS, *INDEX_FIELDS, "question", "answer", "stored_at")

Fields = Sequence[bytes | None]


def entry_name(key: str) -> str:
    """The name of the entry's hash."""
    return f"{PREFIX}entry:{key}"


def member(tenant: str, key: str) -> str:
    """The entry in the sorted set of all entries."""
    return f"{_tenant_digest(tenant)}:{key}"


def tenant_pattern(tenant: str | None) -> str:
    """The pattern of the members of one tenant, or of all."""
    return "*" if tenant is None else f"{_tenant_digest(tenant)}:*"


def key_of_member(raw: bytes) -> str:
    """The entry's key; empty for what is no member."""
    return raw.decode("ascii", "replace").partition(":")[2]


def fields_of_entry(entry: Entry) -> dict[FieldT, EncodableT]:
    """The entry as a hash; every field is always there, so a put leaves nothing of an older entry."""
    return {
        "tenant": entry.scope.tenant,
        "namespace": entry.scope.namespace,
        "template_version": entry.scope.template_version,
        "knowledge_version": entry.scope.knowledge_version,
        "tags": json.dumps(entry.tags),
        "partition": entry.partition,
        "embedding_model": entry.embedding_model,
        "vector": entry.vector,
        "expires_at": repr(entry.expires_at_unix_s),
        "question": entry.question,
        "answer": answer_to_proto(entry.answer).SerializeToString(),
        "stored_at": repr(entry.stored_at_unix_s),
    }


def entry_of_fields(key: str, fields: Fields) -> Entry | None:
    """The entry of the values of ENTRY_FIELDS."""
    present = [value for value in fields if value is not None]
    if len(present) != len(ENTRY_FIELDS):
        return None
    raw = dict(zip(ENTRY_FIELDS, present, strict=True))
    try:
        scope, tags = _meta(raw)
        return Entry(
            key=key,
            scope=scope,
            answer=answer_from_proto(cache_pb2.CachedAnswer.FromString(raw["answer"])),
            stored_at_unix_s=_time(raw["stored_at"]),
            expires_at_unix_s=_time(raw["expires_at"]),
            partition=raw["partition"].decode(),
            vector=raw["vector"],
            embedding_model=raw["embedding_model"].decode(),
            question=raw["question"].decode(),
            tags=tags,
        )
    except (DecodeError, WireError, ValueError, RecursionError):
        return None


def meta_of_fields(fields: Fields) -> tuple[Scope, tuple[str, ...]] | None:
    """The scope and tags of the values of META_FIELDS."""
    present = [value for value in fields if value is not None]
    if len(present) != len(META_FIELDS):
        return None
    try:
        return _meta(dict(zip(META_FIELDS, present, strict=True)))
    except (ValueError, RecursionError):
        return None


def indexed_of_fields(key: str, fields: Fields) -> Indexed | None:
    """What a follower learns of the values of INDEX_FIELDS; None also for an entry that is only found exactly."""
    partition, model, vector, expires_at = fields
    if not partition or model is None or vector is None or expires_at is None:
        return None
    try:
        return Indexed(key, partition.decode(), model.decode(), vector, _time(expires_at))
    except ValueError:
        return None


def record_of_entry(entry: Entry) -> dict[FieldT, EncodableT]:
    """The stream record of a put."""
    fields = fields_of_entry(entry)
    record: dict[FieldT, EncodableT] = {"put": entry.key}
    record.update((name, fields[name]) for name in INDEX_FIELDS)
    return record


def record_of_deletion(keys: Sequence[str]) -> dict[FieldT, EncodableT]:
    """The stream record of a deletion."""
    return {"removed": " ".join(keys)}


def change_of_record(record: Mapping[bytes, bytes]) -> Change | None:
    """The change that a stream record tells of; None for what this version does not know."""
    if (removed := record.get(b"removed")) is not None:
        return Removed(tuple(removed.decode("ascii", "replace").split()))
    if (key := record.get(b"put")) is not None:
        return indexed_of_fields(
            key.decode("ascii", "replace"), tuple(record.get(name.encode()) for name in INDEX_FIELDS)
        )
    return None


def _meta(raw: Mapping[str, bytes]) -> tuple[Scope, tuple[str, ...]]:
    tags = json.loads(raw["tags"])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags are no list of strings")
    scope = Scope(*(raw[name].decode() for name in META_FIELDS[:-1]))
    return scope, tuple(tags)


def _time(raw: bytes) -> float:
    value = float(raw)
    if not math.isfinite(value):
        raise ValueError("no time")
    return value


def _tenant_digest(tenant: str) -> str:
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:16]
