"""Leases of targets: what refuses them, what they cost, and what is known of each target."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from services.executor.breaker import BreakerState, CallResult, PermitError
from services.executor.lease import LEASE_MARGIN_S, RETRY_S, Lease, Refusal
from services.executor.target_health import TargetChange
from services.executor.targets import TargetPool
from spillway.routing import Plan, PlannedTier
from spillway.settings import Settings
from tests.unit.executor.builders import target

BREAKER = {"calls_min": 3, "open_s": 5.0, "open_s_max": 60.0, "window_s": 30.0}


def pool(
    balance: str = "order", seed: int = 0, targets: list[dict[str, Any]] | None = None, **executor: Any
) -> TargetPool:
    settings = Settings.model_validate(
        {
            "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}, "q": {"base_url": "http://127.0.0.1:2/v1"}},
            "tiers": [
                {"name": "simple", "balance": balance, "attempt_timeout_s": 20, "targets": targets or _targets()},
                {"name": "complex", "targets": [target("c1", provider="q")]},
            ],
            "executor": {"breaker": BREAKER, **executor},
        }
    )
    return TargetPool(settings, random=random.Random(seed).random)


def _targets() -> list[dict[str, Any]]:
    return [target("a1", concurrency_max=2), target("a2")]


def taken(subject: TargetPool, name: str, now_s: float = 0.0, *, is_further: bool = False) -> Lease:
    lease = subject.take(name, now_s, is_further=is_further)
    assert isinstance(lease, Lease)
    return lease


def fail(subject: TargetPool, name: str, now_s: float = 0.0, times: int = 1) -> None:
    for _ in range(times):
        subject.give_back(taken(subject, name, now_s), CallResult.FAILURE, now_s)


def refused(subject: TargetPool, name: str, now_s: float = 0.0, *, is_further: bool = False) -> Refusal:
    refusal = subject.take(name, now_s, is_further=is_further)
    assert isinstance(refusal, Refusal)
    return refusal


def test_a_full_target_refuses_until_a_place_is_free() -> None:
    subject = pool()
    leases = [taken(subject, "a1"), taken(subject, "a1")]
    assert refused(subject, "a1") == Refusal("CONCURRENCY_LIMIT", RETRY_S)
    subject.give_back(leases[0], CallResult.NEITHER, 0.0)
    taken(subject, "a1")


def test_leases_that_are_never_returned_do_not_block_a_target_for_ever() -> None:
    subject = pool()
    leases = [taken(subject, "a1"), taken(subject, "a1")]
    refused(subject, "a1", 20.0 + LEASE_MARGIN_S - 0.1)
    taken(subject, "a1", 20.0 + LEASE_MARGIN_S)
    subject.give_back(leases[0], CallResult.SUCCESS, 40.0)
    with pytest.raises(PermitError):
        subject.give_back(leases[0], CallResult.SUCCESS, 40.0)


def test_an_open_breaker_says_when_to_come_back() -> None:
    subject = pool()
    subject.give_back(taken(subject, "a1"), CallResult.FAILURE, 0.0, 12.0)
    assert refused(subject, "a1", 2.0) == Refusal("BREAKER_OPEN", 10.0)


def test_the_earliest_time_of_all_is_told() -> None:
    subject = pool()
    subject.give_back(taken(subject, "a1"), CallResult.FAILURE, 0.0, 12.0)
    subject.give_back(taken(subject, "a2"), CallResult.FAILURE, 0.0, 7.0)
    assert subject.retry_after_s(["a1", "a2"], 1.0) == pytest.approx(6.0)
    assert subject.retry_after_s(["a1", "a2", "c1"], 1.0) == RETRY_S


# The retry budget.


def test_a_target_that_is_well_needs_no_token() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    assert not taken(subject, "a2", is_further=True).has_token


def test_a_target_in_doubt_needs_a_token_for_a_further_call_only() -> None:
    subject = pool(retry_budget={"calls_min": 1})
    fail(subject, "a2")
    assert taken(subject, "a2", is_further=True).has_token
    assert refused(subject, "a2", is_further=True) == Refusal("RETRY_BUDGET", RETRY_S)
    assert not taken(subject, "a2").has_token


def test_a_refused_further_call_holds_nothing() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    fail(subject, "a1")
    for _ in range(10):
        refused(subject, "a1", is_further=True)
    assert [state.breaker.in_flight for state in subject.states(0.0)] == [0, 0, 0]


def test_a_probe_is_in_doubt() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    fail(subject, "a2", times=3)
    assert refused(subject, "a2", 500.0, is_further=True).error_reason == "RETRY_BUDGET"
    taken(subject, "a2", 500.0)


def test_a_call_that_ran_out_of_its_callers_time_raises_a_doubt_but_counts_as_no_failure() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    subject.give_back(taken(subject, "a2"), CallResult.NEITHER, 0.0, unanswered=True)
    refused(subject, "a2", is_further=True)
    assert [state.breaker.window_failures for state in subject.states(0.0)] == [0, 0, 0]


def test_doubt_passes_with_time() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    fail(subject, "a2")
    refused(subject, "a2", BREAKER["window_s"] - 1.0, is_further=True)
    taken(subject, "a2", BREAKER["window_s"], is_further=True)


def test_doubt_passes_with_an_answer() -> None:
    subject = pool(retry_budget={"calls_min": 0})
    fail(subject, "a2")
    subject.give_back(taken(subject, "a2"), CallResult.SUCCESS, 0.0)
    taken(subject, "a2", is_further=True)


def test_a_further_call_that_answers_gives_its_token_back_and_one_that_fails_does_not() -> None:
    subject = pool(retry_budget={"calls_min": 2}, breaker={**BREAKER, "calls_min": 9})
    fail(subject, "a2")
    subject.give_back(taken(subject, "a2", is_further=True), CallResult.SUCCESS, 0.0)
    assert subject.retry_budget.calls_left == 2.0
    fail(subject, "a2")
    subject.give_back(taken(subject, "a2", is_further=True), CallResult.FAILURE, 0.0)
    assert subject.retry_budget.calls_left == 1.0
    subject.give_back(taken(subject, "a2", is_further=True), CallResult.NEITHER, 0.0)
    assert subject.retry_budget.calls_left == 0.0


@pytest.mark.parametrize("opens", [True, False])
def test_in_a_total_outage_a_storm_makes_at_most_eleven_calls_for_ten_requests(opens: bool) -> None:
    """With breakers that open, and with the budget alone."""
    subject = pool(breaker=BREAKER if opens else {**BREAKER, "calls_min": 10_000, "window_calls_max": 10_000})
    requests, calls = 1_000, 0
    for number in range(requests):
        failed_before = False
        for name in ("a1", "a2", "c1"):
            lease = subject.take(name, number * 0.01, is_further=failed_before)
            if isinstance(lease, Lease):
                calls += 1
                failed_before = True
                subject.give_back(lease, CallResult.FAILURE, number * 0.01)
    assert calls <= 1.1 * requests
    assert calls >= (1 if opens else requests)


def test_a_stand_in_that_works_is_never_refused_however_long_the_first_target_fails() -> None:
    never_opens = {**BREAKER, "failure_ratio": 1.0, "calls_min": 10_000, "window_calls_max": 10_000}
    subject = pool(breaker=never_opens, retry_budget={"calls_min": 0, "share": 0.0})
    for number in range(1_000):
        fail(subject, "a1", number * 0.01)
        subject.give_back(taken(subject, "a2", number * 0.01, is_further=True), CallResult.SUCCESS, number * 0.01)


# Spend caps and peers.


def test_a_spend_cap_closes_off_its_provider_and_no_other() -> None:
    subject = pool(retry_after_s_max=200.0)
    subject.spend_cap("a1", 0.0)
    assert [refused(subject, name, 1.0).retry_after_s for name in ("a1", "a2")] == [199.0, 199.0]
    taken(subject, "c1")


def test_what_a_peer_opened_is_left_alone_unless_it_is_another_target_here() -> None:
    subject = pool()
    subject.opened_by_peer("a1", "p", 8.0, 0.0)
    subject.opened_by_peer("a2", "elsewhere", 8.0, 0.0)
    subject.opened_by_peer("unknown", "p", 8.0, 0.0)
    assert refused(subject, "a1", 1.0).retry_after_s == pytest.approx(7.0)
    taken(subject, "a2", 1.0)


def test_listeners_hear_of_every_change() -> None:
    subject, heard = pool(), list[TargetChange]()
    subject.subscribe(heard.append)
    fail(subject, "a1", times=3)
    subject.opened_by_peer("a2", "p", 8.0, 0.0)
    assert [(one.target.name, one.transition.state, one.transition.by_peer) for one in heard] == [
        ("a1", BreakerState.OPEN, False),
        ("a2", BreakerState.OPEN, True),
    ]


# Balance.

THREE = [target("a1", weight=3.0), target("a2", weight=1.0)]
PLAN = Plan(
    (PlannedTier("simple", ("a1", "a2")), PlannedTier("complex", ("c1",)), PlannedTier("elsewhere", ("a2", "a1")))
)


def firsts(subject: TargetPool, now_s: float = 0.0, rounds: int = 2_000) -> float:
    """How often a1 comes first."""
    counts = Counter(subject.arranged(PLAN, now_s).tiers[0].targets[0] for _ in range(rounds))
    return counts["a1"] / rounds


def test_the_order_of_the_plan_stands_without_balance() -> None:
    assert pool().arranged(PLAN, 0.0) == PLAN


def test_weights_of_the_configuration_are_the_shares() -> None:
    assert firsts(pool("weighted", targets=THREE)) == pytest.approx(0.75, abs=0.05)


def test_a_tier_that_is_not_configured_keeps_its_order() -> None:
    subject = pool("weighted", targets=THREE)
    assert {subject.arranged(PLAN, 0.0).tiers[2].targets for _ in range(50)} == {("a2", "a1")}


def test_the_less_loaded_target_is_first() -> None:
    subject = pool("least_loaded")
    for name in ("a1", "a2"):
        subject.latencies[name].record(1.0)
    lease = taken(subject, "a1")
    assert firsts(subject) == 0.0
    subject.give_back(lease, CallResult.NEITHER, 0.0)
    assert 0.4 < firsts(subject) < 0.6


@pytest.mark.parametrize("balance", ["order", "weighted", "least_loaded"])
def test_after_an_outage_a_targets_share_grows(balance: str) -> None:
    subject = pool(balance, slow_start_s=100.0)
    usual = firsts(subject)
    fail(subject, "a1", times=3)
    if balance != "order":
        assert firsts(subject) == 0.0
    now_s = 10.0
    subject.give_back(taken(subject, "a1", now_s), CallResult.SUCCESS, now_s)
    shares = [firsts(subject, now_s + after_s) for after_s in (0.0, 50.0, 100.0)]
    assert shares[0] == pytest.approx(0.1 * usual, abs=0.05)
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] == pytest.approx(usual, abs=0.05)
