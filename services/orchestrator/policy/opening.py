"""What is known of a route before its plan: its limits, its rule, and which answers of the cache may serve it.

Promises: pure. An answer that was accepted for somebody else is let through only when this route could have given it.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.orchestrator.policy.ladder import Ladder
from spillway.routing import CacheMode, RuleTrial
from spillway.settings import Rule

__all__ = ["NoEligibleTargetError", "Opening"]


class NoEligibleTargetError(ValueError):
    """The request leaves no target. `public` is for the caller, of the configuration alone, `detail` is for the log."""

    def __init__(self, public: str, detail: str = "") -> None:
        super().__init__(public)
        self.public = public
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a route without a plan, and perhaps without a judgement.

    `step` and `rule` are empty as long as the judgement decides. What is still to be found out, in this order, each
    followed by another `Policy.open`:

    1. `judge_first`: the judgement has to come before the first lookup, since it may yet forbid or limit the cache;
    2. `needs_user`: how many messages the end user sent before may decide, and limit the cache (asked for once);
    3. `judge_first` again, as a new user may make it so;
    4. `needs_judgement`: before the plan.

    `arm` is "routed" or "baseline" where a rollout is configured and has to do with this request, as far as that is
    known yet. `apart` says why a request takes no part in a rollout. `floor` and `ceiling` limit what may be served
    from the cache, `ladder` says who may answer.
    """

    step: str
    rule: Rule | None
    trials: tuple[RuleTrial, ...]
    cache_mode: CacheMode
    needs_judgement: bool
    judge_first: bool
    floor: int
    ceiling: int
    ladder: Ladder
    only_target: str
    tier_names: tuple[str, ...]
    score_min: float = 0.0
    needs_user: bool = False
    arm: str = ""
    apart: str = ""

    @property
    def rule_name(self) -> str:
        """The matched rule's name, or empty."""
        return self.rule.name if self.rule else ""

    def objection(self, tier: str, target: str, score: float | None) -> str:
        """Why an answer from the cache may not be served for this request; empty when it may.

        This tier and target once gave it, and `score` is the least that its gates gave it, if any gave one.
        """
        if not self._admits(tier, target):
            return f"the answer found is of tier {tier}, which this route does not allow"
        if self.score_min and (score is None or score < self.score_min):
            known = "has no score" if score is None else f"has a score of {score:g}"
            return f"the answer found {known}, and the request asks for {self.score_min:g}"
        return ""

    def _admits(self, tier: str, target: str) -> bool:
        if self.only_target:
            return target == self.only_target
        if tier in self.tier_names:
            return self.floor <= self.tier_names.index(tier) <= self.ceiling
        # A tier that the configuration no longer has: nobody knows whether it was high enough.
        return self.floor == 0 and self.ceiling == len(self.tier_names) - 1
