"""What is warned of that only an operator can mend."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from services.executor.complaints import Complaints
from services.executor.outcome import FailureKind, ProviderFailure
from services.runtime.errors import SpillwayError
from spillway.routing import Plan, PlannedTier
from tests.unit.executor.builders import DOWN, Bench, chat

WRONG_KEY = ProviderFailure(FailureKind.AUTH, "PROVIDER_AUTH", detail="HTTP 401 invalid_api_key")
NO_MODEL = ProviderFailure(FailureKind.AUTH, "PROVIDER_NOT_FOUND", detail="HTTP 404")
ONE = Plan((PlannedTier("simple", ("a1",)),))


async def test_a_key_that_is_refused_is_warned_of_once_a_minute() -> None:
    bench = Bench({"a1": [WRONG_KEY]})
    with capture_logs() as lines:
        for _ in range(5):
            with pytest.raises(SpillwayError):
                await bench.executor.execute(chat(), ONE, None, 60.0)
        assert len(lines) == 1
        bench.clock.advance(61.0)
        with pytest.raises(SpillwayError):
            await bench.executor.execute(chat(), ONE, None, 60.0)
    assert len(lines) == 2
    (line, _) = lines
    assert (line["event"], line["log_level"]) == ("provider_refuses_credentials", "warning")
    assert (line["provider"], line["target"], line["status"]) == ("p", "a1", "HTTP 401 invalid_api_key")


def test_each_provider_is_warned_of_and_other_failures_are_not() -> None:
    complaints = Complaints()
    with capture_logs() as lines:
        complaints.note("p", "a1", DOWN, 0.0)
        complaints.note("p", "a1", WRONG_KEY, 0.0)
        complaints.note("q", "b1", NO_MODEL, 0.0)
        complaints.note("q", "b2", WRONG_KEY, 1.0)
    assert [(line["provider"], line["reason"]) for line in lines] == [
        ("p", "PROVIDER_AUTH"),
        ("q", "PROVIDER_NOT_FOUND"),
    ]
