"""Time and money: the stated rules."""

from __future__ import annotations

import pytest

from services.executor import budget
from services.executor.gates import hard_failure, self_confidence
from services.executor.lease import RETRY_S, Lease, Refusal
from services.executor.prompt import another_sample, augment
from services.executor.targets import TargetPool
from spillway.chat import ChatRequest, GenerationParams, ImagePart, Message, Role, TextPart
from spillway.routing import PlannedTier, SelfConfidenceSpec
from spillway.settings import Price
from tests.unit.executor.builders import chat, settings


@pytest.mark.parametrize(
    ("typical_s", "reserve_s"),
    [
        ((None,), 0.0),
        ((5.0,), 0.0),
        ((None, None), 30.0),
        ((None, None, None), 40.0),
        ((1.0, 3.0), 45.0),
        ((9.0, 1.0), 30.0),  # never more than half
        ((0.1, 100.0), 54.0),  # never less than a tenth
        ((1.0, None, 3.0), 50.0),  # what is not known is like the others on average
        ((0.0, 0.0), 30.0),
    ],
)
def test_time_is_split_by_how_long_rungs_usually_take(typical_s: tuple[float | None, ...], reserve_s: float) -> None:
    assert budget.rung_reserve_s(60.0, typical_s) == pytest.approx(reserve_s)


def test_a_call_is_given_up_early_only_when_its_target_is_known() -> None:
    assert budget.early_timeout_s(None) is None
    assert budget.early_timeout_s(0.01) == budget.EARLY_S_MIN
    assert budget.early_timeout_s(2.0) == 2.0 * budget.EARLY_FACTOR


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
    assert pool.take("a1", 0.0) == Refusal("CONCURRENCY_LIMIT", RETRY_S)
    assert isinstance(pool.take("a2", 0.0), Lease)
    busy = [(state.target.name, state.breaker.in_flight) for state in pool.states(0.0)]
    assert busy[:2] == [("a1", limit), ("a2", 1)]
    assert "a1" in pool
    assert "nobody" not in pool
