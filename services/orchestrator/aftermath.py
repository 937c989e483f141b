"""What follows an answer once it has left: the decision record, the store, what the classifier and the cache learn.

Promises: `finish` returns at once, and nothing here is ever waited for by the caller whose answer it was. Only
accepted, complete answers are stored; requests that wait for this one's answer get it when the cache has taken it, and
are let go when it has refused it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context

from services.orchestrator.audits import Auditor
from services.orchestrator.background import Background
from services.orchestrator.canary.canary import Canary
from services.orchestrator.canary.sample import sample_of
from services.orchestrator.decision_log import DecisionLog
from services.orchestrator.fresh_answer import fresh_answer
from services.orchestrator.hops import CacheHop
from services.orchestrator.ledger_reporter import LedgerReporter
from services.orchestrator.outcomes import OutcomeReporter, tier_outcomes
from services.orchestrator.run import Run
from services.runtime.logs import get_logger
from spillway.routing import Classification, Completion

__all__ = ["Aftermath"]

_log = get_logger(__name__)

# Nobody waits for a store but requests for the same answer; this keeps a cache that hangs from filling the background.
STORE_TIMEOUT_S = 2.0


class Aftermath:
    """Everything that follows answers. For one event loop."""

    def __init__(
        self,
        *,
        cache: CacheHop,
        background: Background,
        decision_log: DecisionLog | None,
        outcomes: OutcomeReporter,
        auditor: Auditor,
        reporter: LedgerReporter | None,
        canary: Canary | None,
        on_answer: Callable[[Classification | None, Completion | None], None],
    ) -> None:
        self._cache = cache
        self._background = background
        self._decision_log = decision_log
        self._outcomes = outcomes
        self._auditor = auditor
        self._reporter = reporter
        self._canary = canary
        self._on_answer = on_answer

    def finish(self, run: Run, *, context: Context | None = None) -> None:
        """To be called once the answer, or the error, has left. What it starts runs in `context`."""
        if run.replayed:
            return
        self._on_answer(run.classification, run.completion)
        if self._decision_log is not None or self._reporter is not None:
            record = run.record()
            if self._decision_log is not None:
                self._decision_log.offer(record)
            if self._reporter is not None:
                (context or copy_context()).run(self._reporter.offer, record)  # its batch is linked with the request
        if not (run.storable and self._background.spawn("store", lambda: self._store(run), context=context)):
            _leave(run)
        proven = tier_outcomes(run.cluster, run.execution_done.attempts)
        (context or copy_context()).run(self._outcomes.offer, proven)
        if run.audit and run.status_code == 0:
            self._auditor.offer(run, context)
        sample = sample_of(run, run.configured.settings) if self._canary is not None else None
        if self._canary is not None and sample is not None:
            self._canary.offer(sample, context)

    async def _store(self, run: Run) -> None:
        execution, token = run.execution, run.store_token
        if execution is None or token is None:
            return
        answer, seat = fresh_answer(execution), run.seat
        if seat is not None:
            seat.offer()
        held_s = run.configured.settings.orchestrator.cache_timeout_s
        # A cache that is slow or away holds nobody up for longer than a lookup of it would have.
        patience = asyncio.get_running_loop().call_later(held_s, seat.release) if seat else None
        try:
            result = await self._cache.store(
                run.query(run.embedding),
                answer,
                ttl_s=run.request.options.cache_ttl_s,
                tags=run.request.tags,
                token=token,
                timeout_s=STORE_TIMEOUT_S,
            )
            if seat is not None and result.outcome == "stored":
                seat.land(answer)
            elif seat is not None and result.is_overtaken:
                seat.leave(in_vain=True)
            elif seat is not None:
                # It may not be shared or nobody knows, and so it would be with the next one's: nobody waits for that.
                seat.release()
        finally:
            if patience is not None:
                patience.cancel()
            _leave(run)
        if result.outcome != "stored":
            _log.debug("answer_not_stored", outcome=result.outcome, reason=result.reason, request_id=run.request_id)


def _leave(run: Run) -> None:
    if run.seat is not None:
        run.seat.leave()
