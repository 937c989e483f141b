"""The life of a request: which hops it makes, what they get, and what is told of them."""

from __future__ import annotations

import json

import pytest

from services.orchestrator.hops import Judgement, Unanswered
from services.orchestrator.policy.rough import ROUGH_CONFIDENCE
from services.orchestrator.record import json_line
from spillway.routing import CacheKind, Complexity, Strategy, TaskType
from tests.unit.orchestrator.fakes import DOWN, EMBEDDING, Bench, cached, complete, hop_names
from tests.unit.orchestrator.ladder import judged, request_of


async def test_an_exact_hit_asks_neither_classifier_nor_executor() -> None:
    bench = Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    completion, run = await complete(bench)
    assert completion.text == "Paris, as before."
    assert completion.cache.kind is CacheKind.EXACT_HIT
    assert completion.cost.cost_nanousd == 0
    assert completion.cost.flagship_cost_nanousd == 15 * 1_000
    assert completion.cost.flagship_target == "complex-1"
    assert (completion.tier, completion.target, completion.accepted) == ("simple", "simple-1", True)
    assert completion.routing.plan is None
    assert completion.attempts == ()
    assert hop_names(completion) == ["cache.exact"]
    assert bench.classifier.asked == []
    assert bench.executor.plans == []
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_semantic_hit_was_judged_and_searched_by_that_embedding() -> None:
    bench = Bench()
    bench.cache.semantic = cached(CacheKind.SEMANTIC_HIT)
    completion, _ = await complete(bench)
    assert completion.cache.kind is CacheKind.SEMANTIC_HIT
    assert completion.routing.classification == judged()
    assert hop_names(completion) == ["cache.exact", "classifier", "cache.semantic"]
    (exact, skipped_first, _), (semantic, skipped_then, _) = bench.cache.looked_up
    assert (exact.embedding, skipped_first) == (None, False)
    assert (semantic.embedding, skipped_then, semantic.task_type) == (EMBEDDING, True, TaskType.FACTUAL_QA)
    assert bench.executor.plans == []


async def test_a_miss_is_executed_and_stored_after_the_answer() -> None:
    bench = Bench()
    request = request_of(
        tenant="t",
        namespace="n",
        template_version="v",
        knowledge_version="k",
        tags=("a",),
        cache_ttl_s=60.0,
        request_id="mine",
    )
    completion, run = await complete(bench, request)
    assert completion.text == "Paris."
    assert completion.request_id == "mine"
    assert completion.cost.cost_nanousd == 300 + 50 + 4_000
    assert completion.cost.flagship_cost_nanousd == 24 * 1_000
    assert (completion.escalations, len(completion.attempts)) == (1, 3)
    assert hop_names(completion) == ["cache.exact", "classifier", "cache.semantic", "policy", "executor"]
    assert completion.hops[-1].latency_s == pytest.approx(0.5)
    assert bench.cache.stored == []
    bench.pipeline.finish(run)
    assert bench.cache.stored == []
    await bench.background.close(5)
    ((query, answer, ttl_s, tags),) = bench.cache.stored
    scope = (query.tenant, query.namespace, query.template_version, query.knowledge_version)
    assert scope == ("t", "n", "v", "k")
    assert (query.embedding, query.task_type) == (EMBEDDING, TaskType.FACTUAL_QA)
    assert (answer.message.text, answer.cost_nanousd, answer.accepted) == ("Paris.", 4_350, True)
    assert (ttl_s, tags) == (60.0, ("a",))


async def test_a_request_without_an_id_gets_one() -> None:
    first, _ = await complete(Bench())
    second, _ = await complete(Bench())
    assert len(first.request_id) == 32
    assert first.request_id != second.request_id


async def test_a_cache_that_is_down_is_a_miss_that_is_asked_once() -> None:
    bench = Bench()
    bench.cache.exact = DOWN
    completion, run = await complete(bench)
    assert completion.text == "Paris."
    assert completion.cache.kind is CacheKind.UNAVAILABLE
    assert completion.routing.degraded == ("cache",)
    assert len(bench.cache.looked_up) == 1
    assert [wanted for wanted, _ in bench.classifier.asked] == [False]
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert bench.cache.stored == []


