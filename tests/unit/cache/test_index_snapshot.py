"""Snapshots of the index: whole or nothing, and as of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.cache.index.index_snapshot import FILE_NAME, load_snapshot, remove_snapshot, save_snapshot
from services.cache.index.partition_rows import EXACT_ROWS_MAX
from services.cache.index.vector_index import VectorIndex
from tests.support.cache_parts import MODEL, vector

ROWS = EXACT_ROWS_MAX + 300


@pytest.fixture
async def executor() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def made() -> VectorIndex:
    """One coded partition, two small ones, and an entry that expires early."""
    index = VectorIndex(entries_max=10_000)
    for number in range(ROWS):
        index.add(f"k{number}", partition="big", model=MODEL, vector=vector(f"v{number}"), expires_at_unix_s=9.0)
    for name in ("a", "b"):
        index.add(name, partition=f"of {name}", model="ü/2", vector=vector(name, 5), expires_at_unix_s=8.0)
    index.add("soon", partition="of a", model="ü/2", vector=vector("soon", 5), expires_at_unix_s=1.0)
    return index


async def keys(index: VectorIndex, partition: str, query: str, dimensions: int = 8) -> list[str]:
    found = await index.search(partition, vector(query, dimensions), count=3, now_unix_s=2.0)
    return [candidate.key for candidate in found]


async def test_what_was_saved_is_found_again_with_its_position(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    saved, loaded = made(), VectorIndex(entries_max=10_000)
    assert await save_snapshot(saved, tmp_path, position="12-3", executor=executor) == ROWS + 3
    loaded.add("other", partition="x", model=MODEL, vector=vector("x"), expires_at_unix_s=9.0)
    assert await load_snapshot(loaded, tmp_path, now_unix_s=2.0, executor=executor) == "12-3"
    assert (len(loaded), loaded.partitions) == (ROWS + 2, 3)
    for number in (0, 700, ROWS - 1):
        assert await keys(loaded, "big", f"v{number}") == await keys(saved, "big", f"v{number}")
    assert (await keys(loaded, "big", "v3"))[0] == "k3"
    assert await keys(loaded, "of a", "a", 5) == ["a"]
    assert loaded.remove("k3")
    assert "k3" not in await keys(loaded, "big", "v3")
    with pytest.raises(ValueError, match="dimensions"):
        loaded.add("c", partition="y", model="ü/2", vector=vector("c"), expires_at_unix_s=9.0)
    assert list(tmp_path.iterdir()) == [tmp_path / FILE_NAME]  # noqa: ASYNC240


async def test_changes_while_it_is_written_are_not_in_it(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    index, held = made(), asyncio.Event()
    before = await keys(index, "big", "v5")
    loop = asyncio.get_running_loop()
    executor.submit(lambda: asyncio.run_coroutine_threadsafe(held.wait(), loop).result())  # the writer has to wait
    saving = asyncio.create_task(save_snapshot(index, tmp_path, position="p", executor=executor))
    await asyncio.sleep(0)
    for number in range(0, ROWS, 2):
        index.remove(f"k{number}")
    for number in range(ROWS):
        index.add(f"new{number}", partition="big", model=MODEL, vector=vector(f"v{number}"), expires_at_unix_s=9.0)
    held.set()
    await saving
    loaded = VectorIndex(entries_max=10_000)
    await load_snapshot(loaded, tmp_path, now_unix_s=2.0, executor=executor)
    assert len(loaded) == ROWS + 2
    assert await keys(loaded, "big", "v5") == before


async def test_a_damaged_file_is_no_snapshot(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    await save_snapshot(made(), tmp_path, position="p", executor=executor)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    damaged = [b"", whole[:7], whole[:100], whole[:-1], whole + b"x", b"X" + whole[1:]]
    places = rng.integers(0, len(whole), 40).tolist()
    damaged += [whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :] for place in places]
    for data in damaged:
        path.write_bytes(data)
        index = VectorIndex(entries_max=10)
        assert await load_snapshot(index, tmp_path, now_unix_s=0.0, executor=executor) is None
        assert len(index) == 0


async def test_no_file_is_no_snapshot(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    index = VectorIndex(entries_max=10)
    assert await load_snapshot(index, tmp_path / "none", now_unix_s=0.0, executor=executor) is None


async def test_an_empty_index_has_a_snapshot(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    await save_snapshot(VectorIndex(entries_max=10), tmp_path, position="", executor=executor)
    assert await load_snapshot(VectorIndex(entries_max=10), tmp_path, now_unix_s=0.0, executor=executor) == ""


async def test_a_smaller_index_takes_what_fits(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    await save_snapshot(made(), tmp_path, position="p", executor=executor)
    index = VectorIndex(entries_max=7)
    assert await load_snapshot(index, tmp_path, now_unix_s=2.0, executor=executor) == "p"
    assert len(index) == 7


def test_a_snapshot_is_removed_with_what_was_left_of_others_and_nothing_else(tmp_path: Path) -> None:
    for name in (FILE_NAME, f"{FILE_NAME}.17.part", "other"):
        (tmp_path / name).write_bytes(b"x")
    remove_snapshot(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    remove_snapshot(tmp_path)
    remove_snapshot(tmp_path / "not there")
