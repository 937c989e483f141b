"""The one plan of a request: what the policy decides, with the least confidence that the canary has tightened.

Promises: pure, but for what it is told of the canary. Who answers, explains or audits a request gets the same plan, and
the decision that it belongs to is what records show. It has no budget's ceiling yet: that is found where the money is
reserved, and may be lower than what the request says. The plan names the version of the file, by which executors look
for its targets; the decision names the settings in force here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.orchestrator.policy.policy import Routed
from services.orchestrator.run import Run
from spillway.routing import TaskType

__all__ = ["ConfidenceMin", "Planner"]

ConfidenceMin = Callable[[TaskType | None, float | None], float | None]
"""The least confidence of a kind of work, for plans that would ask for the second; `DriftMonitor.confidence_min`."""


def _as_configured(_: TaskType | None, configured: float | None) -> float | None:
    return configured


class Planner:
    """For one event loop."""

    def __init__(self, confidence_min: ConfidenceMin = _as_configured) -> None:
        self._confidence_min = confidence_min

    def planned(self, run: Run) -> Routed:
        """What is to be done with a request that has been judged where it has to be; the run stays as it is.

        Raises NoEligibleTargetError.
        """
        configured = run.configured
        routed = configured.policy.decide(run.request, run.classification, run.state)
        decision = replace(routed.decision, degraded=tuple(run.degraded), config_version=configured.in_force)
        if decision.plan is not None:
            asked = decision.plan.confidence_min
            least = self._confidence_min(run.task_type, asked)
            plan = replace(decision.plan, config_version=configured.version, confidence_min=least)
            said = "" if least == asked else f"; tightened: the least confidence is {least:g}"
            decision = replace(decision, plan=plan, reason=decision.reason + said)
        return replace(routed, decision=decision)
