"""Which answers are compared, at whose cost, and that no caller ever waits for it."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.canary.canary import UNDER_WAY_MAX, CanaryOutcome
from services.orchestrator.canary.sample import Sample
from services.orchestrator.canary.spending import Bound, bounds_of, output_tokens_max
from services.orchestrator.hops import ExecutionError
from services.runtime.errors import Internal, SpillwayError, Unavailable
from spillway.chat import ChatRequest, FinishReason, GenerationParams, Message, Role, Usage
from spillway.routing import FailedExecution, GradeSource, OutcomeSource, Strategy, TaskType
from spillway.validation import check_grades, check_plan
from tests.unit.orchestrator.canary.parts import CALL_NANOUSD, OURS, THEIRS, Models, Nest, canary_settings, sample
from tests.unit.orchestrator.ladder import settings_of, target, tier

WHOLE = 3 * CALL_NANOUSD


async def compared(nest: Nest, *samples: Sample) -> None:
    for each in samples or (sample(),):
        nest.canary.offer(each)
    await nest.settled()


async def test_flagship_and_judge_are_asked_directly_and_both_orders_are_graded() -> None:
    nest = Nest()
    await compared(nest)
    (grade,) = nest.grades
    assert (grade.score, grade.flagship_score, grade.orders_agree) == (0.9, 0.6, True)
    assert (grade.request_id, grade.tenant, grade.source) == ("r1", "acme", GradeSource.CANARY)
    assert (grade.tier, grade.target, grade.flagship_target, grade.judge_target) == (
        "simple",
        "simple-1",
        "complex-1",
        "complex-1",
    )
    assert (grade.cost_nanousd, grade.graded_at_unix_s) == (WHOLE, nest.clock.unix())
    check_grades([grade])
    assert nest.outcomes == [(CanaryOutcome.GRADED, WHOLE)]
    for _, plan, task_type, _ in nest.models.asked:
        check_plan(plan)
        assert (plan.strategy, plan.tiers[0].targets, plan.tiers[0].gates) == (Strategy.DIRECT, ("complex-1",), ())
        assert task_type is TaskType.CODE
    first, second = (chat.messages[-1].text for chat, *_ in nest.models.asked[1:])
    assert first.index(OURS) < first.index(THEIRS)
    assert second.index(THEIRS) < second.index(OURS)


async def test_the_judge_may_be_another_model_and_hears_no_name() -> None:
    nest = Nest(canary_settings(judge="medium-1"))
    await compared(nest)
    assert [plan.tiers[0].targets for _, plan, *_ in nest.models.asked] == [
        ("complex-1",),
        ("medium-1",),
        ("medium-1",),
    ]
    assert nest.grades[0].judge_target == "medium-1"
    for chat, *_ in nest.models.asked[1:]:
        text = "".join(message.text for message in chat.messages)
        assert not any(name in text for name in ("simple", "medium", "complex", "acme", "r1\n"))


async def test_every_look_has_a_word_of_its_own() -> None:
    nest = Nest()
    await compared(nest, sample("a"), sample("b"))
    words = {chat.messages[-1].text.split(">", 1)[0] for chat, *_ in nest.models.asked if "REQUEST" in str(chat)}
    assert len(words) == 4


async def test_a_judge_that_prefers_a_place_makes_no_difference() -> None:
    nest = Nest(models=Models(ours=5, theirs=5, first_bonus=3))
    await compared(nest)
    assert (nest.grades[0].score, nest.grades[0].flagship_score, nest.grades[0].orders_agree) == (0.65, 0.65, False)


async def test_the_shares_draw_decides_alone() -> None:
    nest = Nest(canary_settings(share=0.25), draws=[0.24, 0.25, 0.9, 0.0])
    await compared(nest, *(sample(name) for name in "abcd"))
    assert [grade.request_id for grade in nest.grades] == ["a", "d"]
    assert len(nest.outcomes) == 2


async def test_without_a_share_nobody_is_asked() -> None:
    nest = Nest(canary_settings(share=0.0))
    await compared(nest)
    assert (nest.models.asked, nest.outcomes) == ([], [])


async def test_few_are_under_way_some_wait_and_the_rest_is_left_out_at_once() -> None:
    nest = Nest(canary_settings(queued_max=3), models=Models(held=asyncio.Event()))
    for index in range(UNDER_WAY_MAX + 5):
        nest.canary.offer(sample(f"r{index}"))
    assert nest.models.asked == []  # offering runs nothing
    assert (nest.canary.under_way, nest.canary.waiting) == (UNDER_WAY_MAX, 3)
    assert nest.outcomes == [(CanaryOutcome.LEFT_OUT, 0)] * 2
    await asyncio.sleep(0)
    assert nest.models.under_way == UNDER_WAY_MAX
    assert nest.models.held is not None
    nest.models.held.set()
    await nest.settled()
    assert nest.models.under_way_most == UNDER_WAY_MAX
    assert len(nest.grades) == UNDER_WAY_MAX + 3


async def test_after_stop_nothing_begins_and_what_waits_is_let_go() -> None:
    nest = Nest(models=Models(held=asyncio.Event()))
    for index in range(UNDER_WAY_MAX + 2):
        nest.canary.offer(sample(f"r{index}"))
    nest.canary.stop()
    nest.canary.offer(sample("late"))
    assert nest.outcomes == [(CanaryOutcome.LEFT_OUT, 0)] * 3
    assert nest.models.held is not None
    nest.models.held.set()
    assert await nest.canary.close(5) == 0
    assert len(nest.grades) == UNDER_WAY_MAX
    nest.canary.offer(sample("too late"))
    await nest.settled()
    assert nest.outcomes[-1] == (CanaryOutcome.LEFT_OUT, 0)
    assert len(nest.grades) == UNDER_WAY_MAX


async def test_what_is_cut_off_counts_with_the_bound_of_its_call() -> None:
    nest = Nest(models=Models(held=asyncio.Event()))
    one = sample()
    nest.canary.offer(one)
    assert await nest.canary.close(0) == 1
    flagship = nest.settings.flagship_target
    bounds = bounds_of(one.chat, one.message, output_tokens_max(one.chat, one.usage), flagship, flagship)
    assert nest.outcomes == [(CanaryOutcome.CUT_OFF, bounds.flagship.cost_nanousd)]
    assert nest.canary.under_way == 0


def spent(outcome: CanaryOutcome, calls: int) -> list[tuple[CanaryOutcome, int]]:
    return [(outcome, calls * CALL_NANOUSD)]


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        ([ExecutionError(Unavailable(), FailedExecution((), CALL_NANOUSD))], spent(CanaryOutcome.FLAGSHIP_FAILED, 1)),
        ([THEIRS, "no object"], spent(CanaryOutcome.JUDGE_UNREADABLE, 2)),
        ([THEIRS, '{"mark": "guessed", "first": 10, "second": 0}'], spent(CanaryOutcome.JUDGE_UNREADABLE, 2)),
        (
            [THEIRS, ExecutionError(Unavailable(), FailedExecution((), 2 * CALL_NANOUSD))],
            spent(CanaryOutcome.JUDGE_FAILED, 3),
        ),
    ],
)
async def test_without_both_grades_there_is_no_grade_and_its_cost_counts(
    says: list[str | SpillwayError], outcome: list[tuple[CanaryOutcome, int]]
) -> None:
    nest = Nest(models=Models(says=list(says)))
    await compared(nest)
    assert (nest.grades, nest.outcomes) == ([], outcome)
    kept = [(each.outcome, each.cost_nanousd) for each in nest.ungraded]
    assert kept == [(ended.value, cost_nanousd) for ended, cost_nanousd in outcome]
    check_grades(nest.ungraded)
    assert [(each.score, each.flagship_score, each.orders_agree) for each in nest.ungraded] == [(0.0, 0.0, False)]


@pytest.mark.parametrize("error", [Unavailable(), Internal()])
async def test_a_call_of_which_nobody_says_what_it_did_counts_with_its_bound(error: SpillwayError) -> None:
    nest, one = Nest(models=Models(says=[error])), sample()
    await compared(nest, one)
    flagship = nest.settings.flagship_target
    bounds = bounds_of(one.chat, one.message, output_tokens_max(one.chat, one.usage), flagship, flagship)
    assert nest.outcomes == [(CanaryOutcome.FLAGSHIP_FAILED, bounds.flagship.cost_nanousd)]


@pytest.mark.parametrize(("accepted", "finish"), [(False, FinishReason.STOP), (True, FinishReason.LENGTH)])
async def test_a_flagship_that_was_cut_off_is_not_held_against_itself(accepted: bool, finish: FinishReason) -> None:
    nest = Nest()
    await compared(nest)
    plan = nest.models.asked[0][1]
    nest.models.says = [Models.execution("Ly", plan, accepted=accepted, finish_reason=finish)]
    await compared(nest)
    assert nest.outcomes[1:] == spent(CanaryOutcome.FLAGSHIP_INCOMPLETE, 1)
    assert len(nest.grades) == 1


async def test_a_days_money_is_never_exceeded_and_comes_again_the_next_day() -> None:
    one = sample()
    flagship = canary_settings().flagship_target
    bound = bounds_of(one.chat, one.message, output_tokens_max(one.chat, one.usage), flagship, flagship).total
    nest = Nest(canary_settings(cost_usd_per_day=(bound.cost_nanousd + 2 * WHOLE) / 1e9))
    for index in range(5):  # one after the other: what was not spent is free again
        await compared(nest, sample(f"r{index}"))
    assert [outcome for outcome, _ in nest.outcomes] == [CanaryOutcome.GRADED] * 3 + [CanaryOutcome.OVER_BUDGET] * 2
    nest.clock.advance(86_400)
    await compared(nest, sample("tomorrow"))
    assert nest.outcomes[-1] == (CanaryOutcome.GRADED, WHOLE)


async def test_those_under_way_at_once_reserve_before_they_spend() -> None:
    one = sample()
    flagship = canary_settings().flagship_target
    bound = bounds_of(one.chat, one.message, output_tokens_max(one.chat, one.usage), flagship, flagship).total
    nest = Nest(canary_settings(cost_usd_per_day=(1.9 * bound.cost_nanousd) / 1e9))
    await compared(nest, *(sample(f"r{index}") for index in range(UNDER_WAY_MAX)))
    assert [outcome for outcome, _ in nest.outcomes].count(CanaryOutcome.OVER_BUDGET) == UNDER_WAY_MAX - 1


async def test_plans_carry_what_is_left_as_their_ceiling() -> None:
    nest, one = Nest(), sample()
    await compared(nest, one)
    flagship = nest.settings.flagship_target
    total = bounds_of(one.chat, one.message, output_tokens_max(one.chat, one.usage), flagship, flagship).total
    ceilings = [plan.cost_nanousd_max for _, plan, *_ in nest.models.asked]
    assert ceilings == [total.cost_nanousd, total.cost_nanousd - CALL_NANOUSD, total.cost_nanousd - 2 * CALL_NANOUSD]


async def test_models_that_cost_nothing_need_no_money() -> None:
    free = settings_of(
        tier("simple"), tier("complex", target("complex-1", usd=0.0)), canary={"share": 1.0, "cost_usd_per_day": 0.0}
    )
    nest = Nest(free)
    await compared(nest)
    assert len(nest.grades) == 1
    assert {plan.cost_nanousd_max for _, plan, *_ in nest.models.asked} == {None}


class Purse:
    """A tenant's budget: refuses, breaks, or notes what it was charged."""

    def __init__(self, *, refuses: bool = False, error: SpillwayError | None = None) -> None:
        self._refuses, self._error = refuses, error
        self.bounds: list[Bound] = []
        self.charged: list[tuple[int, int]] = []

    async def admit(self, _: Sample, bound: Bound) -> Purse | None:
        self.bounds.append(bound)
        if self._error is not None:
            raise self._error
        return None if self._refuses else self

    async def settle(self, cost_nanousd: int, tokens: int) -> None:
        self.charged.append((cost_nanousd, tokens))


