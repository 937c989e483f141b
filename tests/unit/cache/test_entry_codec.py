"""Entries as bytes: the same again, or nothing."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from services.cache.entry import Scope
from services.cache.store.entry_codec import (
    outline_of,
    pack_entry,
    renewed,
    unpack_entry,
    unpack_outline,
    unpack_question,
    unpack_vector,
)
from tests.support.cache_parts import entry
from tests.support.packed_entries import packed_by_version_2

texts = st.text(max_size=20)


@given(texts, st.tuples(texts, texts, texts, texts), st.lists(texts, max_size=3), st.booleans())
def test_an_entry_is_the_same_again(question: str, scope: tuple[str, ...], tags: list[str], exact: bool) -> None:
    made = entry("q", now_unix_s=1.5, scope=Scope(*scope), tags=tuple(tags), partition="" if exact else "p")
    made = dataclasses.replace(made, question=question, group="" if exact else question, aliases=len(tags))
    packed = pack_entry(made)
    assert unpack_entry(made.key, packed) == made
    assert unpack_outline(made.key, packed) == outline_of(made)
    assert unpack_outline(f"{made.key}2", packed) is None
    assert unpack_entry(f"{made.key}2", packed) is None
    assert unpack_vector(packed) == made.vector
    asked = unpack_question(made.key, packed)
    assert asked is not None
    assert (asked.scope, asked.partition, asked.question) == (made.scope, made.partition, made.question)
    assert (asked.expires_at_unix_s, asked.group, asked.aliases) == (made.expires_at_unix_s, made.group, made.aliases)


@given(texts, st.data())
def test_an_entry_of_the_version_before_is_read_and_nothing_else(question: str, data: st.DataObject) -> None:
    made = dataclasses.replace(entry("q", now_unix_s=1.5, tags=("ü",)), question=question, group="g", aliases=3)
    old = packed_by_version_2(made)
    assert renewed(made.key, old) == pack_entry(made)
    at = data.draw(st.integers(0, len(old) - 1))
    assert renewed(made.key, old[:at] + bytes([old[at] ^ data.draw(st.integers(1, 255))]) + old[at + 1 :]) is None
    assert renewed(made.key, old[:at]) is None
    assert renewed(made.key, pack_entry(made)) is None


@given(st.data())
def test_changed_bytes_are_no_entry(data: st.DataObject) -> None:
    made = entry("q", now_unix_s=1.5)
    packed = pack_entry(made)
    at = data.draw(st.integers(0, len(packed) - 1))
    changed = packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :]
    for broken in (changed, packed[:at]):
        assert unpack_entry(made.key, broken) is None
        assert unpack_outline(made.key, broken) is None
        assert unpack_question(made.key, broken) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_a_fault(noise: bytes) -> None:
    assert unpack_entry("k", noise) is None
    assert unpack_outline("k", noise) is None
    assert renewed("k", noise) is None
