"""A pool of a new configuration beside the one before: what is known of targets that stay the same."""

from __future__ import annotations

from typing import Any

from services.executor.breaker import BreakerState, CallResult
from services.executor.lease import Lease, Refusal
from services.executor.target_health import TargetChange
from services.executor.targets import TargetPool
from spillway.settings import Settings
from tests.unit.executor.builders import target

BREAKER = {"calls_min": 3, "open_s": 5.0, "open_s_max": 5.0, "window_s": 30.0}


def settings(targets: list[dict[str, Any]], *, url: str = "http://127.0.0.1:1/v1", **executor: Any) -> Settings:
    return Settings.model_validate(
        {
            "providers": {"p": {"base_url": url}},
            "tiers": [{"name": "simple", "targets": targets}],
            "executor": {"breaker": BREAKER, **executor},
        }
    )


def changed(before: TargetPool, *targets: dict[str, Any], **options: Any) -> TargetPool:
    return TargetPool(settings(list(targets), **options), random=lambda: 0.0, before=before)


def pool(*targets: dict[str, Any], **options: Any) -> TargetPool:
    return TargetPool(settings(list(targets), **options), random=lambda: 0.0)


def fail(subject: TargetPool, name: str, times: int) -> None:
    for _ in range(times):
        lease = subject.take(name, 0.0)
        assert isinstance(lease, Lease)
        subject.give_back(lease, CallResult.FAILURE, 0.0)


def state(subject: TargetPool, name: str, now_s: float = 0.0) -> BreakerState:
    return next(one.breaker.state for one in subject.states(now_s) if one.target.name == name)


def test_an_open_breaker_stays_open_whatever_changes_around_its_target() -> None:
    before = pool(target("a1"), target("a2"))
    fail(before, "a1", 3)
    after = changed(before, target("b1"), target("a1", price=7.0, weight=2.0, concurrency_max=1))
    assert state(after, "a1") is BreakerState.OPEN
    assert after["a1"].price.input_usd_per_mtok == 7.0
    assert before["a1"].price.input_usd_per_mtok == 1.0


def test_another_model_or_another_place_begins_anew() -> None:
    before = pool(target("a1"), target("a2"))
    fail(before, "a1", 3)
    fail(before, "a2", 3)
    other = {**target("a2"), "model": "another"}
    assert state(changed(before, target("a1"), other), "a2") is BreakerState.CLOSED
    moved = changed(before, target("a1"), url="http://127.0.0.1:2/v1")
    assert state(moved, "a1") is BreakerState.CLOSED


def test_what_calls_of_before_say_counts_for_both() -> None:
    before = pool(target("a1"))
    leases = [before.take("a1", 0.0) for _ in range(3)]
    after = changed(before, target("a1"))
    for lease in leases:
        assert isinstance(lease, Lease)
        before.give_back(lease, CallResult.FAILURE, 0.0)
    before.latencies["a1"].record(3.0)
    assert state(after, "a1") is BreakerState.OPEN
    assert after.latencies["a1"].average_s == 3.0


def test_calls_under_way_keep_their_places() -> None:
    before = pool(target("a1", concurrency_max=2))
    before.take("a1", 0.0)
    after = changed(before, target("a1", concurrency_max=2))
    assert isinstance(after.take("a1", 0.0), Lease)
    assert isinstance(after.take("a1", 0.0), Refusal)
    assert isinstance(before.take("a1", 0.0), Refusal)


def test_a_breaker_goes_by_its_new_settings_from_then_on() -> None:
    before = pool(target("a1"))
    fail(before, "a1", 2)
    after = changed(before, target("a1"), breaker={**BREAKER, "calls_min": 4, "window_calls_max": 10})
    fail(after, "a1", 1)
    assert state(after, "a1") is BreakerState.CLOSED
    fail(after, "a1", 1)
    assert state(after, "a1") is BreakerState.OPEN


def test_one_retry_budget_holds_for_all_configurations() -> None:
    before = pool(target("a1"), retry_budget={"calls_min": 2, "share": 0.0})
    assert before.retry_budget.take()
    after = changed(before, target("a1"), retry_budget={"calls_min": 3, "share": 0.0})
    assert after.retry_budget.calls_left == 1.0
    assert before.retry_budget.take()
    assert not after.retry_budget.take()


def test_who_subscribed_once_hears_of_every_configuration() -> None:
    before = pool(target("a1"))
    heard: list[TargetChange] = []
    before.subscribe(heard.append)
    after = changed(before, target("a1"), target("b1"))
    fail(after, "a1", 3)
    fail(after, "b1", 3)
    assert [change.target.name for change in heard] == ["a1", "b1"]
