"""The life of a request: exact lookup, judgement, semantic lookup, policy, execution; and what follows the answer.

    begin ─► complete | stream | explain ─► the answer leaves ─► finish

Promises: the cache and the classifier may fail in any way without failing a request (the run says that they were done
without); only the executor's errors, a route that leaves no target, and the deadline reach the caller. Every hop gets
the smaller of its own limit and the time that remains. An answer from the cache is served only when the route would
have allowed its tier and target, and its gates gave it the score that is asked for. Nothing is stored and nothing
recorded before `finish`, which returns at once. A cancelled caller cancels the hop under way, and nothing of its
request is stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import Context
from dataclasses import replace
from uuid import uuid4

from services.orchestrator.background import Background
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.hops import (
    CachedAnswer,
    CacheHop,
    CacheQuery,
    ClassifierHop,
    ExecutorHop,
    Unanswered,
)
from services.orchestrator.opening import NoEligibleTargetError, Opening
from services.orchestrator.policy import Policy, Routed
from services.orchestrator.rough import rough_classification
from services.orchestrator.run import Run
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Internal
from services.runtime.logs import get_logger
from spillway.chat import Embedding
from spillway.routing import (
    AnswerDelta,
    AttemptOutcome,
    CacheKind,
    CacheMode,
    CacheOutcome,
    Completion,
    CompletionRequest,
    Execution,
    Explanation,
    Plan,
    RoutingDecision,
    Verdict,
)
from spillway.settings import Settings

__all__ = ["Pipeline"]

_log = get_logger(__name__)

# What remains of the caller's time is passed on less this, so that the executor's own answer to a deadline arrives.
ANSWER_MARGIN_S = 0.02
# Nobody waits for a store; this only keeps a cache that hangs from filling the background.
STORE_TIMEOUT_S = 2.0


class Pipeline:
    """The use case of the service. For one event loop; its requests run side by side."""

    def __init__(
        self,
        settings: Settings,
        *,
        config_version: str,
        cache: CacheHop,
        classifier: ClassifierHop,
        executor: ExecutorHop,
        clock: Clock,
        background: Background,
        decision_log: DecisionLog | None,
    ) -> None:
        self._settings = settings
        self._policy = Policy(settings)
        self._config_version = config_version
        self._cache = cache
        self._classifier = classifier
        self._executor = executor
        self._clock = clock
        self._background = background
        self._decision_log = decision_log
        self._flagship = settings.flagship_target
        self._down: set[str] = set()
        self._semantic_task_types = frozenset(settings.cache.semantic_task_types if settings.cache.semantic else ())

    def begin(self, request: CompletionRequest, *, remaining_s: float, trace_id: str = "") -> Run:
        """A run for a request that came in now and whose caller waits for `remaining_s`."""
        now_s = self._clock.monotonic()
        return Run(
            request=request,
            request_id=request.request_id or uuid4().hex,
            clock=self._clock,
            started_s=now_s,
            received_at_unix_s=self._clock.unix(),
            deadline_s=now_s + remaining_s,
            trace_id=trace_id,
        )

    async def complete(self, run: Run) -> Completion:
        """The answer. Raises SpillwayError."""
        with run.ending():
            hit, opening = await self._front(run)
            if hit is not None:
                return self._answer_from_cache(run, opening, hit)
            plan = self._decide(run)
            timeout_s = self._executor_timeout_s(run)
            with run.hop("executor"), run.executing():
                execution = await self._executor.execute(
                    run.request.chat, plan, task_type=run.task_type, timeout_s=timeout_s
                )
            return run.answered(execution, self._flagship)

    async def stream(self, run: Run) -> AsyncGenerator[AnswerDelta | Completion, None]:
        """The answer piece by piece, and the Completion last. Raises SpillwayError."""
        with run.ending():
            hit, opening = await self._front(run)
            if hit is not None:
                completion = self._answer_from_cache(run, opening, hit)
                yield AnswerDelta(hit.message.text, hit.message.tool_calls)
                yield completion
                return
            plan = self._decide(run)
            timeout_s = self._executor_timeout_s(run)
            with run.hop("executor"), run.executing():
                events = self._executor.stream(run.request.chat, plan, task_type=run.task_type, timeout_s=timeout_s)
                execution: Execution | None = None
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, Execution):
                            execution = event
                        else:
                            yield event
            if execution is None:
                raise Internal(detail="the executor's stream had no end")
            yield run.answered(execution, self._flagship)

    async def explain(self, run: Run) -> Explanation:
        """What would be done, with no model called and nothing stored. Raises SpillwayError."""
        with run.ending():
            _, opening = await self._front(run)
            if opening.needs_judgement:
                await self._judge(run, want_embedding=False)
            routed = self._route(run)
            return Explanation(routing=run.routing, cache=run.cache, rules=routed.trials)

    def finish(self, run: Run, *, context: Context | None = None) -> None:
        """To be called once the answer, or the error, has left: offers the record, and stores in the background.

        `context` is the one to store in, so that the store belongs to the request's trace.
        """
        if self._decision_log is not None:
            head = self._settings.orchestrator.prompt_head_chars
            self._decision_log.offer(run.record(prompt_head_chars=head, config_version=self._config_version))
        if run.storable:
            self._background.spawn("store", lambda: self._store(run), context=context)

    async def _front(self, run: Run) -> tuple[CachedAnswer | None, Opening]:
        """Everything up to the policy: a cached answer, or none and a run with all that the policy needs."""
        opening = self._open(run)
        if opening.judge_first:
            await self._judge(run, want_embedding=bool(self._semantic_task_types))
            opening = self._open(run)
        run.cache_mode = opening.cache_mode
        hit: CachedAnswer | None = None
        if run.cache_mode is CacheMode.USE:
            hit = await self._look_up(run, opening, "cache.exact")
        else:
            run.cache = CacheOutcome(CacheKind.BYPASS, reason=self._why_not_looked(run))
        if hit is not None:
            return hit, opening
        wants_embedding = bool(self._semantic_task_types) and (
            run.cache_mode is CacheMode.REFRESH or run.cache.kind is CacheKind.MISS
        )
        if opening.needs_judgement or wants_embedding:
            await self._judge(run, want_embedding=wants_embedding)
            opening = self._open(run)
        if run.cache.kind is CacheKind.MISS and run.embedding and run.task_type in self._semantic_task_types:
            hit = await self._look_up(run, opening, "cache.semantic", run.embedding)
        return hit, opening

    def _open(self, run: Run) -> Opening:
        with _refusals():
            return self._policy.open(run.request, run.classification)

    def _why_not_looked(self, run: Run) -> str:
        if not self._settings.cache.enabled:
            return "the cache is switched off"
        asked = run.request.options.cache_mode is run.cache_mode
        return f"{'the request' if asked else 'a rule'} says {run.cache_mode}"

    async def _judge(self, run: Run, *, want_embedding: bool) -> None:
        """Asks the classifier, once; without its answer a rough judgement has to do."""
        if run.judged:
            return
        run.judged = True
        timeout_s = min(run.remaining_s, self._settings.orchestrator.classifier_timeout_s)
        with run.hop("classifier"):
            judgement = await self._classifier.classify(
                run.request.chat, want_embedding=want_embedding, timeout_s=timeout_s
            )
        if isinstance(judgement, Unanswered):
            self._note_outage("classifier", judgement.reason)
            run.do_without("classifier")
            run.classification = rough_classification(run.request.chat)
        else:
            self._note_outage("classifier", "")
            run.classification, run.embedding = judgement.classification, judgement.embedding

    async def _look_up(
        self, run: Run, opening: Opening, hop: str, embedding: Embedding | None = None
    ) -> CachedAnswer | None:
        """Asks the cache: exactly, or by meaning with an embedding."""
        timeout_s = min(run.remaining_s, self._settings.orchestrator.cache_timeout_s)
        with run.hop(hop):
            reply = await self._cache.lookup(
                _query(run, embedding), skip_exact=embedding is not None, timeout_s=timeout_s
            )
        run.cache = reply.outcome
        down = run.cache.kind is CacheKind.UNAVAILABLE
        self._note_outage("cache", (run.cache.reason or "unavailable") if down else "")
        if down:
            run.do_without("cache")
        if reply.answer is None:
            return None
        objection = opening.objection(reply.answer.tier, reply.answer.target, reply.answer.score)
        if objection:
            run.cache = CacheOutcome(CacheKind.MISS, reason=objection)
            return None
        return reply.answer

    def _note_outage(self, service: str, reason: str) -> None:
        """Logs an optional service's going (with a reason) and its coming back, not every request in between."""
        if reason and service not in self._down:
            self._down.add(service)
            _log.warning("done_without", hop=service, reason=reason)
        elif not reason and service in self._down:
            self._down.discard(service)
            _log.info("answers_again", hop=service)

    def _route(self, run: Run) -> Routed:
        with run.hop("policy"), _refusals():
            routed = self._policy.decide(run.request, run.classification)
        run.routing = replace(routed.decision, degraded=tuple(run.degraded))
        return routed

    def _decide(self, run: Run) -> Plan:
        plan = self._route(run).decision.plan
        if plan is None:
            raise Internal(detail="a decision without a plan")
        return plan

    def _executor_timeout_s(self, run: Run) -> float:
        timeout_s = run.remaining_s - ANSWER_MARGIN_S
        if timeout_s <= 0:
            raise DeadlineExceeded(detail="no time left for the executor")
        return timeout_s

    def _answer_from_cache(self, run: Run, opening: Opening, hit: CachedAnswer) -> Completion:
        run.routing = RoutingDecision(
            policy_step=opening.step,
            reason="answered from the cache",
            rule=opening.rule_name,
            classification=run.classification,
            degraded=tuple(run.degraded),
        )
        return run.answered_from_cache(hit, self._flagship)

    async def _store(self, run: Run) -> None:
        execution = run.execution
        if execution is None:
            return
        answer = CachedAnswer(
            message=execution.message,
            finish_reason=execution.finish_reason,
            tier=execution.tier,
            target=execution.target,
            model=execution.model,
            usage=execution.usage,
            cost_nanousd=run.cost.cost_nanousd,
            accepted=execution.accepted,
            score=_least_score(execution),
        )
        result = await self._cache.store(
            _query(run, run.embedding),
            answer,
            ttl_s=run.request.options.cache_ttl_s,
            tags=run.request.tags,
            timeout_s=STORE_TIMEOUT_S,
        )
        if result.outcome != "stored":
            _log.debug("answer_not_stored", outcome=result.outcome, reason=result.reason, request_id=run.request_id)


def _query(run: Run, embedding: Embedding | None) -> CacheQuery:
    request = run.request
    return CacheQuery(
        tenant=request.tenant,
        namespace=request.namespace,
        template_version=request.template_version,
        knowledge_version=request.knowledge_version,
        chat=request.chat,
        embedding=embedding,
        task_type=run.task_type,
    )


def _least_score(execution: Execution) -> float | None:
    """The least score of the gates that the answer passed; None when none of them gives scores."""
    answering = [
        attempt
        for attempt in execution.attempts
        if attempt.outcome is AttemptOutcome.ACCEPTED and attempt.target == execution.target
    ]
    verdicts = answering[-1].verdicts if answering else ()
    passed = [verdict.score for verdict in verdicts if verdict.verdict is Verdict.PASS and verdict.score is not None]
    return min(passed, default=None)


@contextmanager
def _refusals() -> Iterator[None]:
    """The policy's refusals, as errors for the caller."""
    try:
        yield
    except NoEligibleTargetError as refused:
        raise FailedPrecondition("NO_ELIGIBLE_TARGET", refused.public, detail=refused.detail) from refused
