"""Bounds before a call, and a day's budget."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.canary.judging import pair_chat
from services.orchestrator.canary.spending import DailyBudget, Reserved, bounds_of
from spillway.chat import ChatRequest, Message, Role, Usage
from spillway.settings import Settings
from tests.unit.orchestrator.ladder import settings_of

DAY_S = 86_400
STEPS = st.tuples(st.integers(0, 60_000), st.integers(0, 700), st.floats(0, 1), st.integers(0, 9))
SETTINGS: Settings = settings_of(flagship="complex-1", canary={"judge": "medium-1"})


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 700), st.floats(0, 1), st.integers(0, 9)), max_size=60)
)
def test_no_day_spends_more_than_its_budget_in_whatever_order_things_end(
    steps: list[tuple[int, int, float, int]],
) -> None:
    most = 1_000
    budget, now_s = DailyBudget(most / 1e9), 0.0
    open_ones: list[Reserved] = []
    spent: dict[int, int] = {}
    for passes_s, bound, share, ending in steps:
        now_s += passes_s
        reserved = budget.reserve(bound, now_s)
        if reserved is not None:
            open_ones.append(reserved)
        if ending < len(open_ones):
            done = open_ones.pop(ending)
            cost = int(done.cost_nanousd * share)
            budget.settle(done, cost)
            spent[done.day] = spent.get(done.day, 0) + cost
        assert budget.taken_nanousd() <= most
    for done in open_ones:
        spent[done.day] = spent.get(done.day, 0) + done.cost_nanousd
    assert all(each <= most for each in spent.values())


def test_a_clock_that_goes_back_gives_no_money_again() -> None:
    budget = DailyBudget(1e-6)
    assert budget.reserve(1_000, 10 * DAY_S) is not None
    assert budget.reserve(1_000, 9 * DAY_S) is None
    assert budget.reserve(1_000, 10 * DAY_S + 5) is None
    assert budget.reserve(1_000, 11 * DAY_S) is not None


def test_a_smaller_budget_holds_at_once_and_a_larger_one_adds() -> None:
    budget = DailyBudget(1e-6)
    assert budget.reserve(600, 0) is not None
    budget.apply(5e-7)
    assert budget.reserve(1, 0) is None
    budget.apply(2e-6)
    assert budget.reserve(1_400, 0) is not None


@settings(max_examples=60)
@given(st.text(max_size=400), st.text(max_size=400), st.integers(1, 9_000))
def test_a_bound_covers_a_tokenizer_that_makes_a_token_of_every_byte(
    question: str, text: str, output_tokens: int
) -> None:
    flagship, judge = SETTINGS.tiers[2].targets[0], SETTINGS.tiers[1].targets[0]
    chat = ChatRequest((Message.of(Role.USER, question),))
    answer = Message.of(Role.ASSISTANT, text)
    bounds = bounds_of(chat, answer, output_tokens, flagship, judge)
    asked = len(question.encode("utf-8", "replace"))
    assert bounds.flagship.cost_nanousd >= flagship.price.nanousd(Usage(asked, output_tokens))
    theirs = Message.of(Role.ASSISTANT, "x" * min(4 * output_tokens, 24_000))
    shown = pair_chat(chat, answer, theirs, "0" * 16)
    read = sum(len(message.text.encode("utf-8", "replace")) for message in shown.messages)
    most = shown.generation.max_output_tokens
    assert most is not None
    assert bounds.judge.cost_nanousd >= judge.price.nanousd(Usage(read, most))
    assert bounds.total.cost_nanousd == bounds.flagship.cost_nanousd + 2 * bounds.judge.cost_nanousd
