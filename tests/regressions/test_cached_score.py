"""A hit carries the score that its answer had, so that a caller's least confidence can be held against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cache.__main__ import build
from services.orchestrator.grpc_hops import GrpcCache
from services.orchestrator.hops import CacheQuery
from services.runtime.channel import open_channel
from services.runtime.config import load
from services.runtime.server import start
from spillway.chat import ChatRequest, FinishReason, Message, Role, Usage
from spillway.routing import CachedAnswer
from tests.support.smallest import smallest_file

CHAT = ChatRequest((Message.of(Role.USER, "What is the capital of France?"),))


@pytest.mark.parametrize("score", [None, 0.0, 0.625])
async def test_an_answer_comes_back_from_the_cache_as_it_was_stored(tmp_path: Path, score: float | None) -> None:
    loaded = load(smallest_file(tmp_path, limits={"drain_s": 0, "grace_s": 1}))
    answer = CachedAnswer(
        message=Message.of(Role.ASSISTANT, "Paris."),
        finish_reason=FinishReason.STOP,
        tier="simple",
        target="t",
        model="m",
        usage=Usage(12, 3),
        cost_nanousd=7,
        accepted=True,
        score=score,
    )
    query = CacheQuery(tenant="acme", namespace="", template_version="", knowledge_version="", chat=CHAT)
    running = await start(await build(loaded), loaded, "127.0.0.1:0")
    channel = open_channel(running.address, service_name="spillway.v1.CacheService", message_bytes_max=1_048_576)
    async with channel:
        hop = GrpcCache(channel)
        assert (await hop.store(query, answer, ttl_s=None, tags=(), token="", timeout_s=10)).outcome == "stored"
        assert (await hop.lookup(query, skip_exact=False, peek=False, timeout_s=10)).answer == answer
    await running.stop()
