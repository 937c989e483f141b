"""What is asked before the policy decides: the cache exactly, the classifier, the cache by meaning.

Promises: the cache and the classifier may fail in any way without failing a request (the run says that they were done
without). Every hop gets the smaller of its own limit and the time that remains. An answer from the cache is served only
when the route would have allowed its tier and target, and its gates gave it the score that is asked for. A request is
judged, and its text embedded, at most once, and not at all for an exact hit that no judged rule could forbid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from services.orchestrator.disclosure import SHARED
from services.orchestrator.flights import Flights, flight_key
from services.orchestrator.hops import CacheHop, CacheReply, ClassifierHop, Unanswered
from services.orchestrator.policy.opening import NoEligibleTargetError, Opening
from services.orchestrator.policy.rollout import Arm
from services.orchestrator.policy.rough import rough_classification
from services.orchestrator.run import Run
from services.orchestrator.users import UserCounter
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition
from services.runtime.logs import get_logger
from spillway.chat import Embedding
from spillway.routing import CachedAnswer, CacheKind, CacheMode, CacheOutcome

__all__ = ["Front", "refusals"]

_log = get_logger(__name__)

# A request waits for another one that is the same for at most this share of its time, and has the rest for itself.
SHARED_WAIT = 0.5


@contextmanager
def refusals() -> Iterator[None]:
    """The policy's refusals, as errors for the caller."""
    try:
        yield
    except NoEligibleTargetError as refused:
        raise FailedPrecondition("NO_ELIGIBLE_TARGET", refused.public, detail=refused.detail) from refused


