"""Plans of orchestrators whose configuration is older or newer than the executor's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.unknown_targets import TARGET_UNKNOWN
from services.runtime.errors import FailedPrecondition
from spillway.routing import (
    AgreementSpec,
    AttemptOutcome,
    JudgeSpec,
    Plan,
    PlannedTier,
    SelfEvaluationSpec,
    Strategy,
    Verdict,
)
from tests.unit.executor.builders import Bench, chat

HERE = ("a1", "a2", "b1", "c1", "c2")
ELSEWHERE = ("x1", "x2", "x3")


async def run(plan: Plan, bench: Bench | None = None) -> list[tuple[str, str]]:
    """Target and error reason of every attempt."""
    bench = bench or Bench({name: ["an answer"] for name in HERE})
    execution = await bench.executor.execute(chat(), plan, None, 10.0)
    return [(attempt.target, attempt.error_reason) for attempt in execution.attempts]


async def test_a_target_that_is_not_configured_here_is_skipped_and_reported() -> None:
    plan = Plan((PlannedTier("simple", ("x1", "a2")),))
    assert await run(plan) == [("x1", TARGET_UNKNOWN), ("a2", "")]


async def test_a_tier_without_any_known_target_is_passed_over() -> None:
    plan = Plan((PlannedTier("new", ("x1",)), PlannedTier("complex", ("c1",))))
    assert await run(plan) == [("x1", TARGET_UNKNOWN), ("c1", "")]


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_plan_without_any_known_target_is_a_clear_error(strategy: Strategy) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        await run(Plan((PlannedTier("simple", ("x1",)), PlannedTier("complex", ("x2",))), strategy))
    assert refused.value.reason == "NO_ELIGIBLE_TARGET"


async def test_no_other_tier_takes_the_place_of_a_direct_one() -> None:
    with pytest.raises(FailedPrecondition):
        await run(Plan((PlannedTier("simple", ("x1",)), PlannedTier("complex", ("c1",))), Strategy.DIRECT))


async def test_a_skipped_target_costs_nothing_and_counts_as_skipped() -> None:
    bench = Bench({"a1": ["an answer"]})
    execution = await bench.executor.execute(chat(), Plan((PlannedTier("simple", ("x1", "a1")),)), None, 10.0)
    skipped, answered = execution.attempts
    assert (skipped.outcome, skipped.cost_nanousd, skipped.provider) == (AttemptOutcome.SKIPPED, 0, "")
    assert execution.cost_nanousd == answered.cost_nanousd
    assert bench.asked == ["a1"]


@pytest.mark.parametrize(
    ("gate", "spec"),
    [("judge", JudgeSpec(target="x1")), ("self_evaluation", SelfEvaluationSpec(target="x1"))],
)
async def test_a_grader_that_is_not_configured_here_leaves_its_gate_without_a_say(
    gate: str, spec: JudgeSpec | SelfEvaluationSpec
) -> None:
    bench = Bench({"a1": ["an answer"], "c1": ["a better one"]})
    plan = Plan((PlannedTier("simple", ("a1",), gates=(spec,)), PlannedTier("complex", ("c1",))))
    execution = await bench.executor.execute(chat(), plan, None, 10.0)
    verdicts = {verdict.gate: verdict.verdict for verdict in execution.attempts[0].verdicts}
    assert verdicts[gate] is Verdict.ABSTAIN
    assert ("x1", TARGET_UNKNOWN) in [(one.target, one.error_reason) for one in execution.attempts]


async def test_the_next_target_of_the_tier_gives_the_opinion_of_one_that_is_not_configured_here() -> None:
    gate = AgreementSpec(second_target="x1")
    bench = Bench({"a1": ["42"], "a2": ["42"], "c1": ["42"]})
    plan = Plan((PlannedTier("simple", ("a1", "a2"), gates=(gate,)), PlannedTier("complex", ("c1",))))
    execution = await bench.executor.execute(chat(), plan, None, 10.0)
    assert execution.accepted
    assert bench.asked == ["a1", "a2"]


names = st.lists(st.sampled_from(HERE + ELSEWHERE), min_size=1, max_size=4, unique=True)


@given(
    st.lists(names, min_size=1, max_size=4), st.sampled_from([one for one in Strategy if one is not Strategy.DIRECT])
)
async def test_as_long_as_one_target_is_known_to_both_there_is_an_answer(
    tiers: list[list[str]], strategy: Strategy
) -> None:
    plan = Plan(tuple(PlannedTier(f"t{i}", tuple(targets)) for i, targets in enumerate(tiers)), strategy)
    known = [name for targets in tiers for name in targets if name in HERE]
    if not known:
        with pytest.raises(FailedPrecondition):
            await run(plan)
        return
    attempts = await run(plan)
    skipped = [name for name, reason in attempts if reason == TARGET_UNKNOWN]
    assert sorted(skipped) == sorted(name for targets in tiers for name in targets if name in ELSEWHERE)
    assert any(name in known and not reason for name, reason in attempts)
