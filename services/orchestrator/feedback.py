"""Feedback: what a person made of an answer, kept by the ledger, and what is learned from it.

Promises: `send` returns once the ledger has kept the feedback, and raises when it has not, before anything was spent.
What is told to the classifier and the cache is told in the background, each opinion once, whichever comes first, the
feedback or its decision. With a retry the flagship answers the request again, past the cache and within the caller's
own limits, and its answer takes the place of the one that was found there, unless the caller keeps away from the cache.
Who was answered by meaning got another question's answer: their thumbs say
something of the cache, and nothing of the tier; and nothing of another answer that took that one's place meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol
from uuid import uuid4

from services.orchestrator.background import Background
from services.orchestrator.hops import CacheHop, CacheQuery, ClassifierHop, Judgement
from services.orchestrator.ledger_hop import Decided, LedgerHop
from services.orchestrator.outcomes import OutcomeReporter
from services.orchestrator.record import prompt_sha256
from services.runtime.clock import Clock
from services.runtime.errors import SpillwayError
from spillway.chat import FinishReason
from spillway.routing import (
    CachedAnswer,
    CacheKind,
    CacheMode,
    Completion,
    CompletionRequest,
    Feedback,
    FeedbackKind,
    OutcomeSource,
    TierOutcome,
)

__all__ = ["FeedbackDesk", "opinion_of"]

# A person waits for it.
RECORD_TIMEOUT_S: Final = 2.0
# A decision is in the ledger within a second or so; who is that quick with their thumbs is rare.
DECISION_AFTER_S: Final = (2.0, 10.0)
CLASSIFY_TIMEOUT_S: Final = 2.0
EVIDENCE_TIMEOUT_S: Final = 2.0
# The retry waits for it, and a person for that.
LOOKUP_TIMEOUT_S: Final = 0.1
# What was told of whom: against a thumb that is pressed again and again. About 2 MB.
TOLD_MAX: Final = 10_000

_OPINIONS: Final = {
    FeedbackKind.THUMBS_UP: True,
    FeedbackKind.ACCEPTED: True,
    FeedbackKind.THUMBS_DOWN: False,
    FeedbackKind.REGENERATED: False,
    FeedbackKind.COMPLAINT: False,
}


class Answer(Protocol):
    """Answers a request for the holder of a key, empty without keys. Raises SpillwayError."""

    async def __call__(self, request: CompletionRequest, /, *, key_id: str) -> Completion: ...


def opinion_of(kind: FeedbackKind) -> bool | None:
    """Whether it says that the answer was good enough; None for an edit, which may be of one letter or of all."""
    return _OPINIONS.get(kind)


class FeedbackDesk:
    """The use case behind SendFeedback. For one event loop."""

    def __init__(
        self,
        ledger: LedgerHop,
        *,
        flagship: Callable[[], str],
        answer: Answer,
        outcomes: OutcomeReporter,
        classifier: ClassifierHop,
        cache: CacheHop,
        clock: Clock,
        background: Background,
    ) -> None:
        """`flagship` names the target that answers retries, now; `answer` is asked with their requests."""
        self._ledger = ledger
        self._flagship = flagship
        self._answer = answer
        self._outcomes = outcomes
        self._classifier = classifier
        self._cache = cache
        self._clock = clock
        self._background = background
        self._told: OrderedDict[tuple[str, str, bool], None] = OrderedDict()

    async def send(self, feedback: Feedback, key_id: str = "") -> Completion | None:
        """Keeps the feedback, which has been checked; the flagship's answer when a retry was asked for.

        Raises SpillwayError: of the ledger when the feedback was not kept, of the retry when that failed.
        """
        feedback_id, received_at_unix_s = uuid4().hex, self._clock.unix()
        decided = await self._keep(feedback, feedback_id, received_at_unix_s)
        retried: Completion | None = None
        token = await self._store_token(feedback)
        try:
            if feedback.retry is not None:
                retried = await self._answer(self._again(feedback, feedback.retry), key_id=key_id)
        finally:
            self._background.spawn(
                "feedback", lambda: self._learn(feedback, feedback_id, received_at_unix_s, decided, retried, token)
            )
        return retried

    async def _store_token(self, feedback: Feedback) -> str | None:
        """What the cache has to hear again with the retry's answer; None: it is not told of one, or said nothing."""
        retry = feedback.retry
        if retry is None or retry.options.cache_mode is CacheMode.BYPASS:
            return None
        query = _query(feedback, retry)
        reply = await self._cache.lookup(query, skip_exact=False, peek=True, timeout_s=LOOKUP_TIMEOUT_S)
        return reply.store_token or None

    def _again(self, feedback: Feedback, retry: CompletionRequest) -> CompletionRequest:
        is_bypassed = retry.options.cache_mode is CacheMode.BYPASS
        options = replace(
            retry.options,
            strategy=None,
            pinned_target=self._flagship(),
            cache_mode=CacheMode.BYPASS if is_bypassed else CacheMode.REFRESH,
        )
        return replace(retry, request_id="", tenant=feedback.tenant, options=options)

    async def _keep(self, feedback: Feedback, feedback_id: str, received_at_unix_s: float) -> Decided | None:
        return await self._ledger.record_feedback(
            replace(feedback, retry=None),
            feedback_id=feedback_id,
            received_at_unix_s=received_at_unix_s,
            timeout_s=RECORD_TIMEOUT_S,
        )

    async def _learn(
        self,
        feedback: Feedback,
        feedback_id: str,
        received_at_unix_s: float,
        decided: Decided | None,
        retried: Completion | None,
        token: str | None,
    ) -> None:
        for pause_s in DECISION_AFTER_S:
            if decided is not None:
                break
            await self._clock.sleep(pause_s)
            try:  # the same feedback again: it is kept once, and says what is known by now
                decided = await self._keep(feedback, feedback_id, received_at_unix_s)
            except SpillwayError:
                continue
        good = opinion_of(feedback.kind)
        if decided is None or good is None or not self._first(feedback, good=good):
            return
        if decided.cache_kind is not CacheKind.SEMANTIC_HIT:
            if decided.cluster and decided.tier:
                self._outcomes.offer([TierOutcome(decided.cluster, decided.tier, good, OutcomeSource.FEEDBACK)])
        elif feedback.retry is not None and retried is not None and token is not None:
            await self._tell_cache(feedback, feedback.retry, decided, retried, token)

    def _first(self, feedback: Feedback, *, good: bool) -> bool:
        """Whether this opinion of this answer is new."""
        key = (feedback.tenant, feedback.request_id, good)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return True

    async def _tell_cache(
        self, feedback: Feedback, retry: CompletionRequest, decided: Decided, retried: Completion, token: str
    ) -> None:
        """The flagship's answer to the same request: evidence about the entry that had been served."""
        if not retried.accepted or retried.finish_reason is not FinishReason.STOP or not decided.cache_entry_key:
            return
        if prompt_sha256(retry.chat.last_user_text) != decided.prompt_sha256:  # it is not the same request
            return
        judged = await self._classifier.classify(retry.chat, want_embedding=True, timeout_s=CLASSIFY_TIMEOUT_S)
        if not isinstance(judged, Judgement) or judged.embedding is None:
            return
        query = replace(_query(feedback, retry), embedding=judged.embedding, task_type=judged.classification.task_type)
        fresh = CachedAnswer(
            message=retried.message,
            finish_reason=retried.finish_reason,
            tier=retried.tier,
            target=retried.target,
            model=retried.model,
            usage=retried.usage,
            cost_nanousd=retried.cost.cost_nanousd,
            accepted=True,
        )
        await self._cache.record_evidence(
            query,
            decided.cache_entry_key,
            fresh,
            ttl_s=retry.options.cache_ttl_s,
            tags=retry.tags,
            token=token,
            answer_version=decided.answer_version,
            timeout_s=EVIDENCE_TIMEOUT_S,
        )


def _query(feedback: Feedback, retry: CompletionRequest) -> CacheQuery:
    return CacheQuery(
        tenant=feedback.tenant,
        namespace=retry.namespace,
        template_version=retry.template_version,
        knowledge_version=retry.knowledge_version,
        chat=retry.chat,
    )