class Front:
    """The lookups and the judgement of requests. For one event loop; requests run side by side."""

    def __init__(
        self,
        *,
        cache: CacheHop,
        classifier: ClassifierHop,
        users: UserCounter,
        clock: Clock,
        flights: Flights,
    ) -> None:
        self._cache = cache
        self._classifier = classifier
        self._users = users
        self._clock = clock
        self._flights = flights
        self._down: set[str] = set()

    async def pass_through(self, run: Run, *, peek: bool = False) -> tuple[CachedAnswer | None, Opening]:
        """Everything up to the policy: an answer that is there already, or none and a run with all that it needs.

        `peek`: it is only asked what would be done. Then it waits for no request that is the same, nor they for it, and
        its lookups count nowhere.
        """
        opening = await self._judged_first(run, self._open(run))
        if opening.needs_user:
            opening = await self._judged_first(run, await self._with_user(run, peek=peek))
        run.cache_mode = opening.cache_mode
        hit: CachedAnswer | None = None
        if run.cache_mode is CacheMode.USE:
            if not peek:
                run.seat = self._flights.board(flight_key(run.request, run.configured.version))
            hit = await self._look_up(run, opening, "cache.exact", peek=peek)
        else:
            run.cache = CacheOutcome(CacheKind.BYPASS, reason=_why_not_looked(run, opening))
            if run.cache_mode is CacheMode.REFRESH and not peek:
                await self._mark(run)
        if hit is not None:
            return hit, opening
        wants_embedding = bool(run.configured.semantic_task_types) and (
            run.cache_mode is CacheMode.REFRESH or run.cache.kind is CacheKind.MISS
        )
        if opening.needs_judgement or wants_embedding:
            await self.judge(run, want_embedding=wants_embedding)
            opening = self._open(run)
        if run.cache.kind is CacheKind.MISS and run.embedding and run.task_type in run.configured.semantic_task_types:
            hit = await self._look_up(run, opening, "cache.semantic", run.embedding, peek=peek)
        if hit is None:
            hit = await self._share(run, opening)
        return hit, opening

    async def judge(self, run: Run, *, want_embedding: bool) -> None:
        """Asks the classifier, once; without its answer a rough judgement has to do."""
        if run.judged:
            return
        run.judged = True
        timeout_s = min(run.remaining_s, run.configured.settings.orchestrator.classifier_timeout_s)
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

    async def _judged_first(self, run: Run, opening: Opening) -> Opening:
        """The opening, with the judgement that has to come before the first lookup."""
        if not opening.judge_first:
            return opening
        await self.judge(run, want_embedding=bool(run.configured.semantic_task_types))
        return self._open(run)

    async def _with_user(self, run: Run, *, peek: bool) -> Opening:
        """The opening, knowing how many messages the end user sent before; this one counts unless it is a peek."""
        request = run.request
        with run.hop("users"):
            count = await self._users.seen(request.tenant, request.end_user, peek=peek)
        if count is None:
            run.do_without("users")
        run.state = replace(run.state, user_messages=count)
        return self._open(run)

    def _open(self, run: Run) -> Opening:
        with refusals():
            return run.configured.policy.open(run.request, run.classification, run.state)

    async def _look_up(
        self, run: Run, opening: Opening, hop: str, embedding: Embedding | None = None, *, peek: bool
    ) -> CachedAnswer | None:
        """Asks the cache: exactly, or by meaning with an embedding."""
        timeout_s = min(run.remaining_s, run.configured.settings.orchestrator.cache_timeout_s)
        with run.hop(hop):
            reply = await self._cache.lookup(
                run.query(embedding), skip_exact=embedding is not None, peek=peek, timeout_s=timeout_s
            )
        run.cache = reply.outcome
        _keep_token(run, reply)
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
        run.audit = reply.audit and run.cache.kind is CacheKind.SEMANTIC_HIT
        return reply.answer

    async def _mark(self, run: Run) -> None:
        """Asks the cache which moment this is, for an answer that will be stored although none was looked for."""
        timeout_s = min(run.remaining_s, run.configured.settings.orchestrator.cache_timeout_s)
        with run.hop("cache.exact"):
            reply = await self._cache.lookup(run.query(None), skip_exact=False, peek=True, timeout_s=timeout_s)
        _keep_token(run, reply)

    async def _share(self, run: Run, opening: Opening) -> CachedAnswer | None:
        """The answer of a request that is the same, was under way when this one came, and has been stored."""
        seat = run.seat
        if seat is None:
            return None
        # While the cache is away, and of what is never cached, nobody leads, since nobody's answer would be taken; but
        # one lookup that was too slow is no reason for a call of its own.
        waited = seat.must_wait(may_lead=run.cache.kind is CacheKind.MISS)
        if waited:
            with run.hop("shared"), telemetry.tracer().start_as_current_span("shared"):
                await seat.wait(self._clock, run.remaining_s * SHARED_WAIT)
        answer = seat.answer
        if waited and seat.leads:  # another's was not to be had, perhaps because of an invalidation since the lookup
            run.store_token = None
        # The two were judged each for itself, one perhaps without the classifier, and rules may look at that.
        elif answer is None or opening.objection(answer.tier, answer.target, answer.score):
            return None
        elif not seat.is_late:
            run.cache = CacheOutcome(CacheKind.EXACT_HIT, reason=SHARED)
            run.shared = True
            return answer
        # What was stored in the meantime, or still stands, only the cache knows.
        return await self._look_up(run, opening, "cache.exact", peek=False)

    def _note_outage(self, service: str, reason: str) -> None:
        """Logs an optional service's going (with a reason) and its coming back, not every request in between."""
        if reason and service not in self._down:
            self._down.add(service)
            _log.warning("done_without", hop=service, reason=reason)
        elif not reason and service in self._down:
            self._down.discard(service)
            _log.info("answers_again", hop=service)


def _keep_token(run: Run, reply: CacheReply) -> None:
    if run.store_token is None and reply.store_token:
        run.store_token = reply.store_token


def _why_not_looked(run: Run, opening: Opening) -> str:
    if not run.configured.settings.cache.enabled:
        return "the cache is switched off"
    if run.request.options.cache_mode is run.cache_mode:
        return f"the request says {run.cache_mode}"
    if opening.arm == Arm.BASELINE:
        return "the baseline of the rollout has no cache"
    return f"a rule says {run.cache_mode}"
