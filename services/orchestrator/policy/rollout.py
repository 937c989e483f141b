"""The rollout: which requests are routed, and which the baseline answers, as before.

Promises: pure. An end user of a tenant has one place between 0 and 100 that depends on nothing but both names and the
salt; a request that names no end user has one by its id. Those below the percentage are routed: a user stays in an arm
as long as the percentage stays, a larger percentage adds users and takes none out, and for a kind of work with a larger
percentage than another's, whoever is routed there is routed here as well. Places are those of a SHA-256, so a
percentage is met within binomial bounds.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum

from spillway.routing import CompletionRequest, TaskType
from spillway.settings import Rollout

__all__ = ["Arm", "Arms", "place"]

_BITS = 48  # so that a place is exact in a float, and below 100


class Arm(StrEnum):
    """On which side of the rollout a request is."""

    ROUTED = "routed"
    BASELINE = "baseline"


def place(rollout: Rollout, tenant: str, end_user: str, request_id: str) -> float | None:
    """From 0 to below 100; None for a request that has neither an end user nor an id."""
    if not (end_user or request_id):
        return None
    unit = ["user", tenant, end_user] if end_user else ["request", tenant, request_id]
    # JSON of a list is injective; lone surrogates are escaped.
    digest = hashlib.sha256(json.dumps([rollout.salt, *unit]).encode()).digest()
    return 100.0 * (int.from_bytes(digest[: _BITS // 8], "big") / (1 << _BITS))


class Arms:
    """The arms of one configuration. Immutable; may be shared."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        percents = {rollout.task_types.get(each, rollout.percent) for each in TaskType}
        self._least, self._most = min(percents), max(percents)

    @property
    def is_configured(self) -> bool:
        """Whether there are arms at all: anything is set in the section."""
        return bool(self._rollout.model_fields_set)

    def percent(self, task_type: TaskType) -> float:
        """The share of the users that is routed, 0 to 100."""
        return self._rollout.task_types.get(task_type, self._rollout.percent)

    def find(self, request: CompletionRequest, request_id: str, task_type: TaskType | None) -> Arm | None:
        """The arm; without a task type None where that decides. `request_id`: for a request that has none of its own.

        What has no place at all is routed.
        """
        at = place(self._rollout, request.tenant, request.end_user, request.request_id or request_id)
        if at is None:
            return Arm.ROUTED
        if task_type is not None:
            return Arm.ROUTED if at < self.percent(task_type) else Arm.BASELINE
        if at < self._least:
            return Arm.ROUTED
        return None if at < self._most else Arm.BASELINE
