"""One plan for who is answered, who asks what would be done, the record, and audits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.orchestrator.canary.drift_store import MemoryDrift
from services.orchestrator.run import Run
from spillway.routing import CacheKind, CacheMode, Plan, TaskType
from tests.unit.orchestrator.canary.parts import Nest
from tests.unit.orchestrator.fakes import Bench, cached
from tests.unit.orchestrator.ladder import request_of, settings_of

LEAST, STEP = 0.6, 0.05


async def tightened(levels: int = 1, *, quotas: dict[str, Any] | None = None) -> Bench:
    """A bench whose canary has tightened the kind of work that its requests are of."""
    settings = settings_of(
        canary={"share": 0, "tighten": True, "tighten_step": STEP},
        executor={"confidence_min": LEAST},
        quotas=quotas or {},
    )
    store = MemoryDrift()
    for era in range(levels):
        await store.begin_anew(TaskType.FACTUAL_QA.value, era, tightened=[TaskType.FACTUAL_QA])
    nest = Nest(settings, store=store)
    await nest.monitor.read()
    return Bench(settings, canary=nest.canary)


def started(bench: Bench, **fields: Any) -> Run:
    return bench.pipeline.begin(request_of(**fields), remaining_s=30)


def recorded(run: Run) -> Plan:
    plan = run.record().routing.plan
    assert plan is not None
    return plan


async def test_what_is_recorded_and_told_to_the_caller_is_what_was_executed() -> None:
    bench = await tightened()
    run = started(bench)
    completion = await bench.pipeline.complete(run)
    ((sent, _, _),) = bench.executor.plans
    assert (sent.confidence_min, sent.config_version) == (LEAST + STEP, "c0ffee")
    assert recorded(run) == completion.routing.plan == sent
    assert completion.routing.reason.endswith("; tightened: the least confidence is 0.65")


async def test_a_stream_has_the_plan_of_an_answer_in_one_piece() -> None:
    bench = await tightened()
    await bench.pipeline.complete(started(bench, cache_mode=CacheMode.BYPASS))
    run = started(bench, cache_mode=CacheMode.BYPASS)
    _ = [event async for event in bench.pipeline.stream(run)]
    (whole, _, _), (streamed, _, _) = bench.executor.plans
    assert whole == streamed == recorded(run)


async def test_explain_shows_the_plan_that_would_be_executed() -> None:
    bench = await tightened(levels=2)
    explained = await bench.pipeline.explain(started(bench))
    completion = await bench.pipeline.complete(started(bench))
    assert explained.routing.plan == completion.routing.plan
    assert explained.routing.plan is not None
    assert explained.routing.plan.confidence_min == LEAST + 2 * STEP


async def test_an_audit_has_the_plan_that_its_request_would_have_had_and_leaves_the_record_as_it_was() -> None:
    bench = await tightened()
    expected = (await bench.pipeline.explain(started(bench))).routing.plan
    bench.cache.semantic = replace(cached(CacheKind.SEMANTIC_HIT), audit=True)
    run = started(bench)
    await bench.pipeline.complete(run)
    before = run.routing
    bench.pipeline.finish(run)
    await bench.background.close(5)
    assert [plan for plan, _, _ in bench.executor.plans] == [expected]
    assert run.routing == before


async def test_the_recorded_plan_is_without_the_ceiling_of_a_budget() -> None:
    budget = {"name": "b", "period": "day", "cost_usd": 10.0}
    bench = await tightened(quotas={"budgets": [budget]})
    run = started(bench)
    await bench.pipeline.complete(run)
    ((sent, _, _),) = bench.executor.plans
    assert sent.cost_nanousd_max is not None
    assert recorded(run) == replace(sent, cost_nanousd_max=None)
    await bench.pipeline.close(5)


async def test_without_an_alarm_a_plan_asks_for_what_is_configured() -> None:
    bench = await tightened(levels=0)
    run = started(bench)
    await bench.pipeline.complete(run)
    assert recorded(run).confidence_min is None
    assert "tightened" not in run.routing.reason


async def test_while_settings_wait_for_a_restart_records_name_what_is_in_force_and_plans_the_file() -> None:
    bench = Bench()
    bench.pipeline.reconfigure(bench.settings, "f11e", "1f0ce")
    run = started(bench)
    completion = await bench.pipeline.complete(run)
    ((sent, _, _),) = bench.executor.plans
    assert sent.config_version == recorded(run).config_version == "f11e"  # as executors, which look for it, know it
    assert run.record().config_version == completion.routing.config_version == "1f0ce"
    assert run.span_attributes()["spillway.config_version"] == "1f0ce"
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    assert (await bench.pipeline.complete(started(bench))).routing.config_version == "1f0ce"
