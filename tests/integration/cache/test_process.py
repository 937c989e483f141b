"""The cache's start and end: its secrets, its files, and the process itself."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from services.cache.__main__ import GARBAGE_THRESHOLDS, _build_process, build
from services.cache.index.index_snapshot import FILE_NAME
from services.runtime.channel import open_channel
from services.runtime.config import ConfigError, load
from spillway.v1 import chat_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.integration.cache.served import NAMES, ON, config_file, lookup_request, served, store_request
from tests.support.processes import Process
from tests.support.redis_server import RedisServer


async def test_a_password_comes_from_the_environment(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server.client() as client:
        client.config_set("requirepass", "hunter2")
    monkeypatch.setenv("CACHE_PASSWORD", "hunter2")
    cache = {
        "store": "redis",
        "redis_url": redis_server.url,
        "redis_password_env": "CACHE_PASSWORD",
        "redis_timeout_s": 10,
    }
    async with served(tmp_path, cache) as stub:
        assert NAMES((await stub.Store(store_request(ON))).outcome) == "OUTCOME_STORED"


async def test_the_process_serves_and_ends_cleanly(tmp_path: Path) -> None:
    arguments = ["--config", str(config_file(tmp_path, {})), "--listen", "127.0.0.1:0"]
    process = Process("services.cache", arguments, {}, tmp_path / "log")
    try:
        ready = process.ready()
        assert (ready["event"], ready["service"]) == ("serving", "cache")
        async with open_channel(
            ready["listen"], service_name="spillway.v1.CacheService", message_bytes_max=8_388_608
        ) as channel:
            stub = CacheServiceStub(channel)
            await stub.Store(store_request(ON))
            found = await stub.Lookup(lookup_request(ON))
        assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT
        assert process.stop() == 0
        assert "heater" not in process.log()
    finally:
        process.stop()


async def test_what_was_loaded_is_not_looked_through_for_garbage_and_what_lives_long_seldom(tmp_path: Path) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        service = await _build_process(load(config_file(tmp_path, {})))
        assert not gc.isenabled()
        assert service.warm is not None
        await service.warm()
        assert gc.isenabled()
        assert gc.get_threshold() == GARBAGE_THRESHOLDS
        assert GARBAGE_THRESHOLDS[2] > before[2]
        assert gc.get_freeze_count() > frozen
        assert service.close is not None
        await service.close()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
        gc.enable()


async def test_with_a_key_an_older_snapshot_in_the_clear_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("00" * 32)
    (tmp_path / "keys").chmod(0o600)
    (tmp_path / FILE_NAME).write_bytes(b"vectors")
    cache = {
        "store": "redis",
        "redis_url": "redis://127.0.0.1:1/0",
        "snapshot_dir": str(tmp_path),
        "prompt_key_file": str(tmp_path / "keys"),
    }
    await build(load(config_file(tmp_path, cache)))
    assert not (tmp_path / FILE_NAME).exists()


async def test_a_verifier_that_is_none_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "verifier.npz").write_bytes(b"not a model")
    loaded = load(config_file(tmp_path, {"verifier": str(tmp_path / "verifier.npz")}))
    with pytest.raises(ConfigError, match=r"cache\.verifier"):
        await build(loaded)
