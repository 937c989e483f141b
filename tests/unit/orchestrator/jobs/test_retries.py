"""Which failures of a job are tried again, when, and how often."""

from __future__ import annotations

import random

import pytest

from services.orchestrator.jobs.retries import DELIVERY_DELAYS_S, delivery_delay_s, is_retryable, retry_delay_s
from services.runtime.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    SpillwayError,
    Unavailable,
)
from spillway.routing import JobState
from tests.support.jobs_parts import submission
from tests.unit.orchestrator.jobs.world import SEED, World


async def test_a_failure_that_may_pass_is_tried_again(world: World) -> None:
    world.models.script = [Unavailable("NO_MODEL_AVAILABLE"), Internal()]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries) == (JobState.SUCCEEDED, 3)


async def test_after_the_last_try_the_job_has_failed_and_is_a_dead_letter(world: World) -> None:
    world.models.script = [Unavailable("NO_MODEL_AVAILABLE", "no model") for _ in range(3)]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
        assert await jobs.dead_letters(10) == [done]
    assert (done.state, done.tries) == (JobState.FAILED, 3)
    assert (done.error_reason, done.error_message) == ("NO_MODEL_AVAILABLE", "no model")


async def test_a_failure_that_stays_is_not_tried_again(world: World) -> None:
    world.models.script = [FailedPrecondition("NO_ELIGIBLE_TARGET", "the plan leaves no target")]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries, done.error_reason) == (JobState.FAILED, 1, "NO_ELIGIBLE_TARGET")


async def test_a_defect_fails_the_job_and_shows_nothing_of_itself(world: World) -> None:
    world.models.script = [RuntimeError("secret prompt") for _ in range(3)]
    async with world.running() as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.error_reason, done.error_message) == ("INTERNAL", "internal error")


async def test_a_retry_that_would_come_too_late_is_not_waited_for(world: World) -> None:
    world.models.script = [Overloaded(retry_after_s=600.0)]
    async with world.running(timeout_s=60.0) as jobs:
        done = await world.ended(jobs, await jobs.submit(submission(), "acme"))
    assert (done.state, done.tries, done.error_reason) == (JobState.FAILED, 1, "OVERLOADED")


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (Unavailable(), True),
        (Overloaded(), True),
        (DeadlineExceeded(), True),
        (Internal(), True),
        (InvalidRequest(), False),
        (FailedPrecondition("COST_CEILING", ""), False),
        (NotFound(), False),
        (SpillwayError(Overloaded().code, "MESSAGE_TOO_LARGE", ""), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: SpillwayError, retryable: bool) -> None:
    assert is_retryable(error) is retryable


def test_delays_grow_have_chance_in_them_and_heed_what_was_asked_for() -> None:
    rng = random.Random(SEED)
    for tries in range(1, 12):
        delays = [retry_delay_s(tries, None, rng) for _ in range(100)]
        assert 0.5 * min(60.0, 2.0 ** (tries - 1)) <= min(delays) < max(delays) <= min(60.0, 2.0 ** (tries - 1))
    assert retry_delay_s(1, 120.0, rng) == 120.0
    assert retry_delay_s(1, 1e9, rng) == 3_600.0
    waits = [delivery_delay_s(tries, None, rng) for tries in range(1, len(DELIVERY_DELAYS_S) + 2)]
    assert waits[-1] is None
    assert waits[:-1] == sorted(wait for wait in waits if wait is not None)
