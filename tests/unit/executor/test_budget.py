"""Time and money: the stated rules."""

from __future__ import annotations

import pytest

from services.executor import budget
from services.executor.gates import hard_failure, self_confidence
from services.executor.prompt import another_sample, augment
from services.executor.targets import Lease, Refusal, TargetPool
from spillway.chat import ChatRequest, GenerationParams, ImagePart, Message, Role, TextPart
from spillway.routing import PlannedTier, SelfConfidenceSpec
from spillway.settings import Price
from tests.unit.executor.builders import chat, settings


def test_a_rung_leaves_half_and_the_last_one_takes_all() -> None:
    assert budget.rung_reserve_s(60.0, is_last=False) == 30.0
    assert budget.rung_reserve_s(60.0, is_last=True) == 0.0


@pytest.mark.parametrize(
    ("remaining", "reserve", "tier", "fallback", "expected"),
    [
        (60.0, 30.0, 60.0, False, 30.0),
        (60.0, 30.0, 60.0, True, 15.0),
        (60.0, 0.0, 10.0, True, 10.0),
        (0.03, 0.0, 10.0, True, 0.02),
        (0.01, 0.0, 10.0, False, None),
        (30.0, 30.0, 10.0, False, None),
    ],
)
def test_the_time_of_an_attempt(
    remaining: float, reserve: float, tier: float, fallback: bool, expected: float | None
) -> None:
    assert budget.attempt_timeout_s(remaining, reserve, tier, has_fallback=fallback) == expected


def test_an_estimate_counts_everything_that_is_paid_for() -> None:
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
    plain = budget.estimate_call(chat("x" * 400), price)
    assert plain == 1_000 * (100 + 4 + budget.NOTES_CHARS_MAX // 4) + 10_000 * 1_024
    assert budget.estimate_call(chat("x" * 400, generation=GenerationParams(max_output_tokens=24)), price) == (
        plain - 10_000 * 1_000
    )
    image = ChatRequest((Message(Role.USER, (TextPart("x" * 400), ImagePart(url="https://x/y"))),))
    assert budget.estimate_call(image, price) == plain + 1_000 * 1_000


def test_the_ceiling_itself_may_be_reached() -> None:
    ceiling = budget.CostCeiling(100)
    ceiling.spend(60)
    assert ceiling.admits(40)
    assert not ceiling.admits(41)
    assert budget.CostCeiling(None).admits(10**18)


def test_additions_stand_in_the_system_message_and_change_nothing_else() -> None:
    tier = PlannedTier("simple", ("a1",), (SelfConfidenceSpec(),))
    bare = augment(chat("hi"), tier, ("empty",))
    assert [message.role for message in bare.messages] == [Role.SYSTEM, Role.USER]
    assert bare.messages[1] == chat("hi").messages[0]
    own = ChatRequest((Message.of(Role.SYSTEM, "Be brief."), *chat("hi").messages))
    added = augment(own, tier, ())
    assert [message.role for message in added.messages] == [Role.SYSTEM, Role.USER]
    assert added.messages[0].parts[0] == TextPart("Be brief.")
    assert self_confidence.INSTRUCTION in added.messages[0].text
    assert augment(own, PlannedTier("simple", ("a1",)), ()) is own


def test_the_way_out_is_offered_only_where_a_better_model_can_follow() -> None:
    tier = PlannedTier("simple", ("a1",), escape_valve=True)
    assert hard_failure.ESCALATE in augment(chat("hi"), tier, ()).messages[0].text
    assert augment(chat("hi"), tier, (), is_last=True) == chat("hi")


def test_additions_are_bounded() -> None:
    tier = PlannedTier("simple", ("a1",), (SelfConfidenceSpec(),), escape_valve=True)
    added = augment(chat("hi"), tier, ("x" * 5_000,) * 20)
    assert len(added.messages[0].text) <= budget.NOTES_CHARS_MAX


def test_a_second_sample_may_say_something_else() -> None:
    request = chat(generation=GenerationParams(temperature=1.5, seed=1))
    assert another_sample(request).generation == GenerationParams(temperature=1.5)
    assert another_sample(chat()).generation.temperature == 0.7


def test_a_lease_holds_one_place() -> None:
    pool = TargetPool(settings(), random=lambda: 0.0)
    limit = pool["a1"].concurrency_max
    leases = [pool.take("a1", 0.0) for _ in range(limit)]
    assert all(isinstance(lease, Lease) for lease in leases)
    assert pool.take("a1", 0.0) == Refusal("CONCURRENCY_LIMIT")
    assert isinstance(pool.take("a2", 0.0), Lease)
    assert [(state.target.name, state.in_flight) for state in pool.states(0.0)][:2] == [("a1", limit), ("a2", 1)]
    assert "a1" in pool
    assert "nobody" not in pool
