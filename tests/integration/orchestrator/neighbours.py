"""The orchestrator on a real socket, among scripted neighbours on theirs."""
# ruff: noqa: N802 - the methods are named by the .proto files

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from services.orchestrator.__main__ import build
from services.runtime.config import Loaded
from services.runtime.server import RunningServer, Service, start
from spillway import wire
from spillway.chat import Embedding
from spillway.routing import AnswerDelta, CacheKind, CacheOutcome, Execution
from spillway.v1 import cache_pb2 as cache
from spillway.v1 import chat_pb2
from spillway.v1 import classifier_pb2 as classifier
from spillway.v1 import executor_pb2 as executor
from spillway.v1 import ledger_pb2 as ledger
from spillway.v1 import orchestrator_pb2 as api
from spillway.v1.cache_pb2_grpc import CacheServiceServicer, add_CacheServiceServicer_to_server
from spillway.v1.classifier_pb2_grpc import ClassifierServiceServicer, add_ClassifierServiceServicer_to_server
from spillway.v1.executor_pb2_grpc import ExecutorServiceServicer, add_ExecutorServiceServicer_to_server
from spillway.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceStub

if TYPE_CHECKING:
    from spillway.v1.orchestrator_pb2_grpc import OrchestratorServiceAsyncStub

from tests.unit.orchestrator.fakes import executed
from tests.unit.orchestrator.ladder import judged, request_of, settings_of

__all__ = ["EMBEDDING", "TIMEOUT_S", "Neighbourhood", "asking", "complete", "forever", "hit", "stored"]

EMBEDDING = Embedding(b"\x00\x00\x80\x3f", "test/1")
LIMITS = {"drain_s": 0.0, "grace_s": 5.0}
LISTEN = "127.0.0.1:0"
TIMEOUT_S = 30.0


def asking(text: str = "What is the capital of France?", **fields: Any) -> api.CompleteRequest:
    return wire.completion_request_to_proto(request_of(text, **fields))


def hit(kind: CacheKind) -> cache.LookupResponse:
    execution = executed()
    return cache.LookupResponse(
        outcome=wire.cache_finding_to_proto(CacheOutcome(kind, similarity=0.97, entry_key="k")),
        answer=cache.CachedAnswer(
            message=wire.message_to_proto(execution.message),
            finish_reason=wire.finish_reason_to_proto(execution.finish_reason),
            tier="simple",
            target="simple-1",
            model="model-of-simple-1",
            usage=wire.usage_to_proto(execution.usage),
            cost_nanousd=99,
            accepted=True,
        ),
    )


def _miss() -> cache.LookupResponse:
    finding = wire.cache_finding_to_proto(CacheOutcome(CacheKind.MISS))
    return cache.LookupResponse(outcome=finding, store_token="a moment")


def _judgement() -> classifier.ClassifyResponse:
    return classifier.ClassifyResponse(
        classification=wire.classification_to_proto(judged()), embedding=wire.embedding_to_proto(EMBEDDING)
    )


async def nothing() -> None:
    """The default of what a neighbour does before it answers."""


async def forever() -> None:
    """What a neighbour that hangs does before it answers."""
    await asyncio.Event().wait()


@dataclass
class Cache(CacheServiceServicer):
    """Scripted lookups; `before` and `before_store` may wait or raise."""

    exact: cache.LookupResponse = field(default_factory=_miss)
    semantic: cache.LookupResponse = field(default_factory=_miss)
    before: Callable[[], Awaitable[None]] = nothing
    before_store: Callable[[], Awaitable[None]] = nothing
    lookups: list[cache.LookupRequest] = field(default_factory=list)
    storing: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Queue[cache.StoreRequest] = field(default_factory=asyncio.Queue)
    evidence: asyncio.Queue[cache.RecordEvidenceRequest] = field(default_factory=asyncio.Queue)

    async def Lookup(self, request: cache.LookupRequest, context: Any) -> cache.LookupResponse:
        self.lookups.append(request)
        await self.before()
        return self.semantic if request.skip_exact else self.exact

    async def Store(self, request: cache.StoreRequest, context: Any) -> cache.StoreResponse:
        self.storing.set()
        await self.before_store()
        self.stored.put_nowait(request)
        return cache.StoreResponse(outcome=cache.StoreResponse.OUTCOME_STORED)

    async def Invalidate(self, request: cache.InvalidateRequest, context: Any) -> cache.InvalidateResponse:
        raise NotImplementedError

    async def RecordEvidence(self, request: cache.RecordEvidenceRequest, context: Any) -> cache.RecordEvidenceResponse:
        self.evidence.put_nowait(request)
        return cache.RecordEvidenceResponse(verdict=cache.RecordEvidenceResponse.VERDICT_WRONG)

    async def GetStats(self, request: cache.GetStatsRequest, context: Any) -> cache.GetStatsResponse:
        raise NotImplementedError


@dataclass
class Classifier(ClassifierServiceServicer):
    """One judgement."""

    says: classifier.ClassifyResponse = field(default_factory=_judgement)
    before: Callable[[], Awaitable[None]] = nothing
    asked: list[classifier.ClassifyRequest] = field(default_factory=list)
    told: asyncio.Queue[classifier.RecordOutcomesRequest] = field(default_factory=asyncio.Queue)

    async def Classify(self, request: classifier.ClassifyRequest, context: Any) -> classifier.ClassifyResponse:
        self.asked.append(request)
        await self.before()
        return self.says

    async def Embed(self, request: classifier.EmbedRequest, context: Any) -> classifier.EmbedResponse:
        raise NotImplementedError

    async def RecordOutcomes(
        self, request: classifier.RecordOutcomesRequest, context: Any
    ) -> classifier.RecordOutcomesResponse:
        self.told.put_nowait(request)
        return classifier.RecordOutcomesResponse(counted=len(request.outcomes))


