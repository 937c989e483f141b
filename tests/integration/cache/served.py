"""The cache service on a real socket, and requests for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cache.__main__ import build
from services.runtime.channel import open_channel
from services.runtime.config import load
from services.runtime.server import start
from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.cache_parts import answer, chat, embedding
from tests.support.smallest import smallest_file

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

__all__ = ["ACME", "NAMES", "OFF", "ON", "ON_TOO", "OTHER", "config_file", "lookup_request", "served", "store_request"]

ON, ON_TOO, OFF = "How do I turn on the heater?", "how do I turn on  the heater", "How do I turn off the heater?"
ACME = pb.CacheScope(tenant="acme")
OTHER = chat_pb2.TASK_TYPE_OTHER
NAMES = pb.StoreResponse.Outcome.Name


def config_file(directory: Path, cache: dict[str, Any]) -> Path:
    """A configuration with this section on the cache."""
    return smallest_file(directory, cache=cache, limits={"drain_s": 0, "grace_s": 1})


@asynccontextmanager
async def served(directory: Path, cache: dict[str, Any]) -> AsyncIterator[CacheServiceAsyncStub]:
    loaded = load(config_file(directory, cache))
    running = await start(await build(loaded), loaded, "127.0.0.1:0")
    async with open_channel(
        running.address, service_name="spillway.v1.CacheService", message_bytes_max=8_388_608
    ) as channel:
        yield CacheServiceStub(channel)
    await running.stop()


def lookup_request(text: str, **changed: Any) -> pb.LookupRequest:
    fields: dict[str, Any] = {
        "scope": ACME,
        "chat": wire.chat_request_to_proto(chat(text)),
        "embedding": wire.embedding_to_proto(embedding("heater")),
        "task_type": OTHER,
    }
    return pb.LookupRequest(**(fields | changed))


def store_request(text: str, **changed: Any) -> pb.StoreRequest:
    fields: dict[str, Any] = {
        "scope": ACME,
        "chat": wire.chat_request_to_proto(chat(text)),
        "embedding": wire.embedding_to_proto(embedding("heater")),
        "task_type": OTHER,
        "answer": wire.cached_answer_to_proto(answer()),
    }
    return pb.StoreRequest(**(fields | changed))