async def test_the_tenants_budget_is_asked_first_and_charged_what_it_came_to() -> None:
    purse = Purse()
    nest = Nest(admit=purse.admit)
    await compared(nest)
    assert purse.charged == [(WHOLE, 3 * 14)]
    assert purse.bounds[0].cost_nanousd > WHOLE


@pytest.mark.parametrize("purse", [Purse(refuses=True), Purse(error=Unavailable())], ids=["refuses", "breaks"])
async def test_a_tenant_without_budget_is_not_compared(purse: Purse) -> None:
    nest = Nest(admit=purse.admit)
    await compared(nest)
    assert (nest.models.asked, nest.outcomes, purse.charged) == ([], [(CanaryOutcome.OVER_QUOTA, 0)], [])


async def test_a_tenant_is_charged_for_what_was_cut_off() -> None:
    purse = Purse()
    nest = Nest(models=Models(held=asyncio.Event()), admit=purse.admit)
    nest.canary.offer(sample())
    assert await nest.canary.close(0) == 1
    assert purse.charged[0][0] == nest.outcomes[0][1] > 0


async def test_the_classifier_hears_whether_the_tier_sufficed() -> None:
    nest = Nest(models=Models(ours=9, theirs=10))
    await compared(nest, sample(cluster="c7"))
    nest.models.ours = 8
    await compared(nest, sample("other", cluster="c7"), sample("none"))
    assert [(each.cluster, each.tier, each.sufficed, each.source) for each in nest.learned] == [
        ("c7", "simple", True, OutcomeSource.CANARY),
        ("c7", "simple", False, OutcomeSource.CANARY),
    ]


