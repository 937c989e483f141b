"""One request on its way through the pipeline: what came in, and what has become known of it so far.

Promises: a Run belongs to one request and is changed only by the pipeline; when the request has ended, in whatever way,
the run knows how, and `span_attributes` and `record` say it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import grpc

from services.orchestrator.configured import Configured
from services.orchestrator.flights import Seat
from services.orchestrator.fresh_answer import is_proven
from services.orchestrator.hops import CacheQuery, ExecutionError
from services.orchestrator.policy.policy_state import PolicyState
from services.orchestrator.record import DecisionRecord, end_user_hash, prompt_sha256
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import SpillwayError
from spillway.chat import Embedding
from spillway.routing import (
    CachedAnswer,
    CacheKind,
    CacheMode,
    CacheOutcome,
    Classification,
    Completion,
    CompletionRequest,
    CostSummary,
    Execution,
    FailedExecution,
    HopLatency,
    RoutingDecision,
    TaskType,
)

__all__ = ["Run"]

# Hops that no span of a gRPC call shows: what replicas share, in Redis.
_SPANS = frozenset({"quotas", "replays", "users"})

# A cancellation so close to the deadline was the deadline's.
DEADLINE_SLACK_S = 0.02

# Errors after which models may have been called, although the executor does not say which.
_WITHOUT_A_WORD = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL})

NOT_LOOKED = CacheOutcome(CacheKind.BYPASS, reason="the request ended before the cache was asked")


@dataclass(slots=True)
class Run:
    """A request under way. `deadline_s` and `started_s` are monotonic. `status_code` is the gRPC number.

    `configured` is what was in force when it came in. `cost_unknown`: models may have been called, and nobody says
    which. `shared`: the answer is that of a request that was under way at the same time. `audit`: the cache wants to
    hear what a model says. `store_token`: what the cache said when it was
    first asked, before any model; None: it did not say what moment that was. `key_id`: of the API key that the request
    came with. `job_id`: the job that it belongs to. `replayed`: its id had an answer already.
    """

    request: CompletionRequest
    request_id: str
    configured: Configured
    clock: Clock
    started_s: float
    received_at_unix_s: float
    deadline_s: float
    trace_id: str = ""
    key_id: str = ""
    job_id: str = ""
    hops: list[HopLatency] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    state: PolicyState = field(default_factory=PolicyState)
    cache_mode: CacheMode = CacheMode.BYPASS
    cache: CacheOutcome = NOT_LOOKED
    judged: bool = False
    classification: Classification | None = None
    embedding: Embedding | None = None
    routing: RoutingDecision = field(default_factory=RoutingDecision)
    execution: Execution | None = None
    completion: Completion | None = None
    failed: FailedExecution | None = None
    cost_unknown: bool = False
    status_code: int = 0
    error_reason: str = ""
    seat: Seat | None = None
    shared: bool = False
    audit: bool = False
    store_token: str | None = None
    replayed: bool = False

    @property
    def remaining_s(self) -> float:
        """How long the caller still waits, at least 0."""
        return max(0.0, self.deadline_s - self.clock.monotonic())

    @property
    def task_type(self) -> TaskType | None:
        """The kind of work, when it was judged."""
        return self.classification.task_type if self.classification else None

    @property
    def cluster(self) -> str:
        """The cluster of prompts that it was judged to belong to, or empty."""
        return self.classification.cluster if self.classification else ""

    @property
    def cost(self) -> CostSummary:
        """What the request has cost, as far as it is known."""
        if self.completion is not None:
            return self.completion.cost
        return CostSummary(self.failed.cost_nanousd) if self.failed else CostSummary()

    @property
    def execution_done(self) -> Completion | FailedExecution:
        """Its attempts, escalations and fallbacks, whether they came to an answer or not."""
        return self.completion or self.failed or FailedExecution(())

    @property
    def storable(self) -> bool:
        """Whether it has an accepted, complete, fresh answer, may be cached, and ended well.

        When the cache did not say what had been invalidated before the model was asked, nobody knows whether the answer
        still stands.
        """
        return (
            self.execution is not None
            and self.status_code == 0
            and self.cache_mode is not CacheMode.BYPASS
            and self.cache.kind is not CacheKind.NEVER_CACHED
            and self.store_token is not None
            and is_proven(self.execution)
        )

    def query(self, embedding: Embedding | None) -> CacheQuery:
        """What to ask the cache, or to tell it: by meaning with an embedding."""
        request = self.request
        return CacheQuery(
            tenant=request.tenant,
            namespace=request.namespace,
            template_version=request.template_version,
            knowledge_version=request.knowledge_version,
            chat=request.chat,
            embedding=embedding,
            task_type=self.task_type,
        )

    @contextmanager
    def hop(self, name: str) -> Iterator[None]:
        """Records how long the body took, however it ended; as a span too, where no call to a service is one."""
        start_s = self.clock.monotonic()
        try:
            with _span(name) if name in _SPANS else nullcontext():
                yield
        finally:
            self.hops.append(HopLatency(name, self.clock.monotonic() - start_s))

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Around the execution: notes what it had done should it fail, or that nobody says."""
        self.cost_unknown = True
        try:
            yield
        except ExecutionError as error:
            self.failed, self.cost_unknown = error.failed, False
            raise
        except SpillwayError as error:
            self.cost_unknown = error.code in _WITHOUT_A_WORD
            raise

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Notes how the body ended, and lets it end so."""
        try:
            yield
        except SpillwayError as error:
            self.status_code, self.error_reason = error.code.value[0], error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            late = self.remaining_s <= DEADLINE_SLACK_S
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            self.status_code, self.error_reason = code.value[0], "DEADLINE_EXCEEDED" if late else ""
            raise
        except Exception:
            self.status_code, self.error_reason = grpc.StatusCode.INTERNAL.value[0], "INTERNAL"
            raise

    def do_without(self, service: str) -> None:
        """Notes an optional service that did not answer."""
        if service not in self.degraded:
            self.degraded.append(service)

    def answered_from_cache(self, hit: CachedAnswer) -> Completion:
        """The completion of a hit: it costs nothing; the flagship's estimate is on the tokens of that earlier call."""
        self.completion = self._completed(hit, 0)
        return self.completion

    def answered_again(self, earlier: Completion) -> Completion:
        """The completion that the request's id had already, as it was."""
        self.replayed, self.completion = True, earlier
        self.routing, self.cache = earlier.routing, earlier.cache
        return earlier

    def answered(self, execution: Execution) -> Completion:
        """The completion of an execution: every attempt costs; the flagship's estimate is on the answering call."""
        self.execution, self.cost_unknown = execution, False
        self.completion = replace(
            self._completed(execution, sum(attempt.cost_nanousd for attempt in execution.attempts)),
            attempts=execution.attempts,
            escalations=execution.escalations,
            fallbacks=execution.fallbacks,
        )
        return self.completion

    def _completed(self, answer: CachedAnswer | Execution, cost_nanousd: int) -> Completion:
        flagship = self.configured.flagship
        return Completion(
            request_id=self.request_id,
            message=answer.message,
            finish_reason=answer.finish_reason,
            accepted=answer.accepted,
            tier=answer.tier,
            target=answer.target,
            model=answer.model,
            usage=answer.usage,
            cost=CostSummary(cost_nanousd, flagship.price.nanousd(answer.usage), flagship.name),
            cache=self.cache,
            routing=self.routing,
            hops=tuple(self.hops),
            trace_id=self.trace_id,
            completed_at_unix_s=self.clock.unix(),
        )

    def span_attributes(self) -> dict[str, str | int | float | bool]:
        """For the server span; never the prompt."""
        attributes: dict[str, str | int | float | bool] = {
            "spillway.request_id": self.request_id,
            "spillway.cache.outcome": self.cache.kind.value,
            "spillway.cache.reason": self.cache.reason,
            "spillway.policy_step": self.routing.policy_step,
            "spillway.rule": self.routing.rule,
            "spillway.arm": self.routing.arm,
            "spillway.config_version": self.configured.in_force,
            "spillway.degraded": ",".join(self.degraded),
        }
        done = self.completion
        if done is not None:
            attributes |= {
                "spillway.tier": done.tier,
                "spillway.target": done.target,
                "spillway.flagship_cost_nanousd": done.cost.flagship_cost_nanousd,
                "spillway.accepted": done.accepted,
            }
        if done is not None or self.failed is not None:
            attributes |= {
                "spillway.cost_nanousd": self.cost.cost_nanousd,
                "spillway.escalations": self.execution_done.escalations,
                "spillway.fallbacks": self.execution_done.fallbacks,
            }
        if self.cache.similarity is not None:
            attributes["spillway.cache.similarity"] = self.cache.similarity
        for name in ("shared", "replayed"):
            if getattr(self, name):
                attributes[f"spillway.{name}"] = True
        if self.cost_unknown:
            attributes["spillway.cost_unknown"] = True
        return {name: value for name, value in attributes.items() if value != ""}

    def record(self) -> DecisionRecord:
        """The decision record as of now, which is taken as the time of the last byte."""
        request, done = self.request, self.completion
        prompt = request.chat.last_user_text
        return DecisionRecord(
            request_id=self.request_id,
            trace_id=self.trace_id,
            received_at_unix_s=self.received_at_unix_s,
            tenant=request.tenant,
            end_user_hash=end_user_hash(request.tenant, request.end_user),
            endpoint=request.endpoint,
            tags=request.tags,
            prompt_sha256=prompt_sha256(prompt),
            prompt_head=prompt[: self.configured.settings.orchestrator.prompt_head_chars],
            routing=self.routing,
            cache=self.cache,
            attempts=self.execution_done.attempts,
            cost=self.cost,
            tier=done.tier if done else "",
            target=done.target if done else "",
            accepted=done.accepted if done else False,
            status_code=self.status_code,
            error_reason=self.error_reason,
            latency_s=self.clock.monotonic() - self.started_s,
            hops=tuple(self.hops),
            config_version=self.configured.in_force,
            escalations=self.execution_done.escalations,
            fallbacks=self.execution_done.fallbacks,
            cost_unknown=self.cost_unknown,
            user_tier=request.user_tier,
            key_id=self.key_id,
            job_id=self.job_id,
            shared=self.shared,
            namespace=request.namespace,
        )


def _span(name: str) -> AbstractContextManager[object]:
    return telemetry.tracer().start_as_current_span(name, record_exception=False, set_status_on_exception=False)
