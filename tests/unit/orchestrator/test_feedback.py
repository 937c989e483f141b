"""What a person made of an answer: kept, learned from, and answered again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from services.orchestrator.background import Background
from services.orchestrator.feedback import DECISION_AFTER_S, FeedbackDesk
from services.orchestrator.hops import Judgement, Unanswered
from services.orchestrator.ledger_hop import Decided, FakeLedger, Receipt
from services.orchestrator.outcomes import OutcomeReporter
from services.orchestrator.record import prompt_sha256
from services.runtime.clock import FakeClock
from services.runtime.errors import SpillwayError, Unavailable
from spillway.routing import (
    CacheKind,
    CacheMode,
    Completion,
    CompletionRequest,
    CostSummary,
    Feedback,
    FeedbackKind,
    OutcomeSource,
    RoutingOptions,
    TierOutcome,
)
from tests.support.jobs_parts import completion
from tests.unit.orchestrator.fakes import EMBEDDING, FakeCache, FakeClassifier
from tests.unit.orchestrator.ladder import judged, request_of

DECIDED = Decided(
    prompt_sha256=prompt_sha256("Why?"),
    cluster="c/1",
    tier="simple",
    target="s",
    accepted=True,
    cache_kind=CacheKind.MISS,
)
HIT = replace(DECIDED, cache_kind=CacheKind.SEMANTIC_HIT, cache_entry_key="entry", answer_version="as served")
DOWN = Feedback("r1", "acme", FeedbackKind.THUMBS_DOWN)


def completed(*, accepted: bool = True) -> Completion:
    return completion("Because.", "again", accepted=accepted, tier="complex", target="flagship", cost=CostSummary(500))


@dataclass
class Desk:
    clock: FakeClock = field(default_factory=FakeClock)
    ledger: FakeLedger = field(default_factory=lambda: FakeLedger(knows=DECIDED))
    answers: Completion | SpillwayError = field(default_factory=completed)
    asked: list[CompletionRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.classifier = FakeClassifier(self.clock, says=Judgement(judged(), EMBEDDING))
        self.cache = FakeCache(self.clock)
        self.background = Background(10)
        self.outcomes = OutcomeReporter(self.classifier, self.clock)
        self.desk = FeedbackDesk(
            self.ledger,
            flagship=lambda: "flagship",
            answer=self.answer,
            outcomes=self.outcomes,
            classifier=self.classifier,
            cache=self.cache,
            clock=self.clock,
            background=self.background,
        )

    async def answer(self, request: CompletionRequest, /, *, key_id: str) -> Completion:
        self.asked.append(request)
        if isinstance(self.answers, SpillwayError):
            raise self.answers
        return self.answers

    async def learned(self) -> list[TierOutcome]:
        await self.background.close(20)
        await self.outcomes.close(20)
        return [outcome for batch in self.classifier.told for outcome in batch]


@pytest.mark.parametrize(
    ("kind", "sufficed"),
    [
        (FeedbackKind.THUMBS_UP, True),
        (FeedbackKind.ACCEPTED, True),
        (FeedbackKind.THUMBS_DOWN, False),
        (FeedbackKind.REGENERATED, False),
        (FeedbackKind.COMPLAINT, False),
        (FeedbackKind.EDITED, None),
    ],
)
async def test_feedback_is_kept_and_what_it_says_of_the_tier_is_told(kind: FeedbackKind, sufficed: bool | None) -> None:
    desk = Desk()
    given = replace(DOWN, kind=kind, comment="hm")
    assert await desk.desk.send(given) is None
    assert [feedback for _, feedback in desk.ledger.feedback] == [given]
    said = [] if sufficed is None else [TierOutcome("c/1", "simple", sufficed, OutcomeSource.FEEDBACK)]
    assert await desk.learned() == said
    assert desk.asked == []


async def test_feedback_that_is_not_kept_is_an_error_and_nothing_is_spent() -> None:
    desk = Desk()
    desk.ledger.says = Receipt.AWAY
    with pytest.raises(Unavailable):
        await desk.desk.send(replace(DOWN, retry=request_of("Why?")))
    assert desk.asked == []
    assert await desk.learned() == []


async def test_a_retry_is_answered_by_the_flagship_past_the_cache_and_for_the_tenant_of_the_feedback() -> None:
    desk = Desk()
    retry = replace(
        request_of("Why?"), request_id="r1", tenant="somebody", options=RoutingOptions(pinned_target="other")
    )
    assert await desk.desk.send(replace(DOWN, retry=retry)) == desk.answers
    (asked,) = desk.asked
    assert (asked.tenant, asked.request_id, asked.chat) == ("acme", "", retry.chat)
    assert asked.options == RoutingOptions(pinned_target="flagship", cache_mode=CacheMode.REFRESH)
    assert desk.ledger.feedback[0][1].retry is None
    assert [outcome.sufficed for outcome in await desk.learned()] == [False]


async def test_a_retry_keeps_the_limits_that_its_caller_set() -> None:
    desk = Desk(ledger=FakeLedger(knows=HIT))
    limits = RoutingOptions(
        tier_floor="medium",
        tier_ceiling="complex",
        confidence_min=0.9,
        cost_nanousd_max=1_000,
        cache_mode=CacheMode.BYPASS,
    )
    await desk.desk.send(replace(DOWN, retry=replace(request_of("Why?"), options=limits)))
    (asked,) = desk.asked
    assert asked.options == replace(limits, pinned_target="flagship")
    await desk.learned()
    assert desk.cache.evidence == [], "who keeps away from the cache leaves nothing in it"


async def test_a_retry_that_fails_says_so_and_the_feedback_counts_all_the_same() -> None:
    desk = Desk(answers=Unavailable())
    with pytest.raises(Unavailable):
        await desk.desk.send(replace(DOWN, retry=request_of("Why?")))
    assert len(desk.ledger.feedback) == 1
    assert [outcome.sufficed for outcome in await desk.learned()] == [False]


async def test_thumbs_about_an_answer_found_by_meaning_say_nothing_of_its_tier() -> None:
    desk = Desk(ledger=FakeLedger(knows=HIT))
    await desk.desk.send(DOWN)
    assert await desk.learned() == []
    assert desk.cache.evidence == []


async def test_the_flagships_answer_is_evidence_about_the_entry_that_was_served() -> None:
    desk = Desk(ledger=FakeLedger(knows=HIT))
    desk.cache.exact = replace(desk.cache.exact, store_token="before the retry")
    retry = replace(request_of("Why?", cache_ttl_s=5.0), namespace="n", tags=("doc-B",))
    await desk.desk.send(replace(DOWN, retry=retry))
    assert await desk.learned() == []
    ((query, entry_key, fresh),) = desk.cache.evidence
    assert (query.tenant, query.namespace, query.chat, query.embedding) == ("acme", "n", retry.chat, EMBEDDING)
    assert (entry_key, fresh.message.text, fresh.cost_nanousd) == ("entry", "Because.", 500)
    assert (desk.cache.tokens, desk.cache.peeks) == (["before the retry"], 1)
    assert desk.cache.evidence_kept == [(5.0, ("doc-B",))]
    assert desk.cache.versions == ["as served"]


@pytest.mark.parametrize("what", ["another prompt", "not accepted", "no embedding"])
async def test_what_is_no_evidence_is_not_told_as_one(what: str) -> None:
    desk = Desk(ledger=FakeLedger(knows=HIT), answers=completed(accepted=what != "not accepted"))
    if what == "no embedding":
        desk.classifier.says = Unanswered("away")
    await desk.desk.send(replace(DOWN, retry=request_of("How?" if what == "another prompt" else "Why?")))
    await desk.learned()
    assert desk.cache.evidence == []


async def test_feedback_that_comes_before_its_decision_is_learned_from_once_that_is_there() -> None:
    desk = Desk(ledger=FakeLedger(knows=None))
    await desk.desk.send(DOWN)
    for pause_s in DECISION_AFTER_S:
        for _ in range(10):
            await asyncio.sleep(0)
        assert desk.classifier.told == []
        desk.ledger.knows = DECIDED
        desk.clock.advance(pause_s)
    assert [outcome.sufficed for outcome in await desk.learned()] == [False]
    assert len({feedback_id for feedback_id, _ in desk.ledger.feedback}) == 1


async def test_the_same_opinion_again_is_kept_but_counts_once() -> None:
    desk = Desk()
    for kind in (FeedbackKind.THUMBS_DOWN, FeedbackKind.COMPLAINT, FeedbackKind.THUMBS_DOWN, FeedbackKind.THUMBS_UP):
        await desk.desk.send(replace(DOWN, kind=kind))
    assert len({feedback_id for feedback_id, _ in desk.ledger.feedback}) == 4
    assert [outcome.sufficed for outcome in await desk.learned()] == [False, True]


@pytest.mark.parametrize("decided", [replace(DECIDED, cluster=""), replace(DECIDED, tier="")])
async def test_without_a_cluster_or_an_answer_there_is_nothing_to_tell(decided: Decided) -> None:
    desk = Desk(ledger=FakeLedger(knows=decided))
    await desk.desk.send(DOWN)
    assert await desk.learned() == []
