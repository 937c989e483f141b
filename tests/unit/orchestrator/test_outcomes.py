"""How answers turned out: what counts, and how the classifier is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.orchestrator.hops import ExecutionError, Judgement
from services.orchestrator.outcomes import BATCH_MAX, FLUSH_S, QUEUED_MAX, OutcomeReporter, tier_outcomes
from services.runtime.clock import FakeClock
from services.runtime.errors import SpillwayError, Unavailable
from spillway.routing import (
    Attempt,
    AttemptOutcome,
    AttemptPurpose,
    CacheKind,
    CacheMode,
    FailedExecution,
    GateVerdict,
    OutcomeSource,
    TierOutcome,
    Verdict,
)
from tests.unit.orchestrator.fakes import Bench, FakeClassifier, cached, executed
from tests.unit.orchestrator.ladder import judged, request_of

ACCEPTED, REJECTED = AttemptOutcome.ACCEPTED, AttemptOutcome.REJECTED
SPOKE_OF_NOTHING = [each for each in AttemptOutcome if each not in {ACCEPTED, REJECTED}]


PASS, FAIL, ABSTAIN = Verdict.PASS, Verdict.FAIL, Verdict.ABSTAIN


def attempt(
    tier: str,
    outcome: AttemptOutcome,
    purpose: AttemptPurpose = AttemptPurpose.ANSWER,
    *,
    gates: Mapping[str, Verdict] | None = None,
) -> Attempt:
    said = {"composite": PASS if outcome is ACCEPTED else FAIL} if gates is None else gates
    verdicts = tuple(GateVerdict(gate, verdict, "") for gate, verdict in said.items())
    return Attempt(tier, f"{tier}-1", "m", "lab", outcome, verdicts, purpose=purpose)


@pytest.mark.parametrize(
    ("attempts", "said"),
    [
        ([attempt("simple", ACCEPTED)], {"simple": True}),
        ([attempt("simple", REJECTED), attempt("medium", ACCEPTED)], {"simple": False, "medium": True}),
        ([attempt("simple", REJECTED), attempt("simple", ACCEPTED)], {"simple": True}),
        ([attempt("simple", ACCEPTED), attempt("simple", REJECTED, AttemptPurpose.HEDGE)], {"simple": True}),
        ([attempt("simple", REJECTED, AttemptPurpose.HEDGE)], {"simple": False}),
        ([attempt("simple", ACCEPTED, AttemptPurpose.SECOND_OPINION)], {"simple": True}),
        ([attempt("simple", REJECTED, AttemptPurpose.SECOND_OPINION)], {}),
        ([attempt("simple", REJECTED, AttemptPurpose.JUDGE)], {}),
        *[([attempt("simple", outcome)], {}) for outcome in SPOKE_OF_NOTHING],
        ([], {}),
    ],
)
def test_only_what_the_gates_said_of_answers_counts(attempts: list[Attempt], said: dict[str, bool]) -> None:
    outcomes = tier_outcomes("c", attempts)
    assert {each.tier: each.sufficed for each in outcomes} == said
    assert all((each.cluster, each.source) == ("c", OutcomeSource.GATES) for each in outcomes)


@pytest.mark.parametrize(
    ("gates", "outcome", "said"),
    [
        ({}, ACCEPTED, {}),
        ({"hard_failure": PASS}, ACCEPTED, {}),
        ({"hard_failure": PASS, "composite": ABSTAIN}, ACCEPTED, {}),
        ({"hard_failure": PASS, "composite": ABSTAIN}, REJECTED, {}),
        ({"hard_failure": FAIL}, REJECTED, {"t": False}),
        ({"hard_failure": PASS, "rules": PASS}, ACCEPTED, {"t": True}),
        ({"hard_failure": PASS, "rules": FAIL}, ACCEPTED, {"t": False}),
        ({"rules": PASS, "agreement": FAIL}, REJECTED, {"t": False}),
        ({"agreement": FAIL, "composite": PASS}, ACCEPTED, {"t": True}),
        ({"rules": PASS, "composite": FAIL}, ACCEPTED, {"t": False}),
    ],
)
def test_an_answer_that_no_gate_could_tell_from_a_wrong_one_proves_nothing(
    gates: dict[str, Verdict], outcome: AttemptOutcome, said: dict[str, bool]
) -> None:
    outcomes = tier_outcomes("c", [attempt("t", outcome, gates=gates)])
    assert {each.tier: each.sufficed for each in outcomes} == said


def test_a_prompt_of_no_cluster_tells_nothing() -> None:
    assert tier_outcomes("", [attempt("simple", ACCEPTED)]) == ()


def outcomes(count: int) -> list[TierOutcome]:
    return [TierOutcome(f"c{number}", "simple", True, OutcomeSource.GATES) for number in range(count)]


@dataclass
class Telling:
    clock: FakeClock = field(default_factory=FakeClock)
    lost: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.classifier = FakeClassifier(self.clock)
        self.reporter = OutcomeReporter(self.classifier, self.clock, on_drop=self.lost.append)

    @property
    def told(self) -> list[int]:
        return [len(batch) for batch in self.classifier.told]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_outcomes_are_told_together_within_a_second() -> None:
    telling = Telling()
    for outcome in outcomes(3):
        telling.reporter.offer([outcome])
    await settle()
    assert telling.told == []
    telling.clock.advance(FLUSH_S)
    await settle()
    assert telling.classifier.told == [outcomes(3)]
    telling.reporter.offer(outcomes(1))
    await settle()
    telling.clock.advance(FLUSH_S)
    await settle()
    assert telling.told == [3, 1]
    assert telling.lost == []


async def test_a_full_batch_does_not_wait() -> None:
    telling = Telling()
    telling.reporter.offer(outcomes(1))
    await settle()
    telling.reporter.offer(outcomes(2 * BATCH_MAX))
    await settle()
    assert telling.told == [BATCH_MAX, BATCH_MAX]
    telling.clock.advance(FLUSH_S)
    await settle()
    assert telling.told == [BATCH_MAX, BATCH_MAX, 1]


async def test_beyond_the_bound_outcomes_are_lost_and_counted() -> None:
    telling = Telling()
    telling.reporter.offer(outcomes(QUEUED_MAX + 7))
    telling.reporter.offer(outcomes(2))
    assert telling.lost == [7, 2]
    await telling.reporter.close(5)
    assert sum(telling.told) == QUEUED_MAX
    assert telling.lost == [7, 2]


async def test_what_a_classifier_that_is_away_does_not_hear_is_lost_and_counted() -> None:
    telling = Telling()
    telling.classifier.is_deaf = True
    telling.reporter.offer(outcomes(3))
    await settle()
    telling.clock.advance(FLUSH_S)
    await settle()
    assert telling.lost == [3]
    telling.classifier.is_deaf = False
    telling.reporter.offer(outcomes(2))
    await telling.reporter.close(5)
    assert telling.told == [3, 2]
    assert telling.lost == [3]


async def test_closing_tells_what_is_queued_and_then_nothing_more() -> None:
    telling = Telling()
    telling.reporter.offer(outcomes(3))
    await settle()
    await telling.reporter.close(5)
    assert telling.told == [3]
    telling.reporter.offer(outcomes(4))
    await settle()
    assert telling.lost == [4]
    assert telling.told == [3]


async def test_a_classifier_that_hangs_does_not_hold_up_the_end() -> None:
    telling = Telling()

    async def hang(*args: object, **more: object) -> bool:
        await asyncio.Event().wait()
        return True

    telling.classifier.record_outcomes = hang  # type: ignore[method-assign]
    telling.reporter.offer(outcomes(BATCH_MAX + 3))
    await telling.reporter.close(0)
    assert sum(telling.lost) == BATCH_MAX + 3


async def told_of(bench: Bench, **fields: Any) -> dict[str, bool]:
    bench.classifier.says = Judgement(judged(cluster="c7"))
    run = bench.pipeline.begin(request_of(**fields), remaining_s=30)
    try:
        await bench.pipeline.complete(run)
    except SpillwayError:
        assert run.status_code != 0
    bench.pipeline.finish(run)
    assert bench.classifier.told == []
    await bench.pipeline.close(5)
    return {each.tier: each.sufficed for batch in bench.classifier.told for each in batch}


async def test_the_classifier_hears_how_each_tier_did_after_the_answer_has_left() -> None:
    assert await told_of(Bench()) == {"simple": False, "medium": True}


async def test_an_answer_that_was_not_proved_did_not_suffice() -> None:
    bench = Bench()
    bench.executor.gives = executed(accepted=False)
    assert await told_of(bench) == {"simple": False, "medium": False}


async def test_a_request_that_failed_tells_what_its_gates_rejected() -> None:
    bench = Bench()
    failed = FailedExecution(
        (attempt("simple", REJECTED), attempt("medium", AttemptOutcome.TIMEOUT), attempt("complex", REJECTED))
    )
    bench.executor.gives = ExecutionError(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), failed)
    assert await told_of(bench) == {"simple": False, "complex": False}


async def test_a_pinned_request_tells_what_it_was_judged_to_be_and_nothing_when_it_was_not() -> None:
    bench = Bench()
    bench.executor.gives = replace(executed(), attempts=(attempt("medium", ACCEPTED),))
    assert await told_of(bench, pinned_target="medium-1") == {"medium": True}
    bench = Bench()
    assert await told_of(bench, pinned_target="medium-1", cache_mode=CacheMode.BYPASS) == {}
    assert bench.classifier.asked == []


async def test_a_hit_tells_nothing_of_a_tier() -> None:
    bench = Bench()
    bench.cache.semantic = cached(CacheKind.SEMANTIC_HIT)
    assert await told_of(bench) == {}
