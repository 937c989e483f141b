"""What lies in Redis is read with suspicion: anything that is no entry is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache import redis_layout as layout
from services.cache.answer_store import Indexed, Removed
from tests.support.cache_parts import entry

WHOLE = entry("q", now_unix_s=1_700_000_000.125, tags=("a", "b"))


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
    ],
)
def test_what_is_broken_is_no_entry(broken: dict[str, bytes | None]) -> None:
    assert layout.entry_of_fields(WHOLE.key, raw(**broken)) is None


@given(st.lists(st.none() | st.binary(max_size=20), min_size=12, max_size=12))
def test_no_bytes_make_the_reader_fail(values: list[bytes | None]) -> None:
    layout.entry_of_fields("k", values)
    layout.meta_of_fields(values[:5])
    layout.indexed_of_fields("k", values[:4])


@given(st.dictionaries(st.sampled_from([b"put", b"removed", *(n.encode() for n in layout.INDEX_FIELDS)]), st.binary()))
def test_no_record_makes_the_reader_fail(record: dict[bytes, bytes]) -> None:
    layout.change_of_record(record)


def test_records_tell_what_happened() -> None:
    put = {
        str(name).encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in layout.record_of_entry(WHOLE).items()
    }
    assert layout.change_of_record(put) == Indexed(
        WHOLE.key, WHOLE.partition, WHOLE.embedding_model, WHOLE.vector, WHOLE.expires_at_unix_s
    )
    assert layout.change_of_record({b"removed": b"k1 k2"}) == Removed(("k1", "k2"))
    assert layout.change_of_record({b"news": b"of a later version"}) is None


def test_no_name_tells_a_tenant() -> None:
    assert "acme" not in layout.member("acme", WHOLE.key)
    assert layout.key_of_member(layout.member("a:b", WHOLE.key).encode()) == WHOLE.key
    assert layout.tenant_pattern(None) == "*"