async def test_what_is_counted_is_the_flagships_grade_less_the_answers() -> None:
    nest = Nest(models=Models(ours=4, theirs=7))
    await compared(nest)
    drops = {each.stream: each.drop.mean for each in nest.monitor.standings()}
    assert drops == {"overall": pytest.approx(0.3), "code": pytest.approx(0.3)}


async def test_the_same_request_has_the_same_grade_id_and_another_tenants_another() -> None:
    nest = Nest()
    await compared(nest, sample("r"), sample("r"), sample("r", tenant="other"))
    ids = [grade.grade_id for grade in nest.grades]
    assert (ids[0] == ids[1], len(set(ids))) == (True, 2)


async def test_with_another_flagship_what_was_under_way_is_graded_but_not_counted() -> None:
    nest = Nest(models=Models(held=asyncio.Event()))
    nest.canary.offer(sample())
    await asyncio.sleep(0)
    nest.canary.apply(settings_of(flagship="medium-1", canary={"share": 1.0, "cost_usd_per_day": 100.0}))
    assert nest.models.held is not None
    nest.models.held.set()
    await nest.settled()
    assert nest.grades[0].flagship_target == "complex-1"
    assert nest.monitor.standings() == ()
    await compared(nest, sample("after"))
    assert nest.grades[1].flagship_target == "medium-1"
    assert [each.drop.grades for each in nest.monitor.standings()] == [1, 1]


def test_the_flagship_may_write_as_much_as_was_asked_for_and_not_without_end() -> None:
    def asked(tokens: int | None) -> ChatRequest:
        return ChatRequest((Message.of(Role.USER, "?"),), GenerationParams(max_output_tokens=tokens))

    assert output_tokens_max(asked(100), Usage(10, 90)) == 100
    assert output_tokens_max(asked(None), Usage(10, 90)) == 4_096
    assert output_tokens_max(asked(None), Usage(10, 3_000)) == 12_000
    assert output_tokens_max(asked(50_000), Usage(10, 10)) == 4_096
