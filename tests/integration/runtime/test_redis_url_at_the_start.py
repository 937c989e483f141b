"""A Redis URL that cannot be used ends a process with a sentence, before it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool

from services.cache.__main__ import build as build_cache
from services.executor.__main__ import build as build_executor
from services.orchestrator.__main__ import build as build_orchestrator
from services.runtime.config import ConfigError, Loaded, load
from services.runtime.server import Service
from spillway.settings import Settings
from tests.support.smallest import SMALLEST, smallest_file

Build = Callable[[Loaded], Awaitable[Service]]

PASSWORDS = ["redis://:hun/ter2@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=hunter2", "redis://127.0.0.1:hunter2/0"]
PLACES = [
    ("cache", {"store": "redis"}, "redis_url", build_cache),
    ("executor", {}, "share_redis_url", build_executor),
    ("orchestrator", {}, "redis_url", build_orchestrator),
]


@pytest.mark.parametrize("url", PASSWORDS)
@pytest.mark.parametrize(("section", "options", "name", "build"), PLACES)
def test_the_check_of_the_file_says_it_and_repeats_no_password(
    tmp_path: Path, section: str, options: dict[str, Any], name: str, build: Build, url: str
) -> None:
    path = smallest_file(tmp_path, **{section: {**options, name: url}})
    with pytest.raises(ConfigError, match=f"{section}.{name}: ") as caught:
        load(path, {})
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("url", PASSWORDS)
@pytest.mark.parametrize(("section", "options", "name", "build"), PLACES)
async def test_what_no_check_has_seen_is_refused_all_the_same(
    section: str, options: dict[str, Any], name: str, build: Build, url: str
) -> None:
    settings = Settings.model_validate({**SMALLEST, section: {**options, name: url}})
    with pytest.raises(ConfigError, match=f"{section}.{name}") as caught:
        await build(Loaded(settings, "version", Path("spillway.yaml")))
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(("section", "options", "name", "build"), PLACES)
async def test_what_redis_py_does_not_take_ends_the_start_and_not_the_first_request(
    monkeypatch: pytest.MonkeyPatch, section: str, options: dict[str, Any], name: str, build: Build
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("hunter2 is nothing")

    monkeypatch.setattr(ConnectionPool, "from_url", refuse)
    settings = Settings.model_validate({**SMALLEST, section: {**options, name: "redis://127.0.0.1:1/0"}})
    with pytest.raises(ConfigError, match=f"{section}.{name}.* is no URL that can be used") as caught:
        await build(Loaded(settings, "version", Path("spillway.yaml")))
    assert "ter2" not in str(caught.value)
