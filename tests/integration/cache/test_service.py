"""The cache service over real sockets: the contract of cache.proto, errors and spans."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.cache.servicer import CHAT_BYTES_MAX, CacheServicer
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from services.runtime.errors import from_rpc_error
from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from tests.integration.cache.served import ACME, NAMES, OFF, ON, ON_TOO, OTHER, lookup_request, served, store_request
from tests.support.cache_parts import answer, cache_over, chat, embedding
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub


async def test_an_answer_is_found_exactly_by_meaning_and_not_at_all(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON, tags=["red"], ttl=Duration(seconds=60)))
    assert NAMES(stored.outcome) == "OUTCOME_STORED"
    exact, similar, opposite = [await stub.Lookup(lookup_request(text)) for text in (ON, ON_TOO, OFF)]
    assert exact.outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT
    assert exact.answer == similar.answer == wire.cached_answer_to_proto(answer())
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
    await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer(score=score))))
    for found in [await stub.Lookup(lookup_request(text)) for text in (ON, ON_TOO)]:
        assert (found.answer.score if found.answer.HasField("score") else None) == score


async def test_an_answer_that_is_not_admitted_says_which_rule(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer(accepted=False))))
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


def evidence_request(**changed: str) -> pb.RecordEvidenceRequest:
    asked = lookup_request(ON)
    fields: dict[str, Any] = {"entry_key": "k", **changed}
    return pb.RecordEvidenceRequest(scope=ACME, chat=asked.chat, embedding=asked.embedding, right=True, **fields)


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
        (store_request(ON, answer=wire.cached_answer_to_proto(answer(score=1.1))), "answer.score"),
        (store_request(ON, answer=wire.cached_answer_to_proto(answer(score=math.nan))), "answer.score"),
        (pb.InvalidateRequest(), "tenant"),
        (pb.InvalidateRequest(tag="red"), "tenant"),
        (pb.InvalidateRequest(tenant="t" * 129), "tenant"),
        (pb.InvalidateRequest(tenant="acme", namespace="n" * 257), "namespace"),
        (pb.InvalidateRequest(tenant="acme", template_version="v" * 257), "template_version"),
        (pb.InvalidateRequest(tenant="acme", knowledge_version="v" * 257), "knowledge_version"),
        (pb.InvalidateRequest(tenant="acme", tag="t" * 65), "tag"),
        (pb.InvalidateRequest(entry_key="k" * 257), "entry_key"),
        (evidence_request(entry_key="k" * 257), "entry_key"),
        (evidence_request(answer_version="v" * 257), "answer_version"),
    ],
)
async def test_a_wrong_field_is_named(tmp_path: Path, request_: Any, field: str) -> None:
    async with served(tmp_path, {}) as stub:
        method = {
            pb.LookupRequest: stub.Lookup,
            pb.StoreRequest: stub.Store,
            pb.InvalidateRequest: stub.Invalidate,
            pb.RecordEvidenceRequest: stub.RecordEvidence,
        }
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


async def test_evidence_is_a_verdict_or_a_fresh_answer_and_nothing_else(stub: CacheServiceAsyncStub) -> None:
    stored = await stub.Store(store_request(ON))
    fields: dict[str, Any] = {
        "scope": ACME,
        "chat": wire.chat_request_to_proto(chat("how can I turn on the heater")),
        "embedding": wire.embedding_to_proto(embedding("heater")),
        "task_type": OTHER,
        "entry_key": stored.entry_key,
        "fresh_answer": wire.cached_answer_to_proto(answer("Paris")),
    }
    verdicts = pb.RecordEvidenceResponse
    found = await stub.RecordEvidence(pb.RecordEvidenceRequest(**fields))
    assert found.verdict == verdicts.VERDICT_RIGHT
    exact = await stub.Lookup(lookup_request("how can I turn on the heater"))
    assert exact.outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT
    others = {
        "fresh_answer": wire.cached_answer_to_proto(answer("Lyon")),
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
