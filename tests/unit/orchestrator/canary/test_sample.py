"""Which answers may be compared with the flagship's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.canary.sample import Comparison, sample_of
from services.orchestrator.hops import Unanswered
from services.orchestrator.run import Run
from services.runtime.errors import SpillwayError, Unavailable
from spillway.chat import FinishReason
from spillway.routing import CacheKind, Execution, TaskType
from tests.unit.orchestrator.fakes import Bench, cached, executed
from tests.unit.orchestrator.ladder import request_of, settings_of, target, tier


async def ended(bench: Bench, gives: Execution | SpillwayError) -> Run:
    bench.executor.gives = gives
    run = bench.pipeline.begin(request_of(tenant="acme"), remaining_s=30)
    if isinstance(gives, SpillwayError):
        with pytest.raises(SpillwayError):
            await bench.pipeline.complete(run)
    else:
        await bench.pipeline.complete(run)
    return run


async def test_an_accepted_answer_below_the_flagship_is_one() -> None:
    bench = Bench()
    run = await ended(bench, executed())
    sample = sample_of(run, bench.settings)
    assert sample is not None
    assert (sample.request_id, sample.tenant, sample.task_type) == (run.request_id, "acme", TaskType.FACTUAL_QA)
    assert (sample.tier, sample.target, sample.message.text) == ("medium", "medium-1", "Paris.")
    assert sample.chat == run.request.chat


async def test_the_arms_of_a_rollout_are_taken_alike() -> None:
    bench = Bench()
    run = await ended(bench, executed())
    for arm in ("routed", "baseline"):
        run.routing = replace(run.routing, arm=arm)
        sample = sample_of(run, bench.settings)
        assert sample is not None
        assert sample.arm == arm


async def test_work_that_nobody_judged_counts_as_other() -> None:
    bench = Bench()
    run = await ended(bench, executed())
    run.classification = None
    sample = sample_of(run, bench.settings)
    assert sample is not None
    assert sample.task_type is TaskType.OTHER


@pytest.mark.parametrize(
    "gives",
    [
        executed(accepted=False),
        executed(finish_reason=FinishReason.LENGTH),
        replace(executed(), tier="complex", target="complex-1"),
        Unavailable(),
    ],
    ids=["unproven", "truncated", "the flagship's own", "failed"],
)
async def test_nothing_else_of_a_model_is_one(gives: Execution | SpillwayError) -> None:
    bench = Bench()
    bench.classifier.says = Unanswered("unavailable")
    assert sample_of(await ended(bench, gives), bench.settings) is None


async def test_answers_from_the_cache_of_another_request_or_that_did_not_arrive_are_none() -> None:
    bench = Bench()
    run = await ended(bench, executed())
    run.shared = True
    assert sample_of(run, bench.settings) is None
    run.shared, run.status_code = False, 1
    assert sample_of(run, bench.settings) is None
    bench.cache.exact = cached(CacheKind.EXACT_HIT)
    run = bench.pipeline.begin(request_of(), remaining_s=30)
    await bench.pipeline.complete(run)
    assert sample_of(run, bench.settings) is None


async def test_answers_above_the_flagships_tier_are_none() -> None:
    settings = settings_of(flagship="simple-1")
    assert sample_of(await ended(Bench(), executed()), settings) is None


def test_the_judge_is_the_flagship_unless_another_is_named() -> None:
    tiers = tier("simple"), tier("complex", target("complex-1"), target("complex-2"))
    assert Comparison.of(settings_of(*tiers)).judge.name == "complex-1"
    compared = Comparison.of(settings_of(*tiers, flagship="complex-2", canary={"judge": "simple-1"}))
    assert (compared.flagship.name, compared.flagship_tier) == ("complex-2", "complex")
    assert (compared.judge.name, compared.judge_tier) == ("simple-1", "simple")
