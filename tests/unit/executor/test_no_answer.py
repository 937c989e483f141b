"""What the caller of an execution without an answer is told, and what the error carries for the record."""

from __future__ import annotations

import grpc
import pytest

from services.executor.no_answer import ATTEMPTS_CHARS_MAX, NoAnswerError, no_answer
from services.executor.outcome import FailureKind, ProviderFailure
from services.executor.providers.provider import FakeStep
from services.executor.servicer import failed_execution_detail
from services.executor.steps import Fail, FailReason
from spillway.chat import FinishReason
from spillway.routing import (
    Attempt,
    AttemptOutcome,
    FailedExecution,
    GateVerdict,
    Plan,
    PlannedTier,
    SelfConfidenceSpec,
    Verdict,
)
from tests.unit.executor.builders import DOWN, Bench, answer, chat

WRONG_KEY = ProviderFailure(FailureKind.AUTH, "PROVIDER_AUTH", detail="HTTP 401")
LADDER = Plan((PlannedTier("simple", ("a1", "a2"), (SelfConfidenceSpec(),)), PlannedTier("complex", ("c1",))))
LAST = Plan((PlannedTier("complex", ("c1",)),))


def attempt(target: str = "a1", outcome: AttemptOutcome = AttemptOutcome.ERROR, **fields: object) -> Attempt:
    values = {"error_reason": "PROVIDER_5XX", **fields}
    return Attempt("simple", target, "m", "p", outcome, **values)  # type: ignore[arg-type]


async def failure(bench: Bench, given: Plan, deadline_s: float = 60.0) -> NoAnswerError:
    with pytest.raises(NoAnswerError) as caught:
        await bench.executor.execute(chat(), given, None, deadline_s)
    return caught.value


async def test_what_became_of_each_target_is_told_by_name() -> None:
    error = await failure(Bench({"a1": [WRONG_KEY], "a2": [DOWN], "c1": [WRONG_KEY]}), LADDER)
    assert error.reason == "NO_MODEL_AVAILABLE"
    assert error.metadata == (("attempts", "a1:PROVIDER_AUTH,a2:PROVIDER_5XX,c1:PROVIDER_AUTH"),)


async def test_a_rejected_answer_without_a_successor_is_told_as_rejected() -> None:
    error = await failure(Bench({"a1": [answer("")], "c1": [answer("")]}), LADDER)
    assert dict(error.metadata)["attempts"] == "a1:REJECTED,c1:REJECTED"


def test_the_last_word_of_a_target_counts_and_there_is_room_for_so_many() -> None:
    twice = FailedExecution((attempt(), attempt(error_reason="BREAKER_OPEN")))
    assert NoAnswerError(FailReason.NO_MODEL_AVAILABLE, None, twice).metadata == (("attempts", "a1:BREAKER_OPEN"),)
    many = FailedExecution(tuple(attempt(f"target-{number}") for number in range(200)))
    ((_, told),) = NoAnswerError(FailReason.NO_MODEL_AVAILABLE, None, many).metadata
    assert ATTEMPTS_CHARS_MAX - 40 < len(told) <= ATTEMPTS_CHARS_MAX
    assert all(word.endswith(":PROVIDER_5XX") for word in told.split(","))


async def test_answers_that_were_paid_for_in_vain_are_counted() -> None:
    error = await failure(Bench({"a1": [answer("")], "c1": [answer("", FinishReason.LENGTH)]}), LADDER)
    assert [(made.target, made.outcome.value) for made in error.failed.attempts] == [
        ("a1", "rejected"),
        ("c1", "rejected"),
    ]
    assert error.failed.cost_nanousd == sum(made.cost_nanousd for made in error.failed.attempts) > 0
    assert error.failed.escalations == 1


async def test_a_stream_that_broke_is_counted() -> None:
    bench = Bench({"c1": [FakeStep(answer("one, two, three"), cut_after=2)]})
    with pytest.raises(NoAnswerError) as caught:
        [event async for event in bench.executor.stream(chat(), LAST, None, 60.0)]
    assert caught.value.reason == "STREAM_INTERRUPTED"
    assert [made.target for made in caught.value.failed.attempts] == ["c1"]
    assert caught.value.failed.cost_nanousd > 0


@pytest.mark.parametrize("reason", [FailReason.NO_MODEL_AVAILABLE, FailReason.STREAM_INTERRUPTED])
def test_a_timeout_that_used_up_all_the_time_is_the_deadlines(reason: FailReason) -> None:
    late = FailedExecution((attempt(outcome=AttemptOutcome.TIMEOUT, latency_s=2.0),))
    error = no_answer(Fail(reason), late, remaining_s=0.0, retry_after_s=1.0)
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert error.retry_after_s is None
    early = no_answer(Fail(reason), late, remaining_s=5.0, retry_after_s=1.0)
    assert early.reason == reason


@pytest.mark.parametrize(
    "attempts",
    [
        (attempt(),),
        (attempt(outcome=AttemptOutcome.TIMEOUT, latency_s=1.0), attempt("a2", started_after_s=1.0, latency_s=1.0)),
        (attempt(outcome=AttemptOutcome.SKIPPED),),
        (),
    ],
)
def test_a_failure_at_the_end_of_the_time_that_is_no_timeout_keeps_its_reason(attempts: tuple[Attempt, ...]) -> None:
    error = no_answer(
        Fail(FailReason.NO_MODEL_AVAILABLE), FailedExecution(attempts), remaining_s=0.0, retry_after_s=1.0
    )
    assert (error.reason, error.retry_after_s) == ("NO_MODEL_AVAILABLE", 1.0)


def test_what_an_error_carries_is_bounded_and_its_sums_stay_whole() -> None:
    verdicts = (GateVerdict("rules", Verdict.FAIL, "r" * 200, 0.1),) * 4
    for count, kept_verdicts in ((4, 4), (20, 4), (35, 0), (400, 0)):
        failed = FailedExecution(tuple(attempt(f"a{n}", verdicts=verdicts) for n in range(count)), 7_000, 1, 2)
        pb = failed_execution_detail(failed)
        assert pb.ByteSize() <= 4_096
        assert (pb.cost_nanousd, pb.escalations, pb.fallbacks) == (7_000, 1, 2)
        assert [made.target for made in pb.attempts] == [f"a{n}" for n in range(len(pb.attempts))]
        assert {len(made.verdicts) for made in pb.attempts} == {kept_verdicts}
        assert len(pb.attempts) == count or count == 400
    assert failed_execution_detail(FailedExecution((attempt(verdicts=verdicts),))).attempts[0].verdicts[0].reason
