"""The optional hops over gRPC: translation with spillway.wire, and what a failed call means. Protobuf stays in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import grpc

from services.orchestrator.hops import (
    CacheQuery,
    CacheReply,
    EvidenceVerdict,
    Judgement,
    StoreResult,
    Unanswered,
)
from spillway import wire
from spillway.chat import ChatRequest, ImagePart, Message, TextPart
from spillway.routing import CachedAnswer, CacheKind, CacheOutcome, TierOutcome
from spillway.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    classifier_pb2,
    classifier_pb2_grpc,
)

__all__ = ["GrpcCache", "GrpcClassifier"]

_HITS = frozenset({CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT})
_VERDICTS = {
    cache_pb2.RecordEvidenceResponse.VERDICT_RIGHT: EvidenceVerdict.RIGHT,
    cache_pb2.RecordEvidenceResponse.VERDICT_WRONG: EvidenceVerdict.WRONG,
}


class GrpcCache:
    """The cache behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)

    async def lookup(self, query: CacheQuery, *, skip_exact: bool, peek: bool, timeout_s: float) -> CacheReply:
        request = cache_pb2.LookupRequest(
            scope=_scope(query),
            chat=wire.chat_request_to_proto(query.chat),
            embedding=wire.embedding_to_proto(query.embedding) if query.embedding else None,
            task_type=wire.task_type_to_proto(query.task_type),
            skip_exact=skip_exact,
            peek=peek,
        )
        try:
            response = await self._stub.Lookup(request, timeout=timeout_s)
            return _reply(response)
        except grpc.aio.AioRpcError as error:
            return _unavailable(_word(error))
        except wire.WireError:
            return _unavailable("unreadable")

    async def store(
        self,
        query: CacheQuery,
        answer: CachedAnswer,
        *,
        ttl_s: float | None,
        tags: tuple[str, ...],
        token: str,
        timeout_s: float,
    ) -> StoreResult:
        request = cache_pb2.StoreRequest(
            scope=_scope(query),
            chat=wire.chat_request_to_proto(query.chat),
            embedding=wire.embedding_to_proto(query.embedding) if query.embedding else None,
            task_type=wire.task_type_to_proto(query.task_type),
            answer=wire.cached_answer_to_proto(answer),
            ttl=wire.duration_to_proto(ttl_s) if ttl_s is not None else None,
            tags=tags,
            store_token=token,
        )
        try:
            response = await self._stub.Store(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return StoreResult("unavailable", _word(error))
        outcomes = cache_pb2.StoreResponse.Outcome
        if response.outcome == outcomes.OUTCOME_STORED:
            return StoreResult("stored")
        refused = response.outcome == outcomes.OUTCOME_NOT_ADMITTED
        return StoreResult("not_admitted" if refused else "unavailable", response.reason)

    async def record_evidence(
        self,
        query: CacheQuery,
        entry_key: str,
        fresh: CachedAnswer,
        *,
        ttl_s: float | None,
        tags: tuple[str, ...],
        token: str,
        timeout_s: float,
        answer_version: str = "",
    ) -> EvidenceVerdict:
        request = cache_pb2.RecordEvidenceRequest(
            scope=_scope(query),
            chat=wire.chat_request_to_proto(query.chat),
            embedding=wire.embedding_to_proto(query.embedding) if query.embedding else None,
            task_type=wire.task_type_to_proto(query.task_type),
            entry_key=entry_key,
            fresh_answer=wire.cached_answer_to_proto(fresh),
            ttl=wire.duration_to_proto(ttl_s) if ttl_s is not None else None,
            tags=tags,
            store_token=token,
            answer_version=answer_version,
        )
        try:
            response = await self._stub.RecordEvidence(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return EvidenceVerdict.UNAVAILABLE
        return _VERDICTS.get(response.verdict, EvidenceVerdict.UNKNOWN)


class GrpcClassifier:
    """The classifier behind a channel. Pictures stay here, only that there are some is told: it reads text."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = classifier_pb2_grpc.ClassifierServiceStub(channel)

    async def classify(self, chat: ChatRequest, *, want_embedding: bool, timeout_s: float) -> Judgement | Unanswered:
        request = classifier_pb2.ClassifyRequest(
            messages=[wire.message_to_proto(_without_pictures(message)) for message in chat.messages],
            has_tools=bool(chat.tools),
            want_embedding=want_embedding,
        )
        try:
            response = await self._stub.Classify(request, timeout=timeout_s)
            classification = wire.classification_from_proto(response.classification)
        except grpc.aio.AioRpcError as error:
            return Unanswered(_word(error))
        except wire.WireError:
            return Unanswered("unreadable")
        embedding = wire.embedding_from_proto(response.embedding) if response.embedding.values else None
        return Judgement(classification, embedding)

    async def record_outcomes(self, outcomes: Sequence[TierOutcome], *, timeout_s: float) -> bool:
        request = classifier_pb2.RecordOutcomesRequest(
            outcomes=[wire.tier_outcome_to_proto(outcome) for outcome in outcomes]
        )
        try:
            await self._stub.RecordOutcomes(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return True


def _scope(query: CacheQuery) -> cache_pb2.CacheScope:
    return cache_pb2.CacheScope(
        tenant=query.tenant,
        namespace=query.namespace,
        template_version=query.template_version,
        knowledge_version=query.knowledge_version,
    )


def _reply(response: cache_pb2.LookupResponse) -> CacheReply:
    outcome = wire.cache_finding_from_proto(response.outcome)
    if outcome.kind not in _HITS:
        return CacheReply(outcome, store_token=response.store_token)
    return CacheReply(
        outcome,
        wire.cached_answer_from_proto(response.answer),
        audit=response.audit,
        store_token=response.store_token,
    )


def _unavailable(reason: str) -> CacheReply:
    return CacheReply(CacheOutcome(CacheKind.UNAVAILABLE, reason=reason))


def _word(error: grpc.aio.AioRpcError) -> str:
    return error.code().name.lower()


def _without_pictures(message: Message) -> Message:
    if not any(isinstance(part, ImagePart) for part in message.parts):
        return message
    # That there is one says something about the work; what it shows does not leave this process.
    return replace(message, parts=tuple(part if isinstance(part, TextPart) else ImagePart() for part in message.parts))
