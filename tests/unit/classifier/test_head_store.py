"""Trained heads on disk: whole, vouched for, never written over; one in use, one to go back to."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import numpy as np
import pytest

from services.classifier.head_store import BUILTIN, HeadStore, HeadStoreError
from services.classifier.sufficiency import serialise_sufficiency
from tests.support.router_rows import fitted

ARTIFACT = serialise_sufficiency(fitted("one"))


def card(version: str, artifact: bytes) -> dict[str, object]:
    return {"version": version, "artifact_sha256": hashlib.sha256(artifact).hexdigest()}


def stored(folder: Path, *versions: str) -> HeadStore:
    store = HeadStore(folder / "heads")
    for version in versions:
        artifact = ARTIFACT if version == "one" else serialise_sufficiency(fitted(version))
        store.add(version, artifact, card(version, artifact), np.asarray([3, 1, 1 << 63], dtype=np.uint64))
    return store


def test_an_empty_store_has_the_built_in_rule_in_use_and_nothing_to_go_back_to(tmp_path: Path) -> None:
    store = HeadStore(tmp_path / "none")
    assert store.current() == BUILTIN
    assert store.versions() == ()
    with pytest.raises(HeadStoreError, match="nothing to go back to"):
        store.rollback()


def test_a_head_comes_back_as_it_was_put_in_with_its_fingerprints(tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    assert store.load("one").version == "one"
    assert store.seen("one").tolist() == [1, 3, 1 << 63]
    assert [head.version for head in store.versions()] == ["one"]
    assert not [path.name for path in store.directory.iterdir() if path.name.endswith(".part")]


def test_a_version_is_never_written_over(tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    before = (store.directory / "one.npz").read_bytes()
    with pytest.raises(HeadStoreError, match="never written over"):
        store.add("one", b"other", card("one", b"other"), np.zeros(0, dtype=np.uint64))
    assert (store.directory / "one.npz").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "builtin", "builtin-1", "heuristics-1", "current", "previous", "x" * 65, "ä"]
)
def test_what_is_no_name_of_a_version_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HeadStoreError, match="no name for a head"):
        HeadStore(tmp_path).check_free(name)


def test_use_and_rollback_exchange_what_is_in_use_with_what_was(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "two")
    store.use("one")
    store.use("two")
    assert (store.current(), store.previous()) == ("two", "one")
    assert store.rollback() == "one"
    assert (store.current(), store.previous()) == ("one", "two")
    assert store.rollback() == "two"
    store.use(BUILTIN)
    assert (store.current(), store.previous()) == (BUILTIN, "two")


def test_using_what_is_in_use_does_not_lose_what_was_before(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "two")
    store.use("one")
    store.use("two")
    store.use("two")
    assert store.previous() == "one"


def test_a_head_takes_the_place_of_the_one_that_it_was_compared_with_and_of_no_other(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "two")
    store.use("one", instead_of=BUILTIN)
    with pytest.raises(HeadStoreError, match="one was put to use meanwhile"):
        store.use("two", instead_of=BUILTIN)
    assert store.current() == "one"
    store.use("two", instead_of="one")
    assert store.current() == "two"


def test_who_decides_by_a_comparison_excludes_others_but_not_a_hand_that_rolls_back(tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    with store.deciding():
        with (store.directory / ".deciding").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        store.use("one")
    with (store.directory / ".deciding").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "one-2")
    assert (store.free_name("one"), store.free_name("two")) == ("one-3", "two")
    with pytest.raises(HeadStoreError, match="no name for a head"):
        store.free_name("../x")


def test_a_head_that_its_card_does_not_vouch_for_is_neither_loaded_nor_used(tmp_path: Path) -> None:
    store = stored(tmp_path, "one", "two")
    store.use("two")
    path = store.directory / "one.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    for attempt in (store.load, store.use):
        with pytest.raises(HeadStoreError, match="not what its card vouches for"):
            attempt("one")
    assert store.current() == "two"


def test_a_head_under_another_name_than_its_own_is_refused(tmp_path: Path) -> None:
    store = HeadStore(tmp_path)
    store.add("alias", ARTIFACT, card("alias", ARTIFACT), np.zeros(0, dtype=np.uint64))
    with pytest.raises(HeadStoreError, match="another name"):
        store.load("alias")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"version": "two"}', b"\xff\xfe"])
def test_a_card_that_is_not_its_own_is_refused(tmp_path: Path, text: bytes) -> None:
    store = stored(tmp_path, "one")
    (store.directory / "one.json").write_bytes(text)
    with pytest.raises(HeadStoreError, match="card of head one"):
        store.load("one")
    assert store.versions() == ()


def test_the_stamp_changes_with_the_pointer_and_with_the_files(tmp_path: Path) -> None:
    store = stored(tmp_path, "one")
    empty = store.stamp()
    store.use("one")
    used = store.stamp()
    (store.directory / "one.npz").write_bytes(b"shorter")
    assert len({empty, used, store.stamp()}) == 3
