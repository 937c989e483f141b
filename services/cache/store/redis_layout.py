"""How entries and changes lie in Redis: fields of hashes and of stream records (`redis_names` has the keys).

Promises: no pickle; reading is total: what is not an entry of this version reads as None. With a cipher, question,
answer and vector are sealed, each for its place; scope, tags and times are not: what is invalidated has to be found by
them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from redis.typing import EncodableT, FieldT

from services.cache.entry import Entry, Question, Scope
from services.cache.store.answer_codec import answer_from_proto
from services.cache.store.answer_store import Indexed, IndexedMany, Removed
from services.cache.store.prompt_cipher import PromptCipher
from services.cache.store.redis_names import VERSION
from spillway.v1 import cache_pb2
from spillway.wire import WireError, cached_answer_to_proto

__all__ = [
    "ENTRY_FIELDS",
    "HISTORY_HEAD",
    "INDEX_FIELDS",
    "META_FIELDS",
    "QUESTION_FIELDS",
    "STAMP",
    "entry_of_fields",
    "fields_of_entry",
    "indexed_many",
    "indexed_of_fields",
    "meta_of_fields",
    "news_of_record",
    "position_of_text",
    "question_of_fields",
    "text_of_position",
]

META_FIELDS = ("tenant", "namespace", "template_version", "knowledge_version", "tags")
INDEX_FIELDS = ("partition", "embedding_model", "vector", "expires_at")
ENTRY_FIELDS = (*META_FIELDS, *INDEX_FIELDS, "question", "answer", "stored_at", "group", "aliases")

QUESTION_FIELDS = (*META_FIELDS, "partition", "expires_at", "question", "group", "aliases")

STAMP = "stamp"
"""The entry's field that says when in the bucket's history it was stored."""

HISTORY_HEAD = ("era", "token", "number", "deletions", "last")

Fields = Sequence[bytes | None]

_RECORD_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)


def fields_of_entry(entry: Entry, cipher: PromptCipher | None = None) -> dict[FieldT, EncodableT]:
    """The entry as a hash; every field is always there, so a put leaves nothing of an older entry."""
    secrets = {
        "vector": entry.vector,
        "question": entry.question.encode(),
        "answer": cached_answer_to_proto(entry.answer).SerializeToString(),
    }
    if cipher is not None:
        secrets = {name: cipher.seal(plain, _place(entry.key, name)) for name, plain in secrets.items()}
    return {
        "tenant": entry.scope.tenant,
        "namespace": entry.scope.namespace,
        "template_version": entry.scope.template_version,
        "knowledge_version": entry.scope.knowledge_version,
        "tags": json.dumps(entry.tags),
        "partition": entry.partition,
        "embedding_model": entry.embedding_model,
        "expires_at": repr(entry.expires_at_unix_s),
        "stored_at": repr(entry.stored_at_unix_s),
        "group": entry.group,
        "aliases": str(entry.aliases),
        "vector": secrets["vector"],
        "question": secrets["question"],
        "answer": secrets["answer"],
    }


def entry_of_fields(key: str, fields: Fields, cipher: PromptCipher | None = None) -> Entry | None:
    """The entry of the values of ENTRY_FIELDS."""
    present = [value for value in fields if value is not None]
    if len(present) != len(ENTRY_FIELDS):
        return None
    raw = dict(zip(ENTRY_FIELDS, present, strict=True))
    if cipher is not None:
        for name in ("vector", "question", "answer"):
            opened = cipher.open(raw[name], _place(key, name))
            if opened is None:
                return None
            raw[name] = opened
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
            group=raw["group"].decode(),
            aliases=int(raw["aliases"]),
        )
    except (DecodeError, WireError, ValueError, RecursionError):
        return None


def question_of_fields(
    key: str, fields: Fields, cipher: PromptCipher | None = None
) -> tuple[Question, tuple[str, ...]] | None:
    """The question and the tags of the values of QUESTION_FIELDS."""
    present = [value for value in fields if value is not None]
    if len(present) != len(QUESTION_FIELDS):
        return None
    raw = dict(zip(QUESTION_FIELDS, present, strict=True))
    text = raw["question"] if cipher is None else cipher.open(raw["question"], _place(key, "question"))
    if text is None:
        return None
    try:
        scope, tags = _meta(raw)
        return Question(
            key,
            scope,
            raw["partition"].decode(),
            text.decode(),
            _time(raw["expires_at"]),
            raw["group"].decode(),
            int(raw["aliases"]),
        ), tags
    except (ValueError, RecursionError):
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


def indexed_of_fields(key: str, fields: Fields, cipher: PromptCipher | None = None) -> Indexed | None:
    """What a follower learns of the values of INDEX_FIELDS; None also for an entry that is only found exactly."""
    partition, model, vector, expires_at = fields
    if not partition or model is None or vector is None or expires_at is None:
        return None
    if cipher is not None:
        vector = cipher.open(vector, _place(key, "vector"))
    if vector is None or len(vector) % 4:  # what is sealed never has the length of a vector
        return None
    try:
        return Indexed(key, partition.decode(), model.decode(), vector, _time(expires_at))
    except ValueError:
        return None


def indexed_many(keys: Sequence[str], rows: Sequence[Fields], cipher: PromptCipher | None = None) -> list[IndexedMany]:
    """What a follower learns of the values of INDEX_FIELDS of many entries, by model."""
    by_model: dict[str, list[Indexed]] = {}
    for key, fields in zip(keys, rows, strict=True):
        if (entry := indexed_of_fields(key, fields, cipher)) is not None:
            by_model.setdefault(entry.embedding_model, []).append(entry)
    return [
        IndexedMany(
            model,
            [each.key for each in entries],
            [each.partition for each in entries],
            [each.vector for each in entries],
            [each.expires_at_unix_s for each in entries],
        )
        for model, entries in by_model.items()
    ]


def news_of_record(record: Mapping[bytes, bytes]) -> str | Removed | None:
    """The key that was put, or what was removed; None for what this version does not know."""
    if (removed := record.get(b"removed")) is not None:
        return Removed(tuple(removed.decode("ascii", "replace").split()))
    key = record.get(b"put")
    return None if key is None else key.decode("ascii", "replace")


def text_of_position(record_ids: Sequence[bytes]) -> str:
    """The last record read of each shard, as text that outlives the process."""
    return " ".join((str(VERSION), *(record_id.decode("ascii") for record_id in record_ids)))


def position_of_text(text: str, shards: int) -> list[bytes] | None:
    """What `text_of_position` was given; None for anything else, and for another number of shards."""
    version, *record_ids = text.split(" ")
    if version != str(VERSION) or len(record_ids) != shards or not all(map(_RECORD_ID.fullmatch, record_ids)):
        return None
    return [record_id.encode() for record_id in record_ids]


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


def _place(key: str, part: str) -> str:
    return f"redis/{VERSION}/{part}/{key}"
