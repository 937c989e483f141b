"""The life of a request, with every outcome of every hop."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest

from services.orchestrator.hops import CacheReply, ExecutionError, Judgement, Unanswered
from services.orchestrator.policy.rough import ROUGH_CONFIDENCE
from services.orchestrator.record import json_line
from services.orchestrator.run import Run
from services.runtime.errors import DeadlineExceeded, FailedPrecondition, Overloaded, SpillwayError, Unavailable
from spillway.chat import FinishReason
from spillway.routing import (
    AnswerDelta,
    CacheKind,
    CacheMode,
    CacheOutcome,
    Completion,
    CompletionRequest,
    Complexity,
    FailedExecution,
    GateVerdict,
    Strategy,
    TaskType,
    Verdict,
)
from tests.unit.orchestrator.fakes import EMBEDDING, Bench, cached, executed
from tests.unit.orchestrator.ladder import judged, request_of, settings_of

DOWN = CacheReply(CacheOutcome(CacheKind.UNAVAILABLE, reason="deadline_exceeded"))


async def complete(bench: Bench, request: CompletionRequest | None = None) -> tuple[Completion, Run]:
    run = bench.pipeline.begin(request or request_of(), remaining_s=30.0)
    return await bench.pipeline.complete(run), run


def hop_names(completion: Completion) -> list[str]:
    return [hop.hop for hop in completion.hops]


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


async def test_the_executors_error_is_the_callers_and_nothing_is_stored() -> None:
    bench = Bench()
    bench.executor.gives = Unavailable("NO_MODEL_AVAILABLE", "no model could answer", 2.5)
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    with pytest.raises(Unavailable) as failed:
        await bench.pipeline.complete(run)
    assert (failed.value.reason, failed.value.retry_after_s) == ("NO_MODEL_AVAILABLE", 2.5)
    assert (run.status_code, run.error_reason) == (grpc.StatusCode.UNAVAILABLE.value[0], "NO_MODEL_AVAILABLE")
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


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


async def test_a_caller_without_time_is_told_so_before_a_model_is_called() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=0.004)
    with pytest.raises(DeadlineExceeded):
        await bench.pipeline.complete(run)
    assert bench.executor.plans == []
    assert run.error_reason == "DEADLINE_EXCEEDED"


async def test_a_request_that_leaves_no_target_is_refused_before_any_hop() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(tier_floor="complex", tier_ceiling="simple"), remaining_s=30)
    with pytest.raises(FailedPrecondition) as refused:
        await bench.pipeline.complete(run)
    assert refused.value.reason == "NO_ELIGIBLE_TARGET"
    assert bench.cache.looked_up == []


async def test_a_cancelled_caller_cancels_the_executor_and_nothing_is_stored() -> None:
    bench = Bench()
    bench.executor.hold = True
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    task = asyncio.create_task(bench.pipeline.complete(run))
    await bench.executor.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.executor.cancelled == 1
    assert (run.status_code, run.error_reason) == (grpc.StatusCode.CANCELLED.value[0], "")
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def collect(bench: Bench, run: Run) -> list[object]:
    return [event async for event in bench.pipeline.stream(run)]


FAILED = FailedExecution(executed().attempts[:2], 350, escalations=1, fallbacks=2)
NO_MODEL = ExecutionError(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), FAILED)


async def test_what_was_done_in_vain_is_recorded_and_told_to_the_span() -> None:
    bench = Bench()
    bench.executor.gives = NO_MODEL
    for streams in (False, True):
        run = bench.pipeline.begin(request_of(), remaining_s=30)
        call = collect(bench, run) if streams else bench.pipeline.complete(run)
        with pytest.raises(ExecutionError):
            await call
        record = run.record()
        assert (record.attempts, record.cost.cost_nanousd) == (FAILED.attempts, 350)
        assert (record.escalations, record.fallbacks, record.cost_unknown) == (1, 2, False)
        attributes = run.span_attributes()
        assert attributes["spillway.cost_nanousd"] == 350
        assert "spillway.tier" not in attributes
        assert "spillway.cost_unknown" not in attributes


async def test_what_a_caller_who_leaves_has_cost_is_not_known_and_not_said_to_be_nothing() -> None:
    bench = Bench()
    bench.executor.hold = True
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    task = asyncio.create_task(bench.pipeline.complete(run))
    await bench.executor.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = run.record()
    assert record.cost_unknown
    assert record.routing.plan is not None
    assert json.loads(json_line(record))["cost_unknown"] is True
    assert run.span_attributes()["spillway.cost_unknown"] is True


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (Unavailable(), True),
        (DeadlineExceeded(), True),
        (FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan names a target that is not configured"), False),
        (Overloaded(), False),
    ],
)
async def test_a_lost_executor_leaves_the_cost_unknown_and_a_refusal_costs_nothing(
    error: SpillwayError, unknown: bool
) -> None:
    bench = Bench()
    bench.executor.gives = error
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    with pytest.raises(type(error)):
        await bench.pipeline.complete(run)
    assert run.cost_unknown is unknown


async def test_the_cost_of_an_answer_or_of_no_call_at_all_is_known() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    await bench.pipeline.complete(run)
    assert not run.cost_unknown
    run = bench.pipeline.begin(request_of(), remaining_s=0.0)
    with pytest.raises(DeadlineExceeded):
        await bench.pipeline.complete(run)
    assert not run.cost_unknown


async def test_a_cancellation_at_the_deadline_is_the_deadlines() -> None:
    bench = Bench()
    bench.executor.hold = True
    run = bench.pipeline.begin(request_of(), remaining_s=0.4)
    task = asyncio.create_task(bench.pipeline.complete(run))
    await bench.executor.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.error_reason == "DEADLINE_EXCEEDED"


async def test_a_stream_passes_the_deltas_and_ends_with_the_completion() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    events = [event async for event in bench.pipeline.stream(run)]
    assert events[:2] == [AnswerDelta("Par"), AnswerDelta("is.")]
    (completion,) = events[2:]
    assert isinstance(completion, Completion)
    assert completion.text == "Paris."
    assert hop_names(completion)[-1] == "executor"
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert len(bench.cache.stored) == 1


async def test_a_hit_streams_as_one_delta() -> None:
    bench = Bench()
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    delta, completion = [event async for event in bench.pipeline.stream(run)]
    assert delta == AnswerDelta("Paris, as before.")
    assert isinstance(completion, Completion)
    assert completion.cache.kind is CacheKind.EXACT_HIT


async def test_a_stream_that_breaks_is_an_error_and_is_not_stored() -> None:
    bench = Bench()
    bench.executor.gives = Unavailable("STREAM_INTERRUPTED", "the stream broke off")
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    events = bench.pipeline.stream(run)
    assert [await anext(events), await anext(events)] == [AnswerDelta("Par"), AnswerDelta("is.")]
    with pytest.raises(Unavailable):
        await anext(events)
    assert run.error_reason == "STREAM_INTERRUPTED"
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_reader_that_leaves_a_stream_ends_the_executors() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    async with aclosing(bench.pipeline.stream(run)) as events:
        async for _ in events:
            break
    assert bench.executor.cancelled == 1
    assert run.status_code == grpc.StatusCode.CANCELLED.value[0]


async def test_a_reader_that_leaves_before_the_end_is_stored_nothing_of() -> None:
    bench = Bench()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    async with aclosing(bench.pipeline.stream(run)) as events:
        async for event in events:
            if isinstance(event, Completion):
                break
    assert run.status_code == grpc.StatusCode.CANCELLED.value[0]
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


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
