"""What lies in Redis is read with suspicion: anything that is no entry is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from services.cache.entry import Scope
from services.cache.partition import entry_key, tenant_bucket
from services.cache.store import redis_layout as layout
from services.cache.store.answer_store import Removed
from services.cache.store.redis_names import Names, key_of_member, member, tenant_pattern
from tests.support.cache_parts import chat, entry

WHOLE = replace(entry("q", now_unix_s=1_700_000_000.125, tags=("a", "b")), group="k1", aliases=3)


def raw(**changed: bytes | None) -> list[bytes | None]:
    fields: dict[str, bytes | None] = {}
    for name, value in layout.fields_of_entry(WHOLE).items():
        assert isinstance(name, str)
        assert isinstance(value, str | bytes)
        fields[name] = value.encode() if isinstance(value, str) else value
    return [(fields | changed)[name] for name in layout.ENTRY_FIELDS]


def test_an_entry_is_read_as_it_was_written() -> None:
    assert layout.entry_of_fields(WHOLE.key, raw()) == WHOLE


@pytest.mark.parametrize(
    "broken",
    [
        {"answer": b"\xff\xff"},
        {"answer": None},
        {"answer": b"\x10\x63"},  # a finish reason that this version does not know
        {"tags": b"{}"},
        {"tags": b"[1]"},
        {"tags": b"not json"},
        {"tags": b"[" * 200_000},
        {"tenant": b"\xff"},
        {"expires_at": b"nan"},
        {"expires_at": b"soon"},
        {"stored_at": b"inf"},
        {"question": None},
        {"aliases": b"many"},
    ],
)
def test_what_is_broken_is_no_entry(broken: dict[str, bytes | None]) -> None:
    assert layout.entry_of_fields(WHOLE.key, raw(**broken)) is None


@given(st.tuples(*(st.none() | st.binary(max_size=20) for _ in layout.ENTRY_FIELDS)))
def test_no_bytes_make_the_reader_fail(values: tuple[bytes | None, ...]) -> None:
    layout.entry_of_fields("k", values)
    layout.meta_of_fields(values[:5])
    layout.indexed_of_fields("k", values[:4])


@given(st.dictionaries(st.sampled_from([b"put", b"removed", b"began"]), st.binary()))
def test_no_record_makes_the_reader_fail(record: dict[bytes, bytes]) -> None:
    layout.news_of_record(record)


def test_records_tell_what_happened() -> None:
    assert layout.news_of_record({b"put": WHOLE.key.encode()}) == WHOLE.key
    assert layout.news_of_record({b"removed": b"k1 k2"}) == Removed(("k1", "k2"))
    assert layout.news_of_record({b"news": b"of a later version"}) is None


def test_a_position_outlives_the_process_and_nothing_else_is_one() -> None:
    text = layout.text_of_position([b"1700000000000-0", b"5-17"])
    assert layout.position_of_text(text, 2) == [b"1700000000000-0", b"5-17"]
    for other in ("", text + " 1-1", "1" + text, text.replace("-", ""), "2 1-1 -1-1", "2 1-1 1-1\n"):
        assert layout.position_of_text(other, 2) is None
    assert layout.position_of_text(text, 16) is None


@given(st.text(), st.integers(1, 64))
def test_every_text_has_a_shard(key: str, shards: int) -> None:
    assert 0 <= Names(shards).shard_of(key) < shards


def test_all_that_a_transaction_writes_lies_in_one_slot() -> None:
    names = Names(16)
    for number in range(100):
        tenant = f"tenant {number}"
        key = entry_key(Scope(tenant), chat(f"question {number}"))
        shard, bucket = names.shard_of(key), tenant_bucket(tenant)
        written = (names.entry(key), names.history(bucket), names.entries(shard), names.changes(shard))
        assert len({key_slot(name.encode()) for name in written}) == 1
    assert len({key_slot(names.entries(shard).encode()) for shard in range(16)}) == 16


def test_no_name_tells_a_tenant() -> None:
    assert "acme" not in member("acme", WHOLE.key)
    assert key_of_member(member("a:b", WHOLE.key).encode()) == WHOLE.key
    assert tenant_pattern(None) == "*"
