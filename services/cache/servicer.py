"""CacheService: protobuf in, protobuf out, errors by whose fault they are, and what a trace shows of a lookup.

Promises: a store that is away is an outcome of Lookup and Store, and an error only of Invalidate, whose caller must
know that nothing was removed. Spans carry the outcome and its reason, never a text of the request or of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc

from services.cache.entry import Scope, Selector
from services.cache.index.vector_index import DimensionMismatchError, InvalidVectorError
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.findings import Explanation
from services.cache.matching.partition_classes import ClassReport
from services.cache.outcomes import StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_codec import answer_from_proto
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.moment import MOMENT_CHARS_MAX
from services.runtime import telemetry
from services.runtime.errors import FailedPrecondition, InvalidRequest, Unavailable
from spillway import wire
from spillway.chat import Embedding
from spillway.routing import CacheKind, CacheOutcome
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import cache_pb2_grpc, chat_pb2
from spillway.validation import LABEL_CHARS_MAX, TAG_CHARS_MAX, TENANT_CHARS_MAX, check_tags

__all__ = ["CacheServicer"]

Context = grpc.aio.ServicerContext[object, object]

CHAT_BYTES_MAX = 2_097_152
"""A larger request is never cached, which is known before it is translated: that and its digest would take the event
loop for long."""

RETRY_AFTER_S = 1.0
"""When an invalidation may be tried again: the store is asked anew after that time."""

_CHARS_MAX = {
    "tenant": TENANT_CHARS_MAX,
    "namespace": LABEL_CHARS_MAX,
    "template_version": LABEL_CHARS_MAX,
    "knowledge_version": LABEL_CHARS_MAX,
    "tag": TAG_CHARS_MAX,
    "entry_key": LABEL_CHARS_MAX,
    "answer_version": LABEL_CHARS_MAX,
}
_SCOPE = ("tenant", "namespace", "template_version", "knowledge_version")

_RESULTS = {
    StoreResult.STORED: pb.StoreResponse.OUTCOME_STORED,
    StoreResult.NOT_ADMITTED: pb.StoreResponse.OUTCOME_NOT_ADMITTED,
    StoreResult.UNAVAILABLE: pb.StoreResponse.OUTCOME_UNAVAILABLE,
}

_VERDICTS = {
    Comparison.SAME: pb.RecordEvidenceResponse.VERDICT_RIGHT,
    Comparison.DIFFERENT: pb.RecordEvidenceResponse.VERDICT_WRONG,
    Comparison.UNKNOWN: pb.RecordEvidenceResponse.VERDICT_UNKNOWN,
}


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """The cache behind gRPC."""

    def __init__(self, cache: SemanticCache) -> None:
        self._cache = cache

    def use(self, cache: SemanticCache) -> None:
        """For calls that begin from now on."""
        self._cache = cache

    async def Lookup(self, request: pb.LookupRequest, context: Context) -> pb.LookupResponse:
        _check_chat(request.chat)
        if _is_large(request.chat):
            never = CacheOutcome(CacheKind.NEVER_CACHED, "the request is large")
            return pb.LookupResponse(outcome=wire.cache_finding_to_proto(never))
        with _embedding_errors():
            found = await self._cache.lookup(
                _scope(request.scope),
                wire.chat_request_from_proto(request.chat, "chat"),
                embedding=_embedding(request),
                task_type=wire.task_type_from_proto(request.task_type, "task_type"),
                skip_exact=request.skip_exact,
                peek=request.peek,
            )
        outcome = found.outcome
        telemetry.set_attributes(
            {
                "spillway.cache.outcome": outcome.kind.value,
                "spillway.cache.reason": outcome.reason,
                "spillway.cache.similarity": outcome.similarity,
                "spillway.cache.partition_entries": found.partition_entries,
                **_explanation(found.explanation),
            }
        )
        response = pb.LookupResponse(
            outcome=wire.cache_finding_to_proto(outcome), audit=found.audit, store_token=found.store_token
        )
        if found.answer is not None:
            response.answer.CopyFrom(wire.cached_answer_to_proto(found.answer))
        return response

    async def Store(self, request: pb.StoreRequest, context: Context) -> pb.StoreResponse:
        _check_chat(request.chat)
        check_tags(request.tags)
        if not request.HasField("answer"):
            raise InvalidRequest([("answer", "must be set")])
        if _is_large(request.chat):
            return pb.StoreResponse(outcome=pb.StoreResponse.OUTCOME_NOT_ADMITTED, reason="request_too_large")
        with _embedding_errors():
            stored = await self._cache.store(
                _scope(request.scope),
                wire.chat_request_from_proto(request.chat, "chat"),
                answer_from_proto(request.answer, "answer"),
                embedding=_embedding(request),
                task_type=wire.task_type_from_proto(request.task_type, "task_type"),
                ttl_s=_ttl_s(request),
                tags=tuple(request.tags),
                token=_token(request),
            )
        telemetry.set_attributes(
            {"spillway.cache.outcome": stored.result.value, "spillway.cache.reason": stored.reason or None}
        )
        return pb.StoreResponse(outcome=_RESULTS[stored.result], entry_key=stored.entry_key, reason=stored.reason)

    async def Invalidate(self, request: pb.InvalidateRequest, context: Context) -> pb.InvalidateResponse:
        if not request.HasField("tenant") and not request.HasField("entry_key"):
            raise InvalidRequest([("tenant", "must be set unless entry_key is")])
        _check_lengths(request, (*_SCOPE, "tag", "entry_key"))
        selector = Selector(
            tenant=request.tenant if request.HasField("tenant") else None,
            namespace=request.namespace if request.HasField("namespace") else None,
            template_version=request.template_version if request.HasField("template_version") else None,
            knowledge_version=request.knowledge_version if request.HasField("knowledge_version") else None,
            tag=request.tag if request.HasField("tag") else None,
            entry_key=request.entry_key if request.HasField("entry_key") else None,
        )
        try:
            entries = await self._cache.invalidate(selector, dry_run=request.dry_run)
        except StoreUnavailableError as error:
            raise Unavailable(
                "SERVICE_UNAVAILABLE", "the cache's store does not answer", RETRY_AFTER_S, detail=str(error)
            ) from error
        return pb.InvalidateResponse(entries=entries)

    async def RecordEvidence(self, request: pb.RecordEvidenceRequest, context: Context) -> pb.RecordEvidenceResponse:
        _check_chat(request.chat)
        check_tags(request.tags)
        embedding = _embedding(request)
        if embedding is None:
            raise InvalidRequest([("embedding", "must be set")])
        if not request.entry_key:
            raise InvalidRequest([("entry_key", "must be set")])
        _check_lengths(request, ("entry_key", "answer_version"))
        kind = request.WhichOneof("evidence")
        if kind is None:
            raise InvalidRequest([("evidence", "must be set")])
        if _is_large(request.chat):
            return pb.RecordEvidenceResponse(verdict=pb.RecordEvidenceResponse.VERDICT_UNKNOWN)
        with _embedding_errors():
            verdict = await self._cache.record_evidence(
                _scope(request.scope),
                wire.chat_request_from_proto(request.chat, "chat"),
                request.right if kind == "right" else answer_from_proto(request.fresh_answer, "fresh_answer"),
                key=request.entry_key,
                embedding=embedding,
                task_type=wire.task_type_from_proto(request.task_type, "task_type"),
                ttl_s=_ttl_s(request),
                tags=tuple(request.tags),
                token=_token(request),
                version=request.answer_version,
            )
        telemetry.set_attributes({"spillway.cache.evidence": verdict.value})
        return pb.RecordEvidenceResponse(verdict=_VERDICTS[verdict])

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        stats = self._cache.stats()
        return pb.GetStatsResponse(
            lookups=stats.lookups,
            exact_hits=stats.exact_hits,
            semantic_hits=stats.semantic_hits,
            unavailable=stats.unavailable,
            stored=stats.stored,
            not_admitted=stats.not_admitted,
            dropped=stats.dropped,
            indexed_entries=stats.indexed_entries,
            partitions=stats.partitions,
            wrong_rates=[_wrong_rate(report) for report in self._cache.wrong_rates()],
            evicted=stats.evicted,
            overtaken=stats.overtaken,
        )


def _wrong_rate(report: ClassReport) -> pb.WrongRate:
    return pb.WrongRate(
        partition_class=report.name,
        lookups=report.lookups,
        hits=report.hits,
        audited=report.audited,
        wrong=report.wrong,
        wrong_rate=report.risk.wrong_rate,
        wrong_rate_low=report.risk.wrong_rate_low,
        wrong_rate_high=report.risk.wrong_rate_high,
        threshold=report.threshold,
        outcomes=report.risk.observations,
    )


def _explanation(found: Explanation | None) -> dict[str, str | float]:
    if found is None:
        return {}
    return {
        "spillway.cache.class": found.partition_class,
        "spillway.cache.p_same": found.p_same,
        "spillway.cache.threshold": found.threshold,
        "spillway.cache.margin": found.margin,
        "spillway.cache.aliases": found.aliases,
        "spillway.cache.class_evidence": found.evidence,
        "spillway.cache.class_wrong_rate": found.wrong_rate,
    }


def _check_chat(chat: chat_pb2.ChatRequest) -> None:
    if not chat.messages:
        raise InvalidRequest([("chat.messages", "must not be empty")])


def _is_large(chat: chat_pb2.ChatRequest) -> bool:
    return chat.ByteSize() > CHAT_BYTES_MAX


def _check_lengths(
    message: pb.CacheScope | pb.InvalidateRequest | pb.RecordEvidenceRequest, names: Iterable[str], path: str = ""
) -> None:
    if violations := [
        (path + name, f"must be at most {_CHARS_MAX[name]} characters")
        for name in names
        if len(getattr(message, name)) > _CHARS_MAX[name]
    ]:
        raise InvalidRequest(violations)


def _scope(scope: pb.CacheScope) -> Scope:
    _check_lengths(scope, _SCOPE, "scope.")
    return Scope(scope.tenant, scope.namespace, scope.template_version, scope.knowledge_version)


def _embedding(request: pb.LookupRequest | pb.StoreRequest | pb.RecordEvidenceRequest) -> Embedding | None:
    if not request.HasField("embedding"):
        return None
    if not 1 <= len(request.embedding.model) <= LABEL_CHARS_MAX:
        raise InvalidRequest([("embedding.model", f"must have 1 to {LABEL_CHARS_MAX} characters")])
    return wire.embedding_from_proto(request.embedding)


def _token(request: pb.StoreRequest | pb.RecordEvidenceRequest) -> str:
    if len(request.store_token) > MOMENT_CHARS_MAX:
        raise InvalidRequest([("store_token", f"must be at most {MOMENT_CHARS_MAX} characters")])
    return request.store_token


def _ttl_s(request: pb.StoreRequest | pb.RecordEvidenceRequest) -> float | None:
    if not request.HasField("ttl"):
        return None
    ttl_s = wire.duration_from_proto(request.ttl, "ttl")
    if ttl_s <= 0:
        raise InvalidRequest([("ttl", "must be above 0")])
    return ttl_s


@contextmanager
def _embedding_errors() -> Iterator[None]:
    try:
        yield
    except InvalidVectorError as error:
        raise InvalidRequest([("embedding.values", str(error))]) from error
    except DimensionMismatchError as error:
        raise FailedPrecondition(
            "EMBEDDING_MISMATCH",
            "the embedding's dimension is not that of its model's other embeddings",
            detail=str(error),
        ) from error
