"""What is looked up and judged before a model is asked, what is not, and what may be served and kept of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.hops import Judgement
from spillway.chat import FinishReason
from spillway.routing import CacheKind, CacheMode, CacheOutcome, GateVerdict, TaskType, Verdict
from tests.unit.orchestrator.fakes import Bench, cached, complete, executed, hop_names
from tests.unit.orchestrator.ladder import judged, request_of, settings_of


@pytest.mark.parametrize(
    ("mode", "looked_up", "wants_embedding", "stores"),
    [(CacheMode.USE, 2, True, 1), (CacheMode.REFRESH, 1, True, 1), (CacheMode.BYPASS, 0, False, 0)],
)
async def test_the_cache_mode_says_what_is_looked_up_and_what_is_stored(
    mode: CacheMode, looked_up: int, wants_embedding: bool, stores: int
) -> None:
    bench = Bench()
    completion, run = await complete(bench, request_of(cache_mode=mode))
    assert len(bench.cache.looked_up) == looked_up
    assert [wanted for wanted, _ in bench.classifier.asked] == [wants_embedding]
    assert completion.cache.kind is (CacheKind.MISS if mode is CacheMode.USE else CacheKind.BYPASS)
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert len(bench.cache.stored) == stores


@pytest.mark.parametrize(
    "gives", [executed(accepted=False), executed(finish_reason=FinishReason.LENGTH)], ids=["unproven", "truncated"]
)
async def test_an_answer_without_proof_or_end_is_not_stored(gives: object) -> None:
    bench = Bench()
    bench.executor.gives = gives  # type: ignore[assignment]
    _, run = await complete(bench)
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_route_that_is_settled_and_bypasses_the_cache_needs_no_classifier() -> None:
    bench = Bench()
    completion, _ = await complete(bench, request_of(pinned_target="medium-1", cache_mode=CacheMode.BYPASS))
    assert bench.classifier.asked == []
    assert hop_names(completion) == ["policy", "executor"]
    assert bench.executor.plans[0][0].tiers[0].targets == ("medium-1",)


async def test_work_that_is_only_found_exactly_is_not_searched_by_meaning() -> None:
    bench = Bench()
    bench.classifier.says = Judgement(judged(task_type=TaskType.MATH))
    await complete(bench)
    assert len(bench.cache.looked_up) == 1
    assert bench.executor.plans[0][1] is TaskType.MATH


@pytest.mark.parametrize("section", [{"enabled": False}, {"semantic": False}])
async def test_what_is_switched_off_is_not_asked(section: dict[str, bool]) -> None:
    bench = Bench(settings_of(cache=section))
    completion, _ = await complete(bench)
    assert len(bench.cache.looked_up) == (0 if "enabled" in section else 1)
    assert completion.cache.kind is (CacheKind.BYPASS if "enabled" in section else CacheKind.MISS)
    if "semantic" in section:
        assert [wanted for wanted, _ in bench.classifier.asked] == [False]


async def test_a_cached_answer_that_the_route_does_not_allow_is_a_miss() -> None:
    bench = Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    bench.cache.semantic = cached(CacheKind.SEMANTIC_HIT)
    completion, _ = await complete(bench, request_of(tier_floor="medium"))
    assert completion.text == "Paris."
    assert completion.cache.kind is CacheKind.MISS
    assert "tier simple" in completion.cache.reason
    assert len(bench.cache.looked_up) == 2


async def test_a_cached_answer_without_the_confidence_that_is_asked_for_is_a_miss() -> None:
    bench = Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    bench.cache.semantic = cached(CacheKind.SEMANTIC_HIT)
    completion, _ = await complete(bench, request_of(confidence_min=0.9))
    assert completion.cache.kind is CacheKind.MISS
    assert completion.cache.reason == "the answer found has no score, and the request asks for 0.9"
    assert bench.cache.exact.answer is not None
    bench.cache.exact = replace(bench.cache.exact, answer=replace(bench.cache.exact.answer, score=0.95))
    completion, _ = await complete(bench, request_of(confidence_min=0.9))
    assert completion.cache.kind is CacheKind.EXACT_HIT


@pytest.mark.parametrize(
    ("verdicts", "score"),
    [
        ((), None),
        ((GateVerdict("schema", Verdict.PASS, ""),), None),
        ((GateVerdict("rules", Verdict.PASS, "", 1.0), GateVerdict("agreement", Verdict.PASS, "", 0.8)), 0.8),
        ((GateVerdict("logprob", Verdict.FAIL, "", 0.1), GateVerdict("composite", Verdict.PASS, "", 0.9)), 0.9),
    ],
)
async def test_an_answer_is_stored_with_the_least_score_that_it_passed_with(
    verdicts: tuple[GateVerdict, ...], score: float | None
) -> None:
    bench = Bench()
    rejected, evidence, accepted = executed().attempts
    rejected = replace(rejected, verdicts=(GateVerdict("rules", Verdict.PASS, "", 0.2),))
    attempts = (rejected, evidence, replace(accepted, verdicts=verdicts))
    bench.executor.gives = replace(executed(), attempts=attempts)
    _, run = await complete(bench)
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert [answer.score for _, answer, _, _ in bench.cache.stored] == [score]


async def test_a_judged_rule_that_forbids_the_cache_is_tried_before_the_first_lookup() -> None:
    rule = {"name": "r", "when": {"task_type": ["factual_qa"]}, "then": {"cache_mode": "bypass"}}
    bench = Bench(rules=[rule])
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    completion, _ = await complete(bench)
    assert completion.cache == CacheOutcome(CacheKind.BYPASS, reason="a rule says bypass")
    assert bench.cache.looked_up == []
    assert len(bench.classifier.asked) == 1


async def test_a_request_is_judged_once_however_often_the_judgement_is_needed() -> None:
    rule = {"name": "r", "when": {"task_type": ["factual_qa"]}, "then": {"tier_floor": "medium"}}
    bench = Bench(rules=[rule])
    completion, _ = await complete(bench)
    assert hop_names(completion) == ["classifier", "cache.exact", "cache.semantic", "policy", "executor"]
    assert [wanted for wanted, _ in bench.classifier.asked] == [True]