@dataclass
class Executor(ExecutorServiceServicer):
    """One execution, and its deltas; `before` may wait or raise, before the execution and after the deltas."""

    gives: Execution = field(default_factory=executed)
    deltas: tuple[str, ...] = ("Par", "is.")
    before: Callable[[], Awaitable[None]] = nothing
    asked: list[executor.ExecuteRequest] = field(default_factory=list)
    spoil: bool = False
    working: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Execute(self, request: executor.ExecuteRequest, context: Any) -> executor.ExecuteResponse:
        self.asked.append(request)
        await self._work()
        execution = wire.execution_to_proto(self.gives)
        if self.spoil:
            execution.message.role = chat_pb2.ROLE_UNSPECIFIED
        return executor.ExecuteResponse(execution=execution)

    async def StreamExecute(
        self, request: executor.StreamExecuteRequest, context: Any
    ) -> AsyncIterator[executor.StreamExecuteResponse]:
        self.asked.append(request.request)
        for text in self.deltas:
            yield executor.StreamExecuteResponse(delta=wire.answer_delta_to_proto(AnswerDelta(text)))
        await self._work()
        yield executor.StreamExecuteResponse(execution=wire.execution_to_proto(self.gives))

    async def ListTargets(self, request: executor.ListTargetsRequest, context: Any) -> executor.ListTargetsResponse:
        raise NotImplementedError

    async def _work(self) -> None:
        self.working.set()
        try:
            await self.before()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Ledger(LedgerServiceServicer):
    """Takes everything, and knows the decision that feedback is of. What no test asks of it raises, as elsewhere."""

    async def RecordDecisions(self, request: Any, context: Any) -> ledger.RecordDecisionsResponse:
        return ledger.RecordDecisionsResponse()

    async def RecordFeedback(self, request: Any, context: Any) -> ledger.RecordFeedbackResponse:
        routing = api.RoutingDecision(classification=wire.classification_to_proto(judged()))
        decision = ledger.DecisionRecord(routing=routing, cache=_miss().outcome)
        return ledger.RecordFeedbackResponse(decision=decision)

    async def RecordGrades(self, request: Any, context: Any) -> ledger.RecordGradesResponse:
        return ledger.RecordGradesResponse()

    async def GetDecision(self, request: Any, context: Any) -> ledger.GetDecisionResponse:
        raise NotImplementedError

    async def MeasureQuality(self, request: Any, context: Any) -> ledger.MeasureQualityResponse:
        return ledger.MeasureQualityResponse()


class Neighbourhood:
    """Starts the neighbours, and the orchestrator unless they are to be alone; stops what still runs at the end."""

    def __init__(self, *, alone: bool = False, **sections: Any) -> None:
        self.cache, self.classifier, self.executor, self.ledger = Cache(), Classifier(), Executor(), Ledger()
        self.servers: dict[str, RunningServer] = {}
        self.loaded: Loaded
        self.stub: OrchestratorServiceAsyncStub
        self._alone = alone
        self._sections = sections
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        registrations: dict[str, Callable[[grpc.aio.Server], None]] = {
            "cache": lambda server: add_CacheServiceServicer_to_server(self.cache, server),
            "classifier": lambda server: add_ClassifierServiceServicer_to_server(self.classifier, server),
            "executor": lambda server: add_ExecutorServiceServicer_to_server(self.executor, server),
            "ledger": lambda server: add_LedgerServiceServicer_to_server(self.ledger, server),
        }
        for name, register in registrations.items():
            service = Service(name, register, (f"spillway.v1.{name.capitalize()}Service",))
            await self._start(name, service, self._load())
        self.loaded = self._load()
        if not self._alone:
            await self._start("orchestrator", await build(self.loaded), self.loaded)
            channel = grpc.aio.insecure_channel(self.servers["orchestrator"].address)
            self.stub = OrchestratorServiceStub(await self._stack.enter_async_context(channel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in ("orchestrator", "cache", "classifier", "executor", "ledger"):
            if name in self.servers:
                await self.stop(name)
        await self._stack.aclose()

    async def break_off(self, name: str) -> None:
        """Drops a neighbour's connections with what is under way on them."""
        await self.servers[name]._ports[0].server.stop(None)

    async def stop(self, name: str) -> None:
        await self.servers.pop(name).stop()

    async def _start(self, name: str, service: Service, loaded: Loaded) -> None:
        self.servers[name] = await start(service, loaded, LISTEN)

    def _load(self) -> Loaded:
        addresses = {name: {"listen": LISTEN, "target": server.address} for name, server in self.servers.items()}
        sections = {"limits": LIMITS, "services": addresses, **self._sections}
        return Loaded(settings_of(**sections), "c0ffee", Path("test.yaml"))


async def complete(town: Neighbourhood, request: api.CompleteRequest | None = None) -> api.Completion:
    """The answer to this request, or to any."""
    response = await town.stub.Complete(request or asking(), timeout=TIMEOUT_S)
    return response.completion


async def stored(town: Neighbourhood) -> cache.StoreRequest:
    """The next answer that the cache is given to keep."""
    return await asyncio.wait_for(town.cache.stored.get(), TIMEOUT_S)
