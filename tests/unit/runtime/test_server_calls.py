"""What a server counts of the calls that it answers."""

from __future__ import annotations

import grpc
import pytest

from services.orchestrator.quotas.errors import BudgetExhausted, RateLimited
from services.runtime.errors import Overloaded, SpillwayError
from services.runtime.tracing import ServerCalls
from tests.support.metric_points import Meters, Points

COMPLETE = {"rpc.system": "grpc", "rpc.service": "spillway.v1.OrchestratorService", "rpc.method": "Complete"}


class Served:
    def __init__(self) -> None:
        self._meters = Meters()
        self._calls = ServerCalls(self._meters.meter)

    def call(self, error: SpillwayError | None = None) -> None:
        with self._calls.observe("/spillway.v1.OrchestratorService/Complete", ()) as outcome:
            if error is not None:
                outcome.code, outcome.reason = error.code, error.reason

    def shed(self) -> Points:
        return self._meters.points("spillway.shed")


def test_a_call_that_is_shed_is_counted_from_zero() -> None:
    served = Served()
    served.call()
    assert served.shed() == [(COMPLETE, 0)]
    served.call(Overloaded(0.1))
    assert served.shed() == [(COMPLETE, 1)]


@pytest.mark.parametrize(
    "error", [BudgetExhausted("day", 1.0), RateLimited("slow", 1.0)], ids=lambda error: error.reason
)
def test_a_callers_own_limit_is_no_shedding_although_its_code_is_the_same(error: SpillwayError) -> None:
    served = Served()
    served.call(error)
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.shed() == [(COMPLETE, 0)]
