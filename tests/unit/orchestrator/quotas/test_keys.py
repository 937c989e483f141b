"""Whose key a call came with."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.doorkeeper import Caller
from services.orchestrator.quotas.keys import LOOK_S, Keys
from services.runtime.clock import FakeClock
from services.runtime.errors import PermissionDenied, SpillwayError, Unauthenticated
from spillway.api_keys import (
    ApiKey,
    KeyFileError,
    Scope,
    key_id_of,
    make_key,
    matches,
    parse_keys,
    render_keys,
)
from tests.support.following import put
from tests.unit.orchestrator.quotas.keyring import NOW, make


class File:
    def __init__(self, folder: Path, *keys: ApiKey) -> None:
        self.path = folder / "keys.json"
        self.clock = FakeClock()
        self.refused = 0
        self.write(*keys)
        self.keys = Keys(self.path, self.clock, on_bad_file=self.note)

    def note(self) -> None:
        self.refused += 1

    def write(self, *keys: ApiKey, text: str | None = None) -> None:
        put(self.path, render_keys(keys) if text is None else text)

    def ask(self, key: str, scope: str = "complete") -> Caller:
        return self.keys.authenticate([("authorization", f"Bearer {key}")], scope)

    def is_good(self, key: str) -> bool:
        try:
            self.ask(key)
        except Unauthenticated:
            return False
        return True


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Bearer {}")],
        [("authorization", "bearer  {} ")],
        [("x-api-key", "{}")],
        [("x-api-key", "{}"), ("authorization", "Bearer {}")],
        [("authorization", "Basic abc"), ("x-api-key", "{}"), ("other-bin", b"x")],
    ],
)
def test_a_key_names_its_tenant(tmp_path: Path, metadata: Sequence[tuple[str, str | bytes]]) -> None:
    entry, key = make()
    file = File(tmp_path, entry)
    given = [(name, value.format(key) if isinstance(value, str) else value) for name, value in metadata]
    assert file.keys.authenticate(given, "complete") == Caller("acme", entry.id)


def test_only_the_whole_key_is_good(tmp_path: Path) -> None:
    entry, key = make()
    _, stranger = make(2)
    file = File(tmp_path, entry)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for presented in ["", "spw_", key[:-1], key + "A", wrong, stranger, entry.id, entry.sha256, "é" * 60, key.upper()]:
        assert not file.is_good(presented), presented
    for metadata in ([], [("authorization", key)], [("x-api-key", key), ("x-api-key", stranger)]):
        with pytest.raises(Unauthenticated):
            file.keys.authenticate(metadata, "complete")


def test_two_keys_at_once_are_none(tmp_path: Path) -> None:
    (first, first_key), (second, second_key) = make(1), make(2)
    file = File(tmp_path, first, second)
    with pytest.raises(Unauthenticated):
        file.keys.authenticate([("authorization", f"Bearer {first_key}"), ("x-api-key", second_key)], "complete")


def test_why_a_key_is_not_good_is_not_told_to_the_caller(tmp_path: Path) -> None:
    entry, key = make()
    file = File(tmp_path, entry)
    said = set()
    for presented in (make(2)[1], key[:-1] + "_", "", "x" * 500):
        with pytest.raises(SpillwayError) as caught:
            file.ask(presented)
        said.add((caught.value.code, caught.value.reason, caught.value.public, caught.value.metadata))
        assert presented not in caught.value.detail or not presented
    assert said == {(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "a valid API key is needed", ())}


@pytest.mark.parametrize(
    ("scopes", "good"),
    [(["complete"], {"complete"}), (["jobs", "feedback"], {"jobs", "feedback"}), (["admin"], set(Scope))],
)
def test_a_key_is_good_for_its_scopes(tmp_path: Path, scopes: list[str], good: set[str]) -> None:
    entry, key = make(scopes=frozenset(map(Scope, scopes)))
    file = File(tmp_path, entry)
    for scope in Scope:
        if scope in good:
            assert file.ask(key, scope).tenant == "acme"
        else:
            with pytest.raises(PermissionDenied):
                file.ask(key, scope)


def test_a_key_is_good_until_it_expires(tmp_path: Path) -> None:
    entry, key = make(expires=NOW + timedelta(minutes=1))
    file = File(tmp_path, entry)
    file.clock.advance(59)
    assert file.is_good(key)
    file.clock.advance(1)
    assert not file.is_good(key)


def test_a_changed_file_is_taken_over(tmp_path: Path) -> None:
    (first, first_key), (second, second_key) = make(1), make(2)
    file = File(tmp_path, first)
    file.write(second)
    assert file.is_good(first_key), "the file is looked at once in a while"
    file.clock.advance(LOOK_S)
    assert not file.is_good(first_key)
    assert file.is_good(second_key)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "keys": []}', '{"version": 1, "keys": [{}]}'])
def test_a_bad_file_keeps_the_keys_that_were_in_force(tmp_path: Path, text: str) -> None:
    entry, key = make()
    file = File(tmp_path, entry)
    file.write(text=text)
    for _ in range(3):
        file.clock.advance(LOOK_S)
        assert file.is_good(key)
    assert file.refused == 1, "a bad file is complained of once"
    file.write()
    file.clock.advance(LOOK_S)
    assert not file.is_good(key)


def test_a_file_that_is_gone_keeps_the_keys_that_were_in_force(tmp_path: Path) -> None:
    entry, key = make()
    file = File(tmp_path, entry)
    os.unlink(file.path)  # noqa: PTH108
    file.clock.advance(LOOK_S)
    assert file.is_good(key)
    with pytest.raises(KeyFileError):
        Keys(file.path, file.clock)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
times = st.integers(946_684_800, 7_258_118_400).map(lambda unix_s: datetime.fromtimestamp(unix_s, UTC))


@given(
    st.lists(st.tuples(names, st.frozensets(st.sampled_from(Scope), min_size=1), st.none() | times, names), max_size=5)
)
def test_what_is_written_is_read_again(rows: list[tuple[str, frozenset[Scope], datetime | None, str]]) -> None:
    keys = tuple(
        replace(make(number)[0], tenant=tenant, scopes=scopes, expires=expires, note=note)
        for number, (tenant, scopes, expires, note) in enumerate(rows)
    )
    assert parse_keys(render_keys(keys)) == keys


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_text_is_a_file_or_one_error(text: str | bytes) -> None:
    with contextlib.suppress(KeyFileError):
        parse_keys(text)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"}, {"tenant": ""}, {"tenant": 5}, {"sha256": "00"}, {"created": None}, {"created": "2026-01-31"},
        {"scopes": []}, {"scopes": ["root"]}, {"scopes": "all"}, {"scopes": [[]]}, {"expires": 5}, {"more": 1},
    ],
)  # fmt: skip
def test_a_wrong_field_is_an_error_that_names_it_and_quotes_no_hash(change: dict[str, object]) -> None:
    document = json.loads(render_keys([make()[0]]))
    document["keys"][0].update(change)
    with pytest.raises(KeyFileError) as caught:
        parse_keys(json.dumps(document))
    assert "keys[0]" in str(caught.value)
    assert make()[0].sha256 not in str(caught.value)


def test_a_key_is_256_random_bits_and_its_hash_is_all_that_is_kept() -> None:
    entry, key = make()
    assert key_id_of(key) == entry.id
    assert matches(key, entry.sha256)
    assert key.rpartition("_")[2] not in render_keys([entry])
    with pytest.raises(ValueError, match="random"):
        make_key(b"short", bytes(32))
