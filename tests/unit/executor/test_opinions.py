"""Second opinions: who is asked, when they are given up, what they cost, and what the answer is put through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from services.executor.opinions import gate_targets, seats
from services.executor.outcome import Answer, ProviderFailure
from services.executor.providers.provider import FakeStep
from spillway.chat import FormatKind, ResponseFormat
from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    JudgeSpec,
    LogprobSpec,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfEvaluationSpec,
    Strategy,
    Verdict,
)
from tests.support.waiting import until
from tests.unit.executor.builders import DOWN, Bench, chat
from tests.unit.executor.gated import CALL_NANOUSD, HANG, made, plan, run

Steps = dict[str, Iterable[FakeStep | Answer | ProviderFailure | str]]


@pytest.mark.parametrize(
    ("targets", "spec", "down", "expected"),
    [
        (("a1", "a2"), AgreementSpec(), "", ("a2",)),
        (("a1",), AgreementSpec(), "", ("a1",)),  # a second sample
        (("a1", "a2"), AgreementSpec("b1"), "", ("b1",)),
        (("a1",), AgreementSpec("a1"), "", ("a1",)),
        (("a1", "a2"), AgreementSpec("a1"), "", ("a2",)),
        (("a1", "a2"), AgreementSpec(), "a2", ("",)),
        (("a1", "a2", "a3"), AgreementSpec(), "a2", ("a3",)),
        (("a1", "a2"), AgreementSpec("b1"), "b1", ("a2",)),
        (("a1",), AgreementSpec("b1"), "b1", ("",)),
        (("a1",), AgreementSpec("b1", further_targets=("c1", "a1")), "", ("b1", "c1", "a1")),
        (("a1", "a2"), AgreementSpec(further_targets=("a2",)), "", ("", "a2")),
        (("a1",), AgreementSpec("b1", further_targets=("c1",)), "c1", ("b1", "")),
        (("a1",), AgreementSpec(count_earlier=True), "", ()),
        (("a1",), AgreementSpec("a1", count_earlier=True), "", ("a1",)),
        (("a1",), AgreementSpec(further_targets=("c1",), count_earlier=True), "", ("c1",)),
        (("a1", "a2"), AgreementSpec(count_earlier=True), "", ("a2",)),
    ],
)
def test_who_gives_an_opinion(
    targets: tuple[str, ...], spec: AgreementSpec, down: str, expected: tuple[str, ...]
) -> None:
    assert seats(PlannedTier("simple", targets, (spec,)), "a1", lambda name: name == down) == expected


def test_without_an_agreement_gate_nobody_is_asked() -> None:
    assert seats(PlannedTier("simple", ("a1", "a2"), (RulesSpec(),)), "a1", lambda _: False) == ()


def test_every_target_that_a_gate_names_is_known() -> None:
    gates = (AgreementSpec("b1", further_targets=("b2",)), JudgeSpec("c1"), SelfEvaluationSpec(), AgreementSpec())
    assert gate_targets(PlannedTier("simple", ("a1",), gates)) == ("b1", "b2", "c1")


async def test_opinions_are_attempts_with_their_purpose_and_count_in_the_verdict() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"], "b1": ["#### 42"]})
    execution = await run(bench, plan(AgreementSpec("a2", further_targets=("b1",))))
    assert made(execution) == [
        ("a1", "answer", "accepted"),
        ("a2", "second_opinion", "evidence"),
        ("b1", "second_opinion", "evidence"),
    ]
    agreement = execution.attempts[0].verdicts[-1]
    assert agreement.cost_nanousd == CALL_NANOUSD + 5 * CALL_NANOUSD
    assert execution.cost_nanousd == CALL_NANOUSD + agreement.cost_nanousd


async def test_when_enough_agree_the_rest_is_cancelled_and_paid_for() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"], "b1": [HANG]})
    execution = await run(bench, plan(AgreementSpec("a2", further_targets=("b1",), agreeing_min=1)))
    assert made(execution)[-1] == ("b1", "second_opinion", "cancelled")
    assert execution.accepted
    assert bench.provider.cancelled == 1
    assert execution.attempts[2].cost_nanousd > 0
    agreement = execution.attempts[0].verdicts[-1]
    assert agreement.cost_nanousd == CALL_NANOUSD + execution.attempts[2].cost_nanousd


async def test_when_enough_differ_the_rest_is_not_waited_for() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 41"], "b1": [HANG], "c1": ["42"]})
    execution = await run(bench, plan(AgreementSpec("a2", further_targets=("b1",))))
    assert execution.tier == "complex"
    assert bench.provider.cancelled == 1


async def test_a_gate_that_has_failed_ends_the_wait_for_opinions() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": [HANG], "c1": ["#### 42 it is"]})
    execution = await run(bench, plan(AgreementSpec(), RulesSpec(chars_min=10)))
    assert execution.tier == "complex"
    assert bench.provider.cancelled == 1


async def test_the_same_target_twice_is_sampled_twice() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"]})
    await run(bench, plan(AgreementSpec("a2", further_targets=("a2", "a1"))))
    warm = [(call.model, call.chat.generation.temperature) for call in bench.provider.calls]
    assert warm == [("a1", None), ("a2", None), ("a2", 0.7), ("a1", 0.7)]


async def test_one_of_three_opinions_may_be_missing() -> None:
    steps: Steps = {"a1": ["#### 42"], "a2": [DOWN], "b1": ["#### 42"], "c1": ["42"]}
    execution = await run(Bench(steps), plan(AgreementSpec("a2", further_targets=("b1",), agreeing_min=1)))
    assert execution.tier == "simple"
    execution = await run(Bench(steps), plan(AgreementSpec("a2", further_targets=("b1",))))
    assert execution.tier == "complex"


async def test_the_first_opinion_stands_in_and_the_others_are_opinions_on_it() -> None:
    bench = Bench({"a1": [DOWN], "a2": ["#### 42"], "b1": ["#### 42"]})
    execution = await run(bench, plan(AgreementSpec("a2", further_targets=("b1",), agreeing_min=1)))
    assert (execution.target, execution.accepted, execution.fallbacks) == ("a2", True, 1)
    assert made(execution)[0] == ("a1", "answer", "error")
    assert made(execution)[2] == ("b1", "second_opinion", "evidence")


async def test_an_opinion_that_cannot_be_afforded_is_not_asked() -> None:
    bench = Bench({"a1": ["#### 42"], "c1": ["43"]})
    execution = await run(bench, plan(AgreementSpec("c1"), cost_nanousd_max=5_000_000))
    assert bench.asked == ["a1"]
    assert made(execution)[1] == ("c1", "second_opinion", "skipped")


async def test_opinions_under_way_count_against_the_ceiling() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"]})
    # The answer leaves a third for each of the two; the first of them takes what is left.
    given = plan(AgreementSpec("a2", further_targets=("a2",)), cost_nanousd_max=6_000_000)
    execution = await run(bench, given)
    assert bench.asked == ["a1", "a2"]
    assert made(execution)[2] == ("a2", "second_opinion", "skipped")


async def test_log_probabilities_are_asked_of_the_answer_alone_and_only_where_they_are_read() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"], "c1": ["#### 42"]})
    await run(bench, plan(AgreementSpec(), LogprobSpec(mean_min=-1)))
    assert [(call.model, call.want_logprobs) for call in bench.provider.calls] == [
        ("a1", True),
        ("a2", False),
        ("c1", False),
    ]


async def test_one_probability_counts_every_opinion() -> None:
    bench = Bench({"a1": ["#### 42"], "a2": ["#### 42"], "b1": ["#### 42"], "c1": ["43"]})
    spec = AgreementSpec("a2", further_targets=("b1",), agreeing_min=1)
    execution = await run(bench, plan(spec, CompositeSpec(threshold=0.5)))
    assert made(execution)[1:] == [("a2", "second_opinion", "evidence"), ("b1", "second_opinion", "evidence")]
    found = {given.gate: given for given in execution.attempts[0].verdicts}
    assert found["composite"].verdict is Verdict.PASS
    assert found["composite"].score is not None
    assert found["composite"].score > 0.5


async def test_the_way_out_is_taken_and_never_shown() -> None:
    bench = Bench({"a1": ["[ESCALATE]"], "c1": ["42"]})
    execution = await run(bench, plan(escape_valve=True))
    assert (execution.tier, execution.message.text) == ("complex", "42")
    asked_first, asked_then = (call.chat.messages[0].text for call in bench.provider.calls)
    assert "[ESCALATE]" in asked_first
    assert "[ESCALATE]" not in asked_then
    last = await run(Bench({"c1": ["About 42.\n[ESCALATE]"]}), Plan((PlannedTier("complex", ("c1",)),)))
    assert last.message.text == "About 42."


async def test_a_fence_around_json_does_not_reach_the_caller() -> None:
    form = chat(response_format=ResponseFormat(FormatKind.JSON_OBJECT))
    execution = await run(Bench({"a1": ['```json\n{"a": 1}\n```']}), plan(), form)
    assert execution.message.text == '{"a": 1}'


@pytest.mark.parametrize(("cost_nanousd_max", "asked"), [(14_000_000, ["a1", "b1"]), (None, ["a1", "b1", "a2"])])
async def test_a_hedge_counts_the_opinions_that_are_still_asked(cost_nanousd_max: int | None, asked: list[str]) -> None:
    bench = Bench({name: [HANG] for name in ("a1", "a2", "b1", "c1")}, hedging={"share_max": 1.0})
    # The answer takes half of it, since an opinion is to come, and that one the rest.
    given = plan(AgreementSpec("b1"), strategy=Strategy.HEDGED, cost_nanousd_max=cost_nanousd_max)
    task = asyncio.create_task(run(bench, given))
    await until(lambda: bench.provider.in_flight >= 2)
    bench.clock.advance(3.0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.asked[: len(asked)] == asked
    assert ("a2" in bench.asked) is ("a2" in asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
