"""The cache with a file is killed (kill -9) while answers are stored and deleted; then the file is looked through.

SPILLWAY_KILL_ROUNDS: how many deaths; each is followed by a restart on what the one before left.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import yaml

from services.cache.store.answer_store_file import FileStore
from services.runtime.clock import SystemClock
from tests.support.acknowledged import Acknowledged
from tests.support.cache_writers import kill_while_written
from tests.support.processes import Process

ROUNDS = int(os.environ.get("SPILLWAY_KILL_ROUNDS", "5"))
SEED = 20_261_122
CHANGES_BEFORE_DEATH = 250
EXIT_CONFIG = 2


async def held(path: Path) -> dict[str, str]:
    """Everything that the file holds."""
    store = await FileStore.open(path, entries_max=100_000, bytes_max=10**9, clock=SystemClock())
    try:
        keys = list(store._memory._entries)
        return {each.key: each.answer.message.text for each in await store.get_many(keys) if each is not None}
    finally:
        await store.close()


def launch(tmp_path: Path) -> Process:
    config = tmp_path / "spillway.yaml"
    config.write_text(yaml.safe_dump(configuration(tmp_path / "cache.sqlite")))
    return Process("services.cache", ["--config", str(config), "--listen", "127.0.0.1:0"], {}, tmp_path / "log")


def configuration(path: Path) -> dict[str, object]:
    target = {"name": "m", "provider": "p", "model": "m", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    return {
        "version": 1,
        "providers": {"p": {"base_url": "http://127.0.0.1:9"}},
        "tiers": [{"name": "only", "targets": [target]}],
        "cache": {"store": "file", "file": str(path)},
    }


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_no_acknowledged_change_is_lost_and_nothing_else_is_there(tmp_path: Path) -> None:
    checker, rng = Acknowledged(), random.Random(SEED)
    for round_number in range(ROUNDS):
        process = launch(tmp_path)
        enough = CHANGES_BEFORE_DEATH + rng.randrange(CHANGES_BEFORE_DEATH)
        assert kill_while_written(process, checker, rng, changes_min=enough) >= enough, process.log()
        wrong = checker.settle(await held(tmp_path / "cache.sqlite"))
        assert not wrong, f"seed {SEED}, round {round_number}: {wrong[:5]}"


def test_a_damaged_file_ends_the_start_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"this is no database, whatever it is called" * 100)
    process = launch(tmp_path)
    with pytest.raises(AssertionError, match="did not get ready"):
        process.ready()
    assert process.stop() == EXIT_CONFIG
    assert "cache.file" in process.log()
    assert str(tmp_path / "cache.sqlite") in process.log()
    assert "Traceback" not in process.log()


@pytest.mark.parametrize(
    ("held", "wrong"),
    [({"a": "1"}, 0), ({"a": "2"}, 0), ({}, 1), ({"a": "0"}, 1), ({"a": "1", "b": "1"}, 1)],
)
def test_the_checker_sees_losses_revivals_and_phantoms(held: dict[str, str], wrong: int) -> None:
    checker = Acknowledged()
    for value in ("0", "1"):
        checker.tried("a", value)
        checker.acknowledged("a", value)
    checker.tried("a", "2")
    assert len(checker.settle(held)) == wrong