async def test_a_classifier_that_is_down_is_replaced_by_a_rough_judgement() -> None:
    bench = Bench()
    bench.classifier.says = Unanswered("unavailable")
    completion, _ = await complete(bench)
    assert completion.text == "Paris."
    assert completion.routing.degraded == ("classifier",)
    assert completion.routing.classification is not None
    assert completion.routing.classification.confidence == ROUGH_CONFIDENCE
    assert completion.routing.policy_step == "confidence_bump"
    assert hop_names(completion) == ["cache.exact", "classifier", "policy", "executor"]


async def test_everything_optional_may_be_down_at_once() -> None:
    bench = Bench()
    bench.cache.exact, bench.classifier.says = DOWN, Unanswered("unavailable")
    completion, _ = await complete(bench)
    assert completion.text == "Paris."
    assert completion.routing.degraded == ("cache", "classifier")


async def test_each_hop_gets_the_smaller_of_its_own_limit_and_what_remains() -> None:
    bench = Bench()
    await complete(bench)
    assert [timeout for *_, timeout in bench.cache.looked_up] == [0.25, 0.25]
    assert bench.classifier.asked[0][1] == 1.0
    short = Bench()
    run = short.pipeline.begin(request_of(), remaining_s=0.1)
    await short.pipeline.complete(run)
    assert short.cache.looked_up[0][2] == pytest.approx(0.1)
    assert short.classifier.asked[0][1] == pytest.approx(0.099)
    assert short.executor.plans[0][2] == pytest.approx(0.1 - 0.004 - 0.02)


@pytest.mark.parametrize("kind", [CacheKind.MISS, CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT])
async def test_explain_tells_plan_cache_and_rules_and_calls_no_model(kind: CacheKind) -> None:
    rule = {"name": "vip", "when": {"user_tier": ["vip"]}, "then": {"start_tier": "complex"}}
    bench = Bench(rules=[rule])
    if kind is CacheKind.EXACT_HIT:
        bench.cache.exact = cached(kind)
    if kind is CacheKind.SEMANTIC_HIT:
        bench.cache.semantic = cached(kind)
    run = bench.pipeline.begin(request_of(strategy=Strategy.DIRECT), remaining_s=30)
    explained = await bench.pipeline.explain(run)
    assert explained.cache.kind is kind
    assert bench.cache.peeks == len(bench.cache.looked_up)
    assert explained.routing.plan is not None
    assert explained.routing.plan.tiers[0].name == "simple"
    assert explained.routing.classification is not None
    assert [(trial.rule, trial.matched) for trial in explained.rules] == [("vip", False)]
    assert len(bench.classifier.asked) == 1
    assert bench.executor.plans == []
    assert bench.background.under_way == 0


async def test_the_span_and_the_record_have_what_callers_are_not_told_of_the_cache() -> None:
    bench = Bench()
    bench.cache.semantic = cached(CacheKind.SEMANTIC_HIT)
    _, run = await complete(bench)
    assert run.span_attributes()["spillway.cache.similarity"] == 0.97
    record = json.loads(json_line(run.record()))
    assert record["cache"] == {"kind": "KIND_SEMANTIC_HIT", "similarity": 0.97, "entry_key": "k"}


async def test_the_span_says_how_it_went_and_never_the_prompt() -> None:
    bench = Bench()
    bench.classifier.says = Judgement(judged(Complexity.SIMPLE, 0.5))
    _, run = await complete(bench, request_of("a secret prompt"))
    assert run.span_attributes() == {
        "spillway.config_version": "c0ffee",
        "spillway.request_id": run.request_id,
        "spillway.cache.outcome": "miss",
        "spillway.cache.reason": "nothing stored",
        "spillway.policy_step": "confidence_bump",
        "spillway.tier": "medium",
        "spillway.target": "medium-1",
        "spillway.cost_nanousd": 4_350,
        "spillway.flagship_cost_nanousd": 24_000,
        "spillway.escalations": 1,
        "spillway.fallbacks": 0,
        "spillway.accepted": True,
    }
