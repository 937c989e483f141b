"""Entries as bytes: the same again, or nothing."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from services.cache.entry import Scope
from services.cache.store.entry_codec import pack_entry, unpack_entry
from tests.support.cache_parts import entry

texts = st.text(max_size=20)


@given(texts, st.tuples(texts, texts, texts, texts), st.lists(texts, max_size=3), st.booleans())
def test_an_entry_is_the_same_again(question: str, scope: tuple[str, ...], tags: list[str], exact: bool) -> None:
    made = entry("q", now_unix_s=1.5, scope=Scope(*scope), tags=tuple(tags), partition="" if exact else "p")
    made = dataclasses.replace(made, question=question, group="" if exact else question, aliases=len(tags))
    assert unpack_entry(made.key, pack_entry(made)) == made


@given(st.data())
def test_changed_bytes_are_no_entry(data: st.DataObject) -> None:
    packed = pack_entry(entry("q", now_unix_s=1.5))
    at = data.draw(st.integers(0, len(packed) - 1))
    changed = packed[:at] + bytes([packed[at] ^ data.draw(st.integers(1, 255))]) + packed[at + 1 :]
    assert unpack_entry("k", changed) is None
    assert unpack_entry("k", packed[:at]) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_a_fault(noise: bytes) -> None:
    assert unpack_entry("k", noise) is None
