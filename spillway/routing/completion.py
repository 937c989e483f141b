"""What is asked of the orchestrator, what it decided and what it answered. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spillway.chat import ChatRequest, FinishReason, Message, Usage
from spillway.routing.execution import Attempt
from spillway.routing.judgement import Classification
from spillway.routing.plan import Plan, Strategy

__all__ = [
    "CacheKind",
    "CacheMode",
    "CacheOutcome",
    "CachedAnswer",
    "Completion",
    "CompletionRequest",
    "CostSummary",
    "Explanation",
    "HopLatency",
    "RoutingDecision",
    "RoutingOptions",
    "RuleTrial",
]


class CacheMode(StrEnum):
    """How one request may use the cache."""

    USE = "use"
    REFRESH = "refresh"
    BYPASS = "bypass"


class CacheKind(StrEnum):
    """What the cache said."""

    EXACT_HIT = "exact_hit"
    SEMANTIC_HIT = "semantic_hit"
    MISS = "miss"
    BYPASS = "bypass"
    UNAVAILABLE = "unavailable"
    NEVER_CACHED = "never_cached"


@dataclass(frozen=True, slots=True)
class CacheOutcome:
    """What the cache said to one request, and why. `similarity`, `entry_key` and `answer_version` (of a hit by meaning,
    which answer it was) stay inside: no caller sees them."""

    kind: CacheKind
    reason: str = ""
    similarity: float | None = None
    entry_key: str = ""
    age_s: float | None = None
    answer_version: str = ""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as the cache keeps it.

    `cost_nanousd` is what its whole execution had cost, and so what a hit saves. `score` is the least score that a gate
    gave it, 0 to 1; None when no gate gave one.
    """

    message: Message
    finish_reason: FinishReason
    tier: str
    target: str
    model: str
    usage: Usage
    cost_nanousd: int
    accepted: bool
    score: float | None = None


@dataclass(frozen=True, slots=True)
class RoutingOptions:
    """Wishes of one request; empty and None mean the configured default."""

    strategy: Strategy | None = None
    tier_floor: str = ""
    tier_ceiling: str = ""
    pinned_target: str = ""
    confidence_min: float | None = None
    cost_nanousd_max: int | None = None
    escalations_max: int | None = None
    cache_mode: CacheMode | None = None
    cache_ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request to the orchestrator."""

    chat: ChatRequest
    request_id: str = ""
    options: RoutingOptions = field(default_factory=RoutingOptions)
    tenant: str = ""
    end_user: str = ""
    user_tier: str = ""
    endpoint: str = ""
    tags: tuple[str, ...] = ()
    namespace: str = ""
    template_version: str = ""
    knowledge_version: str = ""


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """How the route was chosen.

    `policy_step` is one of pinned, bypass, rule, rollout, new_user, specialist, sufficiency, complexity,
    confidence_bump, cost_aware. `arm` is "routed" or "baseline" where a rollout is configured, else empty.
    """

    policy_step: str = ""
    reason: str = ""
    rule: str = ""
    classification: Classification | None = None
    plan: Plan | None = None
    degraded: tuple[str, ...] = ()
    arm: str = ""
    config_version: str = ""


@dataclass(frozen=True, slots=True)
class CostSummary:
    """What a request cost, and an estimate of one flagship call on the same tokens."""

    cost_nanousd: int = 0
    flagship_cost_nanousd: int = 0
    flagship_target: str = ""


@dataclass(frozen=True, slots=True)
class HopLatency:
    """How long one hop took, as the orchestrator saw it."""

    hop: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer and how it came about."""

    request_id: str
    message: Message
    finish_reason: FinishReason
    accepted: bool
    tier: str
    target: str
    model: str
    usage: Usage
    cost: CostSummary
    cache: CacheOutcome
    routing: RoutingDecision
    attempts: tuple[Attempt, ...] = ()
    escalations: int = 0
    fallbacks: int = 0
    hops: tuple[HopLatency, ...] = ()
    trace_id: str = ""
    completed_at_unix_s: float = 0.0

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.message.text


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """A policy rule that was tried, and the first condition that did not hold."""

    rule: str
    matched: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be done with a request."""

    routing: RoutingDecision
    cache: CacheOutcome
    rules: tuple[RuleTrial, ...] = ()
