"""What an attempt tells the pool about its target."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.attempts import AttemptInProgress, Attempts
from services.executor.breaker import BreakerState, Snapshot
from services.executor.lease import Lease
from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.provider import FakeProvider, FakeStep
from services.executor.targets import TargetPool
from services.runtime.clock import FakeClock
from spillway.routing import AttemptOutcome, PlannedTier
from tests.unit.executor.builders import answer, chat, settings

TIER = PlannedTier("simple", ("a1", "a2"), attempt_timeout_s=20.0)


class One:
    """One attempt of a1, over a fake clock."""

    def __init__(self, result: Answer | ProviderFailure, **breaker: Any) -> None:
        self.clock = FakeClock()
        self.pool = TargetPool(settings(breaker=breaker), random=lambda: 0.5)
        self.attempts = Attempts({"p": FakeProvider({"a1": [FakeStep(result)]})}, self.pool, self.clock)

    def begin(self) -> tuple[AttemptInProgress, Lease]:
        lease = self.pool.take("a1", self.clock.monotonic())
        assert isinstance(lease, Lease)
        return self.attempts.begin(TIER, self.pool["a1"], 0.0), lease

    async def complete(self, timeout_s: float = 20.0) -> AttemptInProgress:
        attempt, lease = self.begin()
        await self.attempts.complete(attempt, lease, chat(), timeout_s)
        return attempt

    def seen(self, name: str = "a1") -> Snapshot:
        states = self.pool.states(self.clock.monotonic())
        return next(state.breaker for state in states if state.target.name == name)


async def test_a_reader_that_takes_its_time_does_not_make_the_target_slow() -> None:
    one = One(answer("one two three four"), slow_call_s=5.0)
    attempt, lease = one.begin()
    async for _ in one.attempts.stream(attempt, lease, chat(), 20.0):
        one.clock.advance(10.0)
    assert attempt.latency_s >= 10.0
    seen = one.seen()
    assert (seen.window_calls, seen.window_slow, seen.in_flight) == (1, 0, 0)
    assert one.pool.latencies["a1"].average_s == 0.0


async def test_a_timeout_that_its_reader_caused_is_not_the_targets_fault() -> None:
    timeout = ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT")
    one = One(timeout)
    attempt, lease = one.begin()
    attempt.held_s = 15.0
    async for _ in one.attempts.stream(attempt, lease, chat(), 20.0):
        pass
    assert one.seen().window_calls == 0


@pytest.mark.parametrize(("timeout_s", "counted"), [(20.0, 1), (10.0, 1), (9.0, 0)])
async def test_a_timeout_counts_only_after_a_fair_time(timeout_s: float, counted: int) -> None:
    one = One(ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT"))
    await one.complete(timeout_s)
    assert one.seen().window_failures == counted


async def test_a_timeout_that_the_target_spoke_of_itself_counts_with_its_retry_after() -> None:
    one = One(ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", 7.0))
    await one.complete(0.5)
    assert one.seen().open_for_s == pytest.approx(7.0)


async def test_an_empty_account_closes_off_all_targets_of_the_provider() -> None:
    one = One(ProviderFailure(FailureKind.SPEND_CAP, "PROVIDER_SPEND_CAP"))
    attempt = await one.complete()
    assert (attempt.outcome, attempt.error_reason) == (AttemptOutcome.THROTTLED, "PROVIDER_SPEND_CAP")
    assert {one.seen(name).state for name in ("a1", "a2", "c1")} == {BreakerState.OPEN}
    assert one.seen("c1").open_for_s > 100


@pytest.mark.parametrize("kind", [FailureKind.REJECTED, FailureKind.AUTH, FailureKind.UNSUITABLE])
async def test_a_callers_error_never_counts(kind: FailureKind) -> None:
    one = One(ProviderFailure(kind, "PROVIDER_REJECTED"), calls_min=1)
    await one.complete()
    seen = one.seen()
    assert (seen.state, seen.window_calls, seen.in_flight) == (BreakerState.CLOSED, 0, 0)
