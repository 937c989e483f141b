"""What the policy has to know beside the request, its judgement and the configuration.

Promises: values alone; the policy asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.policy.quality import QualityTable

__all__ = ["PolicyState"]


@dataclass(frozen=True, slots=True)
class PolicyState:
    """The state of the world for one request.

    `received_at_unix_s`: when it came in, for rules that look at the time. `request_id`: the id that it was given, for
    the rollout of requests that name no end user and no id of their own. `user_messages`: how many messages its end
    user had sent before it; None when there is none, nobody asked, or nobody could say. `qualities`: how good answers
    were, for the cost-aware choice; None when nobody has said yet, which is not the same as that nothing was measured.
    """

    received_at_unix_s: float = 0.0
    request_id: str = ""
    user_messages: int | None = None
    qualities: QualityTable | None = None
