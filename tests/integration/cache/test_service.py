"""The cache service over real sockets: the contract of cache.proto, errors, spans, and the process itself."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.cache.__main__ import build
from services.cache.index.index_snapshot import FILE_NAME
from services.cache.servicer import CHAT_BYTES_MAX, CacheServicer
from services.cache.store.answer_codec import answer_to_proto
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.channel import open_channel
from services.runtime.clock import FakeClock
from services.runtime.config import ConfigError, SecretError, load
from services.runtime.errors import from_rpc_error
from services.runtime.server import start
from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from spillway.v1.cache_pb2_grpc import CacheServiceStub
from tests.support.cache_parts import answer, cache_over, chat, embedding
from tests.support.processes import Process
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub

ON, ON_TOO, OFF = "How do I turn on the heater?", "how do I turn on  the heater", "How do I turn off the heater?"
ACME = pb.CacheScope(tenant="acme")
OTHER = chat_pb2.TASK_TYPE_OTHER
NAMES = pb.StoreResponse.Outcome.Name


def config_file(directory: Path, cache: dict[str, Any]) -> Path:
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    target = {"name": "t", "provider": "p", "model": "m", "price": price}
    path = directory / "spillway.yaml"
    path.write_text(
        json.dumps(
            {
                "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}},
                "tiers": [{"name": "simple", "targets": [target]}],
                "cache": cache,
                "limits": {"drain_s": 0, "grace_s": 1},
            }
        )
    )
    return path


@asynccontextmanager
async def served(directory: Path, cache: dict[str, Any]) -> AsyncIterator[CacheServiceAsyncStub]:
    loaded = load(config_file(directory, cache))
    running = await start(await build(loaded), loaded, "127.0.0.1:0")
    async with open_channel(
        running.address, service_name="spillway.v1.CacheService", message_bytes_max=8_388_608
    ) as channel:
        yield CacheServiceStub(channel)
    await running.stop()


@pytest.fixture(params=["memory", "redis"])
async def stub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CacheServiceAsyncStub]:
    cache: dict[str, Any] = {"store": request.param, "redis_timeout_s": 10}
    if request.param == "redis":
        cache["redis_url"] = cast("RedisServer", request.getfixturevalue("redis_server")).url
    async with served(tmp_path, cache) as made:
        yield made


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
        "answer": answer_to_proto(answer()),
    }
    return pb.StoreRequest(**(fields | changed))


@pytest.mark.parametrize("peek", [False, True])
async def test_an_answer_whose_model_was_asked_before_an_invalidation_is_not_kept(
    stub: CacheServiceAsyncStub, peek: bool
) -> None:
    await stub.Store(store_request(ON, tags=["red"]))
    asked = await stub.Lookup(lookup_request(ON, peek=peek))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", tag="blue"))
    other = await stub.Store(store_request(ON, tags=["red"], store_token=asked.store_token))
    assert NAMES(other.outcome) == "OUTCOME_STORED"
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", tag="red"))
    late = await stub.Store(store_request(ON, tags=["red"], store_token=asked.store_token))
    assert (NAMES(late.outcome), late.reason) == ("OUTCOME_NOT_ADMITTED", "invalidated")
    again = await stub.Lookup(lookup_request(ON))
    assert again.outcome.kind == chat_pb2.CacheOutcome.KIND_MISS
    fresh = await stub.Store(store_request(ON, tags=["red"], store_token=again.store_token))
    assert NAMES(fresh.outcome) == "OUTCOME_STORED"
    stats = await stub.GetStats(pb.GetStatsRequest())
    assert (stats.stored, stats.not_admitted, stats.overtaken) == (3, 1, 1)


async def test_without_a_token_an_answer_counts_as_of_now(stub: CacheServiceAsyncStub) -> None:
    await stub.Lookup(lookup_request(ON))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme"))
    assert NAMES((await stub.Store(store_request(ON))).outcome) == "OUTCOME_STORED"


async def test_an_audits_answer_that_was_invalidated_is_not_kept_and_counts_as_evidence_all_the_same(
    stub: CacheServiceAsyncStub,
) -> None:
    await stub.Store(store_request(ON))
    await stub.Store(store_request(OFF, scope=pb.CacheScope(tenant="acme", namespace="other")))
    found = await stub.Lookup(lookup_request(ON_TOO))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", namespace="other"))
    evidence = pb.RecordEvidenceRequest(
        scope=ACME,
        chat=wire.chat_request_to_proto(chat(ON_TOO)),
        embedding=wire.embedding_to_proto(embedding("heater")),
        task_type=OTHER,
        entry_key=found.outcome.entry_key,
        fresh_answer=answer_to_proto(answer()),
        store_token="era-of-old 0 0 0",
    )
    told = await stub.RecordEvidence(evidence)
    assert told.verdict == pb.RecordEvidenceResponse.VERDICT_RIGHT
    exactly = lookup_request(ON_TOO)
    exactly.ClearField("embedding")
    assert (await stub.Lookup(exactly)).outcome.kind == chat_pb2.CacheOutcome.KIND_MISS
    evidence.store_token = found.store_token
    assert (await stub.RecordEvidence(evidence)).verdict == pb.RecordEvidenceResponse.VERDICT_RIGHT
    assert (await stub.Lookup(exactly)).outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT


async def test_a_token_says_nothing_of_what_is_stored(stub: CacheServiceAsyncStub) -> None:
    before = (await stub.Lookup(lookup_request(ON))).store_token
    stored = await stub.Store(store_request(ON))
    asked = [(await stub.Lookup(lookup_request(text))).store_token for text in (ON, ON_TOO, OFF)]
    assert {each.split()[:3] == before.split()[:3] for each in asked} == {True}
    assert stored.entry_key[4:] not in before
    assert "acme" not in before


async def test_an_answer_is_found_exactly_by_meaning_and_not_at_all(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON, tags=["red"], ttl=Duration(seconds=60)))
    assert NAMES(stored.outcome) == "OUTCOME_STORED"
    exact, similar, opposite = [await stub.Lookup(lookup_request(text)) for text in (ON, ON_TOO, OFF)]
    assert exact.outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT
    assert exact.answer == similar.answer == answer_to_proto(answer())
    assert exact.outcome.entry_key == similar.outcome.entry_key == stored.entry_key
    assert similar.outcome.kind == chat_pb2.CacheOutcome.KIND_SEMANTIC_HIT
    assert similar.outcome.similarity == pytest.approx(1.0)
    assert opposite.outcome.kind == chat_pb2.CacheOutcome.KIND_MISS
    assert not opposite.HasField("answer")
    assert opposite.outcome.reason == "too little is known of such questions yet"
    stats = await stub.GetStats(pb.GetStatsRequest())
    assert (stats.lookups, stats.exact_hits, stats.semantic_hits, stats.stored) == (3, 1, 1, 1)
    assert (stats.indexed_entries, stats.partitions) == (1, 1)


@pytest.mark.parametrize("score", [None, 0.0, 0.875, 1.0])
async def test_the_score_of_an_answer_comes_back_with_it(stub: CacheServiceAsyncStub, score: float | None) -> None:
    await stub.Store(store_request(ON, answer=answer_to_proto(answer(score=score))))
    for found in [await stub.Lookup(lookup_request(text)) for text in (ON, ON_TOO)]:
        assert (found.answer.score if found.answer.HasField("score") else None) == score


async def test_an_answer_that_is_not_admitted_says_which_rule(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON, answer=answer_to_proto(answer(accepted=False))))
    assert NAMES(stored.outcome) == "OUTCOME_NOT_ADMITTED"
    assert (stored.reason, stored.entry_key) == ("not_accepted", "")


async def test_an_invalidation_is_tried_dry_and_then_done(stub: CacheServiceAsyncStub) -> None:
    await stub.Store(store_request(ON, tags=["red"]))
    await stub.Store(store_request(OFF))
    for dry_run, expected in ((True, 1), (False, 1), (False, 0)):
        removed = await stub.Invalidate(pb.InvalidateRequest(tenant="acme", tag="red", dry_run=dry_run))
        assert removed.entries == expected
    assert (await stub.Invalidate(pb.InvalidateRequest(tenant=""))).entries == 0
    assert (await stub.Invalidate(pb.InvalidateRequest(tenant="acme"))).entries == 1


BROKEN = chat_pb2.Embedding(values=b"\0" * 8, model="m/1")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.LookupRequest(scope=ACME), "chat.messages"),
        (lookup_request(ON, embedding=BROKEN), "embedding.values"),
        (lookup_request(ON, embedding=chat_pb2.Embedding(values=b"\0" * 8)), "embedding.model"),
        (lookup_request(ON, scope=pb.CacheScope(tenant="t" * 129)), "scope.tenant"),
        (store_request(ON, scope=pb.CacheScope(namespace="n" * 257)), "scope.namespace"),
        (lookup_request(ON, task_type=99), "task_type"),
        (
            pb.LookupRequest(chat=chat_pb2.ChatRequest(messages=[chat_pb2.ChatMessage(role=cast("Any", 77))])),
            "chat.messages[0].role",
        ),
        (pb.StoreRequest(scope=ACME), "chat.messages"),
        (pb.StoreRequest(chat=wire.chat_request_to_proto(chat(ON))), "answer"),
        (store_request(ON, embedding=BROKEN), "embedding.values"),
        (store_request(ON, ttl=Duration(seconds=0)), "ttl"),
        (store_request(ON, ttl=Duration(seconds=-5)), "ttl"),
        (store_request(ON, tags=["t"] * 17), "tags"),
        (store_request(ON, answer=pb.CachedAnswer()), "answer.message.role"),
        (store_request(ON, answer=answer_to_proto(answer(score=1.1))), "answer.score"),
        (store_request(ON, answer=answer_to_proto(answer(score=math.nan))), "answer.score"),
        (pb.InvalidateRequest(), "tenant"),
        (pb.InvalidateRequest(tag="red"), "tenant"),
    ],
)
async def test_a_wrong_field_is_named(tmp_path: Path, request_: Any, field: str) -> None:
    async with served(tmp_path, {}) as stub:
        method = {pb.LookupRequest: stub.Lookup, pb.StoreRequest: stub.Store, pb.InvalidateRequest: stub.Invalidate}
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await cast("Any", method[type(request_)])(request_)
    error = from_rpc_error(raised.value)
    assert error.reason == "INVALID_FIELD"
    assert field in {path for path, _ in error.violations}


async def test_an_embedding_of_another_dimension_is_a_failed_precondition(stub: CacheServiceAsyncStub) -> None:
    await stub.Store(store_request(ON))
    short = wire.embedding_to_proto(embedding("heater", dimensions=4))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Store(store_request(OFF, embedding=short))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert from_rpc_error(raised.value).reason == "EMBEDDING_MISMATCH"
    found = await stub.Lookup(lookup_request(ON_TOO, embedding=short))
    assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_MISS


async def test_without_redis_only_an_invalidation_is_an_error(tmp_path: Path, redis_server: RedisServer) -> None:
    async with served(tmp_path, {"store": "redis", "redis_url": redis_server.url, "redis_timeout_s": 0.5}) as stub:
        redis_server.kill()
        found = await stub.Lookup(lookup_request(ON))
        assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_UNAVAILABLE
        stored = await stub.Store(store_request(ON))
        assert NAMES(stored.outcome) == "OUTCOME_UNAVAILABLE"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Invalidate(pb.InvalidateRequest(tenant="acme"))
    error = from_rpc_error(raised.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert error.retry_after_s == pytest.approx(1.0)


async def test_a_lookup_explains_itself_on_its_span_without_quoting() -> None:
    clock = FakeClock()
    servicer = CacheServicer(cache_over(MemoryStore(entries_max=10, clock=clock), clock))
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    context = cast("Any", None)
    await servicer.Store(store_request(ON), context)
    for text in (ON, ON_TOO, OFF):
        with provider.get_tracer("test").start_as_current_span(text):
            await servicer.Lookup(lookup_request(text), context)
    spans = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    outcomes = [span["spillway.cache.outcome"] for span in spans]
    assert outcomes == ["exact_hit", "semantic_hit", "miss"]
    assert "spillway.cache.similarity" not in spans[0]
    assert [span["spillway.cache.partition_entries"] for span in spans[1:]] == [1, 1]
    for span in spans:
        assert "heater" not in str(span["spillway.cache.reason"])


async def test_a_password_in_the_url_is_refused(tmp_path: Path) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0"
    loaded = load(config_file(tmp_path, {"store": "redis", "redis_url": url}))
    with pytest.raises(SecretError) as raised:
        await build(loaded)
    assert "hunter2" not in str(raised.value)


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


async def test_evidence_is_a_verdict_or_a_fresh_answer_and_nothing_else(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON))
    fields: dict[str, Any] = {
        "scope": ACME,
        "chat": wire.chat_request_to_proto(chat("how can I turn on the heater")),
        "embedding": wire.embedding_to_proto(embedding("heater")),
        "task_type": OTHER,
        "entry_key": stored.entry_key,
        "fresh_answer": answer_to_proto(answer("Paris")),
    }
    verdicts = pb.RecordEvidenceResponse
    found = await stub.RecordEvidence(pb.RecordEvidenceRequest(**fields))
    assert found.verdict == verdicts.VERDICT_RIGHT
    exact = await stub.Lookup(lookup_request("how can I turn on the heater"))
    assert exact.outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT
    others = {
        "fresh_answer": answer_to_proto(answer("Lyon")),
        "scope": pb.CacheScope(tenant="other"),
        "entry_key": "no such key",
    }
    expected = (verdicts.VERDICT_WRONG, verdicts.VERDICT_UNKNOWN, verdicts.VERDICT_UNKNOWN)
    for (name, value), verdict in zip(others.items(), expected, strict=True):
        assert (await stub.RecordEvidence(pb.RecordEvidenceRequest(**(fields | {name: value})))).verdict == verdict
    await stub.RecordEvidence(pb.RecordEvidenceRequest(**fields, tags=["red"], ttl=Duration(seconds=500)))
    mine = pb.InvalidateRequest(tenant="acme", tag="red", dry_run=True)
    assert (await stub.Invalidate(mine)).entries == 1
    refused: list[dict[str, Any]] = [{"tags": ["x"] * 17}, {"ttl": Duration(seconds=0)}]
    for wrong in refused:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.RecordEvidence(pb.RecordEvidenceRequest(**fields, **wrong))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, wrong
    for missing in ("embedding", "entry_key", "fresh_answer", "chat"):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.RecordEvidence(
                pb.RecordEvidenceRequest(**{name: value for name, value in fields.items() if name != missing})
            )
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, missing
    rates = (await stub.GetStats(pb.GetStatsRequest())).wrong_rates
    # It was never served, so that none of it is counted.
    assert not any(rate.audited or rate.wrong for rate in rates)


async def test_a_large_request_is_never_cached_and_not_even_translated() -> None:
    clock = FakeClock()
    servicer = CacheServicer(cache_over(MemoryStore(entries_max=10, clock=clock), clock))
    context = cast("Any", None)
    large = wire.chat_request_to_proto(chat("short", system="x" * CHAT_BYTES_MAX))
    large.messages[0].role = cast("Any", 99)  # what cannot be translated would be an error
    found = await servicer.Lookup(lookup_request("", chat=large), context)
    assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_NEVER_CACHED
    stored = await servicer.Store(store_request("", chat=large), context)
    assert (NAMES(stored.outcome), stored.reason) == ("OUTCOME_NOT_ADMITTED", "request_too_large")
    evidence = pb.RecordEvidenceRequest(
        scope=ACME, chat=large, embedding=lookup_request("").embedding, entry_key="k", right=True
    )
    verdict = (await servicer.RecordEvidence(evidence, context)).verdict
    assert verdict == pb.RecordEvidenceResponse.VERDICT_UNKNOWN


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
