"""A running service follows the store, and survives whatever stands in it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import structlog

from services.classifier.head_follower import POLL_S, HeadFollower
from services.classifier.head_store import BUILTIN, HeadStore, HeadStoreError
from services.classifier.sufficiency import SufficiencyError, SufficiencyModel, serialise_sufficiency
from services.runtime.clock import FakeClock
from tests.support.router_rows import fitted

WAIT_S = 10.0


@pytest.fixture(scope="module")
def models() -> dict[str, SufficiencyModel]:
    return {version: fitted(version, inverted=version == "two") for version in ("one", "two")}


class User:
    """What uses the heads: keeps all it was given, and refuses those it is told to."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.refuses = ""

    def use(self, model: SufficiencyModel | None) -> None:
        version = BUILTIN if model is None else model.version
        if version == self.refuses:
            raise SufficiencyError("it does not fit")
        self.given.append(version)


def store_of(folder: Path, models: dict[str, SufficiencyModel]) -> HeadStore:
    store = HeadStore(folder)
    for version, model in models.items():
        artifact = serialise_sufficiency(model)
        card = {"version": version, "artifact_sha256": hashlib.sha256(artifact).hexdigest()}
        store.add(version, artifact, card, np.zeros(0, dtype=np.uint64))
    return store


async def test_it_hands_over_what_is_put_to_use_once(tmp_path: Path, models: dict[str, SufficiencyModel]) -> None:
    store, user = store_of(tmp_path, models), User()
    follower = HeadFollower(store, user.use, FakeClock())
    await follower.look()
    assert user.given == []
    for version in ("one", "two"):
        store.use(version)
        await follower.look()
        await follower.look()
    store.rollback()
    await follower.look()
    store.use(BUILTIN)
    await follower.look()
    assert user.given == ["one", "two", "one", BUILTIN]


async def test_it_looks_by_the_clock(tmp_path: Path, models: dict[str, SufficiencyModel]) -> None:
    store, user, clock = store_of(tmp_path, models), User(), FakeClock()
    handed = asyncio.Event()

    def use(model: SufficiencyModel | None) -> None:
        user.use(model)
        handed.set()

    follower = HeadFollower(store, use, clock)
    store.use("one")
    follower.start()
    await asyncio.sleep(0)  # it goes to sleep
    assert clock.sleepers == 1
    assert user.given == []
    clock.advance(POLL_S)
    await handed.wait()
    assert user.given == ["one"]
    await follower.close()


@pytest.mark.parametrize("harm", ["torn", "absent", "no name", "does not fit"])
async def test_a_bad_head_is_refused_once_and_the_old_one_stays(
    tmp_path: Path, models: dict[str, SufficiencyModel], harm: str
) -> None:
    store, user = store_of(tmp_path, models), User()
    follower = HeadFollower(store, user.use, FakeClock())
    store.use("one")
    await follower.look()
    pointer = {"absent": "nowhere", "no name": "../../etc/passwd"}.get(harm, "two")
    (tmp_path / "current").write_text(pointer + "\n")
    if harm == "torn":
        path = tmp_path / "two.npz"
        path.write_bytes(path.read_bytes()[:1_000])
    user.refuses = "two" if harm == "does not fit" else ""
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await follower.look()
    assert user.given == ["one"]
    assert [entry["event"] for entry in logs] == ["head_refused"]
    store.use("one")
    await follower.look()
    assert user.given == ["one", "one"]


async def test_following_goes_on_whatever_reading_the_store_comes_to(
    tmp_path: Path, models: dict[str, SufficiencyModel]
) -> None:
    class Odd(HeadStore):
        """Fails as nobody has thought of."""

        fails: BaseException | None = None

        def load(self, version: str) -> SufficiencyModel:
            if self.fails is not None:
                raise self.fails
            return super().load(version)

    store_of(tmp_path, models)
    store, user, clock = Odd(tmp_path), User(), FakeClock()
    used = asyncio.Event()

    def use(model: SufficiencyModel | None) -> None:
        user.use(model)
        used.set()

    follower = HeadFollower(store, use, clock)
    store.fails = RuntimeError("File 'landmarks.npy' is encrypted")
    (tmp_path / "current").write_text("two\n")
    with structlog.testing.capture_logs() as logs:
        follower.start()
        async with asyncio.timeout(WAIT_S):
            while not logs:
                clock.advance(POLL_S)
                await asyncio.sleep(0.001)
            store.fails = None
            (tmp_path / "current").write_text("one\n")
            while not used.is_set():
                clock.advance(POLL_S)
                await asyncio.sleep(0.001)
    await follower.close()
    assert user.given == ["one"]
    assert [entry["event"] for entry in logs] == ["head_refused", "head_in_use"]
    assert "encrypted" not in str(logs)


@pytest.mark.parametrize("name", ["current", "one.npz", "one.json"])
async def test_a_pipe_in_the_store_holds_up_nobody(
    tmp_path: Path, models: dict[str, SufficiencyModel], name: str
) -> None:
    store, user = store_of(tmp_path, models), User()
    store.use("one")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    follower = HeadFollower(store, user.use, FakeClock())
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(WAIT_S):
            await follower.look()
            await follower.look()
    assert user.given == []
    assert len(logs) == 1
    with pytest.raises(HeadStoreError, match="regular file"):
        store.load(store.current())


async def test_a_bad_head_is_tried_again_when_its_files_change(
    tmp_path: Path, models: dict[str, SufficiencyModel]
) -> None:
    store, user = store_of(tmp_path, models), User()
    follower = HeadFollower(store, user.use, FakeClock())
    store.use("one")
    path = tmp_path / "one.npz"
    good = path.read_bytes()
    path.write_bytes(good[:1_000])
    await follower.look()
    assert user.given == []
    path.write_bytes(good)
    await follower.look()
    assert user.given == ["one"]


async def test_a_store_that_cannot_be_read_is_logged_once_and_changes_nothing(
    tmp_path: Path, models: dict[str, SufficiencyModel]
) -> None:
    store, user = store_of(tmp_path / "heads", models), User()
    follower = HeadFollower(store, user.use, FakeClock())
    store.use("one")
    await follower.look()
    (tmp_path / "heads").rename(tmp_path / "away")
    (tmp_path / "heads").write_text("a file where the folder was")
    with structlog.testing.capture_logs() as logs:
        await follower.look()
        await follower.look()
    assert [entry["event"] for entry in logs] == ["head_store_unreadable"]
    assert user.given == ["one"]
