"""What a request can cost at most, and what it costs at least."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.quotas.bound import bound_of
from spillway.bounds import OUTPUT_TOKENS_LEAST, cost_most, input_tokens_most
from spillway.chat import ChatRequest, GenerationParams, Message, Role
from spillway.routing import AgreementSpec, GateSpec, JudgeSpec, Plan, PlannedTier, Strategy
from spillway.settings import Price

PRICES = {
    name: Price(input_usd_per_mtok=usd, output_usd_per_mtok=4 * usd)
    for name, usd in {"a1": 0.1, "a2": 0.2, "b1": 1.0, "c1": 5.0}.items()
}
CHAT = ChatRequest((Message.of(Role.USER, "What is 6 times 7?"),), GenerationParams(max_output_tokens=1_000))
TIERS = (PlannedTier("simple", ("a1", "a2")), PlannedTier("medium", ("b1",)), PlannedTier("complex", ("c1",)))
INPUT = input_tokens_most(CHAT) + 600


def call(target: str, tokens_out: int = 1_000) -> int:
    return cost_most(PRICES[target], INPUT, tokens_out)


@pytest.mark.parametrize(
    ("plan", "targets"),
    [
        (Plan(TIERS), ["a2", "b1", "c1"]),
        (Plan(TIERS, escalations_max=1), ["b1", "c1"]),
        (Plan(TIERS, escalations_max=0), ["c1"]),
        (Plan(TIERS, Strategy.DIRECT), ["a2"]),
        (Plan(TIERS, Strategy.RACE, escalations_max=0), ["a2", "b1", "c1"]),
        (Plan(TIERS, Strategy.HEDGED), ["a2", "b1", "c1", "c1"]),
        (Plan(TIERS[:2], Strategy.WATERFALL, escalations_max=0), ["a2", "b1"]),
    ],
)
def test_the_most_is_every_answer_that_may_be_asked_for(plan: Plan, targets: list[str]) -> None:
    assert bound_of(CHAT, plan, PRICES).cost_nanousd == sum(call(target) for target in targets)


@pytest.mark.parametrize(
    ("gate", "least"),
    [(AgreementSpec("c1", further_targets=("b1",)), call("c1") + call("b1")), (JudgeSpec("c1"), call("c1", 400))],
)
def test_what_gates_ask_is_in_it(gate: GateSpec, least: int) -> None:
    plan = Plan((replace(TIERS[0], gates=(gate,)),))
    assert bound_of(CHAT, plan, PRICES).cost_nanousd >= call("a2") + least


def test_the_least_is_the_cheapest_answer_worth_having() -> None:
    assert bound_of(CHAT, Plan(TIERS), PRICES).least_cost_nanousd == call("a1", OUTPUT_TOKENS_LEAST)
    short = replace(CHAT, generation=GenerationParams(max_output_tokens=3))
    assert bound_of(short, Plan(TIERS), PRICES).least_cost_nanousd == call("a1", 3)


def test_the_request_s_own_ceiling_bounds_it() -> None:
    bound = bound_of(CHAT, Plan(TIERS, cost_nanousd_max=7), PRICES)
    assert (bound.cost_nanousd, bound.least_cost_nanousd) == (7, 7)


def test_tokens_count_every_call_and_rates_one() -> None:
    bound = bound_of(CHAT, Plan(TIERS, Strategy.DIRECT), PRICES)
    assert (bound.tokens, bound.rate_tokens) == (2 * (INPUT + 1_000), INPUT + 1_000)


def test_a_target_without_a_price_costs_as_much_as_the_dearest() -> None:
    unknown = Plan((PlannedTier("simple", ("gone",)),))
    assert bound_of(CHAT, unknown, PRICES).cost_nanousd == call("c1")
