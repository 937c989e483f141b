"""An answer that may be compared with the flagship's.

Promises: pure; `sample_of` takes what a request has come to and says whether it is one: a fresh, complete answer that
the gates accepted, of another target than the flagship, in a tier not above it. The arms of a rollout are not told
apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.fresh_answer import is_proven
from services.orchestrator.run import Run
from spillway.chat import ChatRequest, Message, Usage
from spillway.routing import TaskType
from spillway.settings import Settings, Target

__all__ = ["Comparison", "Sample", "sample_of"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """With whom answers are compared, and by whom; the names of both targets' tiers."""

    flagship: Target
    flagship_tier: str
    judge: Target
    judge_tier: str

    @classmethod
    def of(cls, settings: Settings) -> Comparison:
        """The configured ones."""
        flagship = settings.flagship_target
        tiers = {target.name: (target, tier.name) for tier in settings.tiers for target in tier.targets}
        judge, judge_tier = tiers.get(settings.canary.judge, tiers[flagship.name])
        return cls(flagship, tiers[flagship.name][1], judge, judge_tier)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was asked, what was answered below the flagship, and for whom. `key_id` is of the API key, if any."""

    request_id: str
    tenant: str
    chat: ChatRequest
    task_type: TaskType
    tier: str
    target: str
    message: Message
    usage: Usage
    arm: str = ""
    key_id: str = ""
    cluster: str = ""


def sample_of(run: Run, settings: Settings) -> Sample | None:
    """The sample of a run that has ended, or None. Work of an unknown kind counts as OTHER."""
    execution = run.execution
    if execution is None or run.status_code != 0 or run.shared or not is_proven(execution):
        return None
    comparison, names = Comparison.of(settings), [tier.name for tier in settings.tiers]
    not_above = names[: names.index(comparison.flagship_tier) + 1]
    if execution.target == comparison.flagship.name or execution.tier not in not_above:
        return None
    return Sample(
        request_id=run.request_id,
        tenant=run.request.tenant,
        chat=run.request.chat,
        task_type=run.task_type or TaskType.OTHER,
        tier=execution.tier,
        target=execution.target,
        message=execution.message,
        usage=execution.usage,
        arm=run.routing.arm,
        key_id=run.key_id,
        cluster=run.cluster,
    )
