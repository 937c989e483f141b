"""`cache.prompt_key_file`, as the process reads it: a bad file ends the start, a good one seals what is stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.cache.__main__ import build
from services.runtime.channel import open_channel
from services.runtime.config import load
from services.runtime.server import start
from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.cache_parts import answer, chat, embedding
from tests.support.redis_server import RedisServer
from tests.support.smallest import smallest_file

KEY = bytes(range(32)).hex()
QUESTION, ANSWER = "where is the treasure", "under the old oak"


def config_file(directory: Path, url: str, key_file: Path | None) -> Path:
    cache: dict[str, Any] = {
        "store": "redis",
        "redis_url": url,
        "redis_timeout_s": 10,
        "snapshot_dir": str(directory / "snapshots"),
    }
    if key_file is not None:
        cache["prompt_key_file"] = str(key_file)
    return smallest_file(directory, cache=cache, limits={"drain_s": 0, "grace_s": 1})


def test_a_bad_key_file_ends_the_process_with_one_line_that_names_it(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"{KEY}\n{KEY[:-2]}\n")
    config = config_file(tmp_path, "redis://127.0.0.1:1/0", key_file)
    command = [sys.executable, "-m", "services.cache", "--config", str(config), "--listen", "127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert str(key_file) in line
    assert "line 2" in line
    assert KEY[:8] not in ended.stderr + ended.stdout


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_with_a_key_nothing_lies_in_the_clear_and_no_index_on_disk(
    redis_server: RedisServer, tmp_path: Path, is_sealed: bool
) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(KEY + "\n")
    loaded = load(config_file(tmp_path, redis_server.url, key_file if is_sealed else None))
    running = await start(await build(loaded), loaded, "127.0.0.1:0")
    fields: dict[str, Any] = {
        "scope": pb.CacheScope(tenant="acme"),
        "chat": wire.chat_request_to_proto(chat(QUESTION)),
        "embedding": wire.embedding_to_proto(embedding("treasure")),
        "task_type": chat_pb2.TASK_TYPE_OTHER,
    }
    async with open_channel(
        running.address, service_name="spillway.v1.CacheService", message_bytes_max=8_388_608
    ) as channel:
        stub = CacheServiceStub(channel)
        stored = await stub.Store(pb.StoreRequest(**fields, answer=wire.cached_answer_to_proto(answer(ANSWER))))
        assert stored.outcome == pb.StoreResponse.OUTCOME_STORED
        found = await stub.Lookup(pb.LookupRequest(**fields))
    assert found.answer == wire.cached_answer_to_proto(answer(ANSWER))
    await running.stop()
    with redis_server.client() as client:
        dumped = [value for key in client.keys("*entry*") for value in client.hgetall(key).values()]
    kept = [path.read_bytes() for path in (tmp_path / "snapshots").rglob("*") if path.is_file()]
    vector = embedding("treasure").values
    assert len(dumped) > 0
    in_redis = [secret in b"\n".join(dumped) for secret in (QUESTION.encode(), ANSWER.encode(), vector)]
    assert in_redis == [not is_sealed] * 3
    assert (vector in b"\n".join(kept)) is not is_sealed
