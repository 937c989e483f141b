"""The cache with a file is killed (kill -9) while answers are stored and deleted; then the file is looked through.

SPILLWAY_KILL_ROUNDS: how many deaths; each is followed by a restart on what the one before left.
"""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import grpc
import pytest
import yaml

from services.cache.entry import Scope
from services.cache.partition import entry_key
from services.cache.store.answer_store_file import FileStore
from services.runtime.clock import SystemClock
from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.acknowledged import Acknowledged
from tests.support.cache_parts import answer, chat
from tests.support.processes import Process, wait_until

ROUNDS = int(os.environ.get("SPILLWAY_KILL_ROUNDS", "5"))
SEED = 20_261_122
WRITERS = 8
KEYS_OF_A_WRITER = 12
CHANGES_BEFORE_DEATH = 250
EXIT_CONFIG = 2
SCOPE = Scope("acme")


class Writer(threading.Thread):
    """Puts and deletes the entries of its own questions, one after the other, until the service is gone."""

    def __init__(self, target: str, number: int, checker: Acknowledged, rng: random.Random) -> None:
        super().__init__()
        self._target = target
        self._questions = [f"writer {number} asks {each}" for each in range(KEYS_OF_A_WRITER)]
        self._checker = checker
        self._rng = rng
        self.changes = 0

    def run(self) -> None:
        with grpc.insecure_channel(self._target) as channel:
            stub = CacheServiceStub(channel)
            while self._change(stub):
                self.changes += 1

    def _change(self, stub: CacheServiceStub) -> bool:
        request = chat(self._rng.choice(self._questions))
        key = entry_key(SCOPE, request)
        value = None if self._rng.random() < 0.25 else f"{key[:6]} {self._rng.random()}"
        self._checker.tried(key, value)
        try:
            if value is None:
                stub.Invalidate(pb.InvalidateRequest(entry_key=key), timeout=30)
            else:
                response = stub.Store(store_request(request, value), timeout=30)
                assert response.outcome == pb.StoreResponse.OUTCOME_STORED
        except grpc.RpcError:
            return False
        self._checker.acknowledged(key, value)
        return True


def store_request(request: object, text: str) -> pb.StoreRequest:
    made = answer(text)
    return pb.StoreRequest(
        scope=pb.CacheScope(tenant=SCOPE.tenant),
        chat=wire.chat_request_to_proto(request),  # type: ignore[arg-type]
        answer=pb.CachedAnswer(
            message=wire.message_to_proto(made.message),
            finish_reason=wire.finish_reason_to_proto(made.finish_reason),
            accepted=True,
        ),
    )


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
        address = process.ready()["listen"]
        writers = [Writer(address, number, checker, random.Random(rng.random())) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        enough = CHANGES_BEFORE_DEATH + rng.randrange(CHANGES_BEFORE_DEATH)

        def busy(writers: list[Writer] = writers, enough: int = enough) -> bool:
            return sum(writer.changes for writer in writers) >= enough or not any(each.is_alive() for each in writers)

        wait_until(busy, what="changes")
        process.kill()
        for writer in writers:
            writer.join()
        assert sum(writer.changes for writer in writers) >= enough, process.log()
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
