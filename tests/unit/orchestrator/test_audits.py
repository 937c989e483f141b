"""Audits of answers found by meaning: when, at whose cost, and what counts as evidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.audits import UNDER_WAY_MAX, AuditOutcome, PerMinute
from services.orchestrator.hops import EvidenceVerdict, ExecutionError, Judgement
from services.orchestrator.run import Run
from services.runtime.errors import Unavailable
from spillway.chat import FinishReason
from spillway.routing import CacheKind, CacheMode, Completion, CompletionRequest, FailedExecution, GradeSource, TaskType
from spillway.validation import check_grades
from tests.support.waiting import until
from tests.unit.orchestrator.fakes import EMBEDDING, Bench, cached, executed
from tests.unit.orchestrator.ladder import judged, request_of, settings_of


def audited(*, per_minute_max: int = 60, tasks_max: int = 100) -> Bench:
    """A bench whose every semantic hit is chosen for an audit."""
    bench = Bench(settings_of(cache={"audits": {"per_minute_max": per_minute_max}}), tasks_max=tasks_max)
    hit = cached(CacheKind.SEMANTIC_HIT)
    bench.cache.semantic = replace(hit, outcome=replace(hit.outcome, answer_version="as served"), audit=True)
    return bench


async def ask(bench: Bench, request: CompletionRequest | None = None) -> tuple[Completion, Run]:
    run = bench.pipeline.begin(request or request_of(), remaining_s=30)
    completion = await bench.pipeline.complete(run)
    assert bench.executor.plans == []
    return completion, run


async def finished(bench: Bench, run: Run) -> None:
    bench.pipeline.finish(run)
    await bench.background.close(5)


async def test_a_model_is_asked_once_the_answer_has_left_and_the_cache_hears_of_it() -> None:
    bench = audited()
    completion, run = await ask(bench, request_of(tenant="t", namespace="n", tags=("doc-B",), cache_ttl_s=5.0))
    assert completion.cache.kind is CacheKind.SEMANTIC_HIT
    bench.pipeline.finish(run)
    assert bench.executor.plans == []
    await bench.background.close(5)
    ((plan, task_type, timeout_s),) = bench.executor.plans
    assert [each.name for each in plan.tiers] == ["simple", "medium", "complex"]
    assert (task_type, timeout_s) == (TaskType.FACTUAL_QA, bench.settings.orchestrator.deadline_s)
    ((query, entry_key, fresh),) = bench.cache.evidence
    assert (query.tenant, query.namespace, query.embedding, query.task_type) == ("t", "n", EMBEDDING, task_type)
    assert (entry_key, fresh.message.text, fresh.cost_nanousd) == ("k", "Paris.", 4_350)
    assert bench.cache.evidence_kept == [(5.0, ("doc-B",))]
    assert bench.cache.versions == ["as served"]
    assert bench.audits == [(AuditOutcome.RIGHT, 4_350)]
    assert bench.cache.stored == []
    assert (completion.cost.cost_nanousd, run.cost.cost_nanousd) == (0, 0)
    assert run.record().cost.cost_nanousd == 0


async def test_a_streamed_hit_is_audited_too() -> None:
    bench = audited()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    assert [type(event).__name__ async for event in bench.pipeline.stream(run)] == ["AnswerDelta", "Completion"]
    await finished(bench, run)
    assert bench.audits == [(AuditOutcome.RIGHT, 4_350)]


@pytest.mark.parametrize("verdict", list(EvidenceVerdict))
async def test_an_audit_counts_with_its_verdict(verdict: EvidenceVerdict) -> None:
    bench = audited()
    bench.cache.says_of_evidence = verdict
    _, run = await ask(bench)
    await finished(bench, run)
    assert bench.audits == [(AuditOutcome(verdict.value), 4_350)]


@pytest.mark.parametrize(
    "gives", [executed(accepted=False), executed(finish_reason=FinishReason.LENGTH)], ids=["unproven", "truncated"]
)
async def test_an_answer_without_proof_or_end_is_no_evidence_and_its_cost_counts(gives: object) -> None:
    bench = audited()
    bench.executor.gives = gives  # type: ignore[assignment]
    _, run = await ask(bench)
    await finished(bench, run)
    assert bench.cache.evidence == []
    assert bench.audits == [(AuditOutcome.UNPROVEN, 4_350)]


async def test_what_an_audit_has_cost_is_kept_with_what_it_came_to_and_is_no_grade() -> None:
    bench = audited()
    for verdict in (EvidenceVerdict.WRONG, EvidenceVerdict.RIGHT):
        bench.cache.says_of_evidence = verdict
        _, run = await ask(bench, request_of(tenant="t", request_id=f"r-{verdict.value}"))
        bench.executor.plans.clear()
        bench.pipeline.finish(run)
        await until(lambda: not bench.background.under_way)
        bench.executor.plans.clear()
    bench.executor.gives = Unavailable()  # before any model was called
    _, run = await ask(bench)
    await finished(bench, run)
    await bench.reporter.close(5)
    wrong, right = bench.ledger.grades
    assert (wrong.source, wrong.outcome, right.outcome) == (GradeSource.AUDIT, "wrong", "right")
    assert (wrong.tenant, wrong.request_id, wrong.tier, wrong.cost_nanousd) == ("t", "r-wrong", "simple", 4_350)
    assert (wrong.score, wrong.flagship_score, wrong.grade_id == right.grade_id) == (0.0, 0.0, False)
    check_grades(bench.ledger.grades)


async def test_an_audit_that_fails_hurts_nobody_and_its_cost_counts() -> None:
    bench = audited()
    failed = FailedExecution(executed().attempts[:2], 350)
    bench.executor.gives = ExecutionError(Unavailable("NO_MODEL_AVAILABLE", "no model could answer"), failed)
    completion, run = await ask(bench)
    await finished(bench, run)
    bench.executor.gives = Unavailable()
    assert completion.accepted
    assert bench.audits == [(AuditOutcome.FAILED, 350)]


async def test_the_classifier_hears_what_the_gates_said_in_an_audit() -> None:
    bench = audited()
    bench.classifier.says = Judgement(judged(cluster="c7"))
    _, run = await ask(bench)
    await finished(bench, run)
    await bench.pipeline.close(5)
    assert [(each.tier, each.sufficed) for batch in bench.classifier.told for each in batch] == [
        ("simple", False),
        ("medium", True),
    ]


async def test_without_being_chosen_or_for_an_exact_hit_there_is_no_audit() -> None:
    bench = audited()
    bench.cache.semantic = replace(bench.cache.semantic, audit=False)
    _, run = await ask(bench)
    bench.pipeline.finish(run)
    bench.cache.exact = replace(cached(CacheKind.EXACT_HIT), audit=True)
    _, run = await ask(bench)
    bench.pipeline.finish(run)
    assert bench.background.under_way == 0


async def test_a_hit_that_the_route_does_not_allow_is_not_audited() -> None:
    bench = audited()
    run = bench.pipeline.begin(request_of(tier_floor="medium"), remaining_s=30)
    completion = await bench.pipeline.complete(run)
    assert completion.cache.kind is CacheKind.MISS
    await finished(bench, run)
    assert (bench.audits, bench.cache.evidence) == ([], [])
    assert len(bench.cache.stored) == 1


async def test_explaining_a_hit_audits_nothing() -> None:
    bench = audited()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    assert (await bench.pipeline.explain(run)).cache.kind is CacheKind.SEMANTIC_HIT
    await bench.background.close(5)
    assert bench.executor.plans == []


async def test_a_reader_who_left_is_not_audited() -> None:
    bench = audited()
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    events = bench.pipeline.stream(run)
    await anext(events)
    await events.aclose()
    await finished(bench, run)
    assert bench.audits == []


async def test_only_so_many_begin_in_a_minute() -> None:
    bench = audited(per_minute_max=2)
    for _ in range(3):
        _, run = await ask(bench)
        bench.pipeline.finish(run)
    await bench.background.close(5)
    assert sorted(outcome for outcome, _ in bench.audits) == ["left_out", "right", "right"]


async def test_only_so_many_are_under_way_and_none_that_the_background_has_no_room_for() -> None:
    bench = audited(per_minute_max=1_000, tasks_max=1_000)
    bench.executor.hold = True
    runs = [(await ask(bench))[1] for _ in range(UNDER_WAY_MAX + 2)]
    for run in runs:
        bench.pipeline.finish(run)
    assert bench.background.under_way == UNDER_WAY_MAX
    assert bench.audits == [(AuditOutcome.LEFT_OUT, 0)] * 2
    await asyncio.sleep(0)
    await bench.background.close(0)
    assert bench.executor.cancelled == UNDER_WAY_MAX
    full = audited(tasks_max=0)
    _, run = await ask(full)
    full.pipeline.finish(run)
    assert full.audits == [(AuditOutcome.LEFT_OUT, 0)]


async def test_audits_that_the_background_had_no_room_for_leave_room_for_later_ones() -> None:
    bench, gate = audited(per_minute_max=1_000, tasks_max=1), asyncio.Event()

    async def other_work() -> None:
        await gate.wait()

    bench.background.spawn("store", other_work)
    for _ in range(UNDER_WAY_MAX + 1):
        _, run = await ask(bench)
        bench.pipeline.finish(run)
    assert bench.audits == [(AuditOutcome.LEFT_OUT, 0)] * (UNDER_WAY_MAX + 1)
    gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    _, run = await ask(bench)
    await finished(bench, run)
    assert bench.audits[-1] == (AuditOutcome.RIGHT, 4_350)


async def test_an_audit_that_has_ended_makes_room_for_the_next() -> None:
    bench = audited(per_minute_max=1_000)
    for _ in range(UNDER_WAY_MAX + 1):
        bench.executor.plans.clear()
        _, run = await ask(bench)
        bench.pipeline.finish(run)
        for _ in range(5):
            await asyncio.sleep(0)
    assert bench.audits == [(AuditOutcome.RIGHT, 4_350)] * (UNDER_WAY_MAX + 1)


async def test_none_begins_once_the_process_stops() -> None:
    bench = audited()
    _, run = await ask(bench)
    bench.pipeline.stop_extras()
    await finished(bench, run)
    assert bench.executor.plans == []
    assert bench.audits == [(AuditOutcome.LEFT_OUT, 0)]


@pytest.mark.parametrize("mode", [CacheMode.REFRESH, CacheMode.BYPASS])
async def test_who_does_not_look_is_not_audited(mode: CacheMode) -> None:
    bench = audited()
    run = bench.pipeline.begin(request_of(cache_mode=mode), remaining_s=30)
    await bench.pipeline.complete(run)
    await finished(bench, run)
    assert bench.audits == []


@given(st.integers(0, 5), st.lists(st.floats(0, 40), max_size=30))
def test_no_sixty_seconds_have_more_permits_than_are_allowed(count_max: int, waits_s: list[float]) -> None:
    permits, now_s, taken_s = PerMinute(), 0.0, list[float]()
    for wait_s in waits_s:
        now_s += wait_s
        recent = [each for each in taken_s if each > now_s - 60.0]
        granted = permits.take(now_s, count_max)
        assert granted is (len(recent) < count_max)
        if granted:
            taken_s.append(now_s)
