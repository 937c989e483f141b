"""The pipeline's neighbours, scripted and in memory, and answers for them to give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.orchestrator.audits import AuditOutcome
from services.orchestrator.background import Background
from services.orchestrator.canary.canary import Canary
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.hops import (
    Again,
    CacheQuery,
    CacheReply,
    EvidenceVerdict,
    Judgement,
    StoreResult,
    Unanswered,
)
from services.orchestrator.ledger_hop import FakeLedger
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.outcomes import OutcomeReporter
from services.orchestrator.pipeline import Pipeline
from services.orchestrator.quotas.memory_books import MemoryBooks
from services.orchestrator.quotas.quotas import Quotas
from services.orchestrator.run import Run
from services.orchestrator.users import MemoryUsers
from services.runtime.clock import FakeClock
from services.runtime.errors import SpillwayError
from spillway.chat import ChatRequest, Embedding, FinishReason, Message, Role, Usage
from spillway.routing import (
    AnswerDelta,
    Attempt,
    AttemptOutcome,
    CachedAnswer,
    CacheKind,
    CacheOutcome,
    Completion,
    CompletionRequest,
    Execution,
    GateVerdict,
    Plan,
    TaskType,
    TierOutcome,
    Verdict,
)
from spillway.settings import Settings
from tests.unit.orchestrator.ladder import judged, request_of, settings_of

__all__ = [
    "DOWN",
    "Bench",
    "FakeCache",
    "FakeClassifier",
    "FakeExecutor",
    "cached",
    "collect",
    "complete",
    "executed",
    "hop_names",
]

EMBEDDING = Embedding(b"\x00\x00\x80\x3f", "test/1")
MISS = CacheReply(CacheOutcome(CacheKind.MISS, reason="nothing stored"), store_token="a moment")
SEMANTIC_MISS = replace(MISS, store_token="")
DOWN = CacheReply(CacheOutcome(CacheKind.UNAVAILABLE, reason="deadline_exceeded"))


def cached(kind: CacheKind, *, tier: str = "simple", target: str = "simple-1") -> CacheReply:
    answer = CachedAnswer(
        message=Message.of(Role.ASSISTANT, "Paris, as before."),
        finish_reason=FinishReason.STOP,
        tier=tier,
        target=target,
        model=f"model-of-{target}",
        usage=Usage(10, 5),
        cost_nanousd=99,
        accepted=True,
    )
    return CacheReply(CacheOutcome(kind, similarity=0.97, entry_key="k"), answer)


def executed(*, accepted: bool = True, finish_reason: FinishReason = FinishReason.STOP) -> Execution:
    failed, passed = ((GateVerdict("composite", verdict, "P(right)"),) for verdict in (Verdict.FAIL, Verdict.PASS))
    rejected, said = AttemptOutcome.REJECTED, passed if accepted else failed
    attempts = (
        Attempt("simple", "simple-1", "model-of-simple-1", "lab", rejected, failed, cost_nanousd=300),
        Attempt("simple", "simple-2", "model-of-simple-2", "lab", AttemptOutcome.EVIDENCE, cost_nanousd=50),
        Attempt("medium", "medium-1", "model-of-medium-1", "lab", AttemptOutcome.ACCEPTED, said, cost_nanousd=4_000),
    )
    return Execution(
        message=Message.of(Role.ASSISTANT, "Paris."),
        finish_reason=finish_reason,
        accepted=accepted,
        tier="medium",
        target="medium-1",
        model="model-of-medium-1",
        attempts=attempts,
        usage=Usage(20, 4),
        usage_total=Usage(60, 12),
        cost_nanousd=4_350,
        escalations=1,
        fallbacks=0,
    )


@dataclass
class FakeCache:
    """Answers lookups from two scripts; `gate`, when given, holds stores back until it is set.

    With `remembers`, what was stored is found exactly from then on.
    """

    clock: FakeClock
    exact: CacheReply = MISS
    semantic: CacheReply = SEMANTIC_MISS
    gate: asyncio.Event | None = None
    remembers: bool = False
    says_of_stores: StoreResult = field(default_factory=lambda: StoreResult("stored"))
    says_of_evidence: EvidenceVerdict = EvidenceVerdict.RIGHT
    evidence: list[tuple[CacheQuery, str, CachedAnswer]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    evidence_kept: list[tuple[float | None, tuple[str, ...]]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    peeks: int = 0
    looked_up: list[tuple[CacheQuery, bool, float]] = field(default_factory=list)
    stored: list[tuple[CacheQuery, CachedAnswer, float | None, tuple[str, ...]]] = field(default_factory=list)

    async def lookup(self, query: CacheQuery, *, skip_exact: bool, peek: bool, timeout_s: float) -> CacheReply:
        self.peeks += peek
        self.looked_up.append((query, skip_exact, timeout_s))
        self.clock.advance(0.001)
        return self.semantic if skip_exact else self.exact

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
        self.tokens.append(token)
        if self.gate is not None:
            await self.gate.wait()
        self.stored.append((query, answer, ttl_s, tags))
        if self.remembers and self.says_of_stores.outcome == "stored":
            self.exact = CacheReply(CacheOutcome(CacheKind.EXACT_HIT, entry_key="k"), answer)
        return self.says_of_stores

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
        self.tokens.append(token)
        self.versions.append(answer_version)
        self.evidence.append((query, entry_key, fresh))
        self.evidence_kept.append((ttl_s, tags))
        return self.says_of_evidence


@dataclass
class FakeClassifier:
    """Gives one judgement, with the embedding when it is wanted."""

    clock: FakeClock
    says: Judgement | Unanswered = field(default_factory=lambda: Judgement(judged()))
    asked: list[tuple[bool, float]] = field(default_factory=list)
    told: list[list[TierOutcome]] = field(default_factory=list)
    is_deaf: bool = False

    async def classify(self, chat: ChatRequest, *, want_embedding: bool, timeout_s: float) -> Judgement | Unanswered:
        self.asked.append((want_embedding, timeout_s))
        self.clock.advance(0.002)
        if isinstance(self.says, Unanswered):
            return self.says
        return Judgement(self.says.classification, EMBEDDING if want_embedding else None)

    async def record_outcomes(self, outcomes: Sequence[TierOutcome], *, timeout_s: float) -> bool:
        self.told.append(list(outcomes))
        return not self.is_deaf


@dataclass
class FakeExecutor:
    """Gives one execution or one error; as a stream, the deltas first. With `hold` it waits for ever, and says so."""

    clock: FakeClock
    gives: Execution | SpillwayError = field(default_factory=executed)
    deltas: Iterable[AnswerDelta] = (AnswerDelta("Par"), AnswerDelta("is."))
    hold: bool = False
    plans: list[tuple[Plan, TaskType | None, float]] = field(default_factory=list)
    cancelled: int = 0
    holding: asyncio.Event = field(default_factory=asyncio.Event)

    async def execute(
        self, chat: ChatRequest, plan: Plan, *, task_type: TaskType | None, timeout_s: float, again: Again | None = None
    ) -> Execution:
        self.plans.append((plan, task_type, timeout_s))
        await self._work()
        if isinstance(self.gives, SpillwayError):
            raise self.gives
        return self.gives

    async def stream(
        self, chat: ChatRequest, plan: Plan, *, task_type: TaskType | None, timeout_s: float, again: Again | None = None
    ) -> AsyncGenerator[AnswerDelta | Execution, None]:
        self.plans.append((plan, task_type, timeout_s))
        try:
            for delta in self.deltas:
                yield delta
        except GeneratorExit:
            self.cancelled += 1
            raise
        await self._work()
        if isinstance(self.gives, SpillwayError):
            raise self.gives
        yield self.gives

    async def _work(self) -> None:
        self.clock.advance(0.5)
        if self.hold:
            self.holding.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


class Bench:
    """A pipeline among fakes."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        decision_log: DecisionLog | None = None,
        tasks_max: int = 2,
        canary: Canary | None = None,
        **policy: Any,
    ) -> None:
        self.settings = settings or settings_of(policy=policy)
        self.clock = FakeClock()
        self.cache = FakeCache(self.clock)
        self.classifier = FakeClassifier(self.clock)
        self.background = Background(tasks_max)
        self.lost_outcomes: list[int] = []
        self.audits: list[tuple[AuditOutcome, int]] = []
        self._decision_log = decision_log
        self._canary = canary
        new = self.settings.policy.new_users
        self.users = MemoryUsers(self.clock, forget_s=new.forget_s, users_max=new.users_max)
        self.quotas = Quotas(self.settings.quotas, MemoryBooks(self.clock), self.clock, run_s_max=120.0)
        self.ledger = FakeLedger()
        self.reporter = LedgerReporter(self.ledger, self.clock, queued_max=100)
        self.use_executor(FakeExecutor(self.clock))

    def use_executor(self, executor: FakeExecutor) -> None:
        self.executor = executor
        self.pipeline = Pipeline(
            self.settings,
            config_version="c0ffee",
            cache=self.cache,
            classifier=self.classifier,
            executor=executor,
            clock=self.clock,
            background=self.background,
            decision_log=self._decision_log,
            users=self.users,
            quotas=self.quotas,
            reporter=self.reporter,
            canary=self._canary,
            outcomes=OutcomeReporter(self.classifier, self.clock, on_drop=self.lost_outcomes.append),
            on_audit=lambda outcome, cost_nanousd: self.audits.append((outcome, cost_nanousd)),
        )

    @property
    def flights(self) -> int:
        """How many are under way."""
        return len(self.pipeline._flights)


async def complete(bench: Bench, request: CompletionRequest | None = None) -> tuple[Completion, Run]:
    """The answer to this request, or to any, and its run."""
    run = bench.pipeline.begin(request or request_of(), remaining_s=30.0)
    return await bench.pipeline.complete(run), run


async def collect(bench: Bench, run: Run) -> list[object]:
    """All that a run streams."""
    return [event async for event in bench.pipeline.stream(run)]


def hop_names(completion: Completion) -> list[str]:
    return [hop.hop for hop in completion.hops]
