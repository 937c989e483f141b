"""Requests to the orchestrator and what it decided and answered, on the wire."""

from __future__ import annotations

from spillway.routing import (
    Completion,
    CompletionRequest,
    CostSummary,
    Explanation,
    HopLatency,
    RoutingDecision,
    RoutingOptions,
    RuleTrial,
)
from spillway.v1 import orchestrator_pb2
from spillway.validation.request import TAGS_MAX
from spillway.wire.cache import cache_outcome_from_proto, cache_outcome_to_proto
from spillway.wire.chat import (
    chat_request_from_proto,
    chat_request_to_proto,
    message_from_proto,
    message_to_proto,
    usage_from_proto,
    usage_to_proto,
)
from spillway.wire.execution import (
    attempt_from_proto,
    attempt_to_proto,
)
from spillway.wire.fields import (
    CACHE_MODES,
    FINISH_REASONS,
    STRATEGIES,
    at_most,
    duration_from_proto,
    duration_to_proto,
    finish_reason_from_proto,
    join,
    timestamp_from_proto,
    timestamp_to_proto,
)
from spillway.wire.judgement import classification_from_proto, classification_to_proto
from spillway.wire.plan import (
    plan_from_proto,
    plan_to_proto,
)

__all__ = [
    "completion_from_proto",
    "completion_request_from_proto",
    "completion_request_to_proto",
    "completion_to_proto",
    "cost_summary_from_proto",
    "cost_summary_to_proto",
    "explanation_from_proto",
    "explanation_to_proto",
    "hop_latency_from_proto",
    "hop_latency_to_proto",
    "routing_decision_from_proto",
    "routing_decision_to_proto",
    "routing_options_from_proto",
    "routing_options_to_proto",
]


def routing_options_to_proto(value: RoutingOptions) -> orchestrator_pb2.RoutingOptions:
    return orchestrator_pb2.RoutingOptions(
        strategy=STRATEGIES.to_proto(value.strategy),
        tier_floor=value.tier_floor,
        tier_ceiling=value.tier_ceiling,
        pinned_target=value.pinned_target,
        confidence_min=value.confidence_min,
        cost_nanousd_max=value.cost_nanousd_max,
        escalations_max=value.escalations_max,
        cache_mode=CACHE_MODES.to_proto(value.cache_mode),
        cache_ttl=None if value.cache_ttl_s is None else duration_to_proto(value.cache_ttl_s),
    )


def routing_options_from_proto(pb: orchestrator_pb2.RoutingOptions, path: str = "options") -> RoutingOptions:
    """Raises WireError for an unknown strategy or cache mode."""
    return RoutingOptions(
        strategy=STRATEGIES.optional(pb.strategy, join(path, "strategy")),
        tier_floor=pb.tier_floor,
        tier_ceiling=pb.tier_ceiling,
        pinned_target=pb.pinned_target,
        confidence_min=pb.confidence_min if pb.HasField("confidence_min") else None,
        cost_nanousd_max=pb.cost_nanousd_max if pb.HasField("cost_nanousd_max") else None,
        escalations_max=pb.escalations_max if pb.HasField("escalations_max") else None,
        cache_mode=CACHE_MODES.optional(pb.cache_mode, join(path, "cache_mode")),
        cache_ttl_s=duration_from_proto(pb.cache_ttl, join(path, "cache_ttl")) if pb.HasField("cache_ttl") else None,
    )


def completion_request_to_proto(value: CompletionRequest) -> orchestrator_pb2.CompleteRequest:
    return orchestrator_pb2.CompleteRequest(
        request_id=value.request_id,
        chat=chat_request_to_proto(value.chat),
        options=routing_options_to_proto(value.options),
        tenant=value.tenant,
        end_user=value.end_user,
        user_tier=value.user_tier,
        endpoint=value.endpoint,
        tags=value.tags,
        namespace=value.namespace,
        template_version=value.template_version,
        knowledge_version=value.knowledge_version,
    )


def completion_request_from_proto(pb: orchestrator_pb2.CompleteRequest, path: str = "") -> CompletionRequest:
    """`path` is "request" where a message wraps the request. Raises WireError."""
    at_most(pb.tags, TAGS_MAX, join(path, "tags"))
    return CompletionRequest(
        chat=chat_request_from_proto(pb.chat, join(path, "chat")),
        request_id=pb.request_id,
        options=routing_options_from_proto(pb.options, join(path, "options")),
        tenant=pb.tenant,
        end_user=pb.end_user,
        user_tier=pb.user_tier,
        endpoint=pb.endpoint,
        tags=tuple(pb.tags),
        namespace=pb.namespace,
        template_version=pb.template_version,
        knowledge_version=pb.knowledge_version,
    )


def routing_decision_to_proto(value: RoutingDecision) -> orchestrator_pb2.RoutingDecision:
    return orchestrator_pb2.RoutingDecision(
        classification=None if value.classification is None else classification_to_proto(value.classification),
        policy_step=value.policy_step,
        rule=value.rule,
        reason=value.reason,
        plan=None if value.plan is None else plan_to_proto(value.plan),
        degraded=value.degraded,
        arm=value.arm,
        config_version=value.config_version,
    )


def routing_decision_from_proto(pb: orchestrator_pb2.RoutingDecision, path: str = "routing") -> RoutingDecision:
    """Raises WireError."""
    return RoutingDecision(
        classification=(
            classification_from_proto(pb.classification, join(path, "classification"))
            if pb.HasField("classification")
            else None
        ),
        policy_step=pb.policy_step,
        rule=pb.rule,
        reason=pb.reason,
        plan=plan_from_proto(pb.plan, join(path, "plan")) if pb.HasField("plan") else None,
        degraded=tuple(pb.degraded),
        arm=pb.arm,
        config_version=pb.config_version,
    )


def cost_summary_to_proto(value: CostSummary) -> orchestrator_pb2.CostSummary:
    return orchestrator_pb2.CostSummary(
        cost_nanousd=value.cost_nanousd,
        flagship_cost_nanousd=value.flagship_cost_nanousd,
        flagship_target=value.flagship_target,
    )


def cost_summary_from_proto(pb: orchestrator_pb2.CostSummary) -> CostSummary:
    return CostSummary(
        cost_nanousd=pb.cost_nanousd,
        flagship_cost_nanousd=pb.flagship_cost_nanousd,
        flagship_target=pb.flagship_target,
    )


def hop_latency_to_proto(value: HopLatency) -> orchestrator_pb2.HopLatency:
    return orchestrator_pb2.HopLatency(hop=value.hop, latency=duration_to_proto(value.latency_s))


def hop_latency_from_proto(pb: orchestrator_pb2.HopLatency) -> HopLatency:
    return HopLatency(hop=pb.hop, latency_s=duration_from_proto(pb.latency))


def completion_to_proto(value: Completion) -> orchestrator_pb2.Completion:
    return orchestrator_pb2.Completion(
        request_id=value.request_id,
        message=message_to_proto(value.message),
        finish_reason=FINISH_REASONS.to_proto(value.finish_reason),
        accepted=value.accepted,
        tier=value.tier,
        target=value.target,
        model=value.model,
        usage=usage_to_proto(value.usage),
        cost=cost_summary_to_proto(value.cost),
        cache=cache_outcome_to_proto(value.cache),
        routing=routing_decision_to_proto(value.routing),
        attempts=[attempt_to_proto(attempt) for attempt in value.attempts],
        escalations=value.escalations,
        fallbacks=value.fallbacks,
        hops=[hop_latency_to_proto(hop) for hop in value.hops],
        trace_id=value.trace_id,
        completed_at=timestamp_to_proto(value.completed_at_unix_s),
    )


def completion_from_proto(pb: orchestrator_pb2.Completion, path: str = "completion") -> Completion:
    """Raises WireError."""
    attempts = join(path, "attempts")
    return Completion(
        request_id=pb.request_id,
        message=message_from_proto(pb.message, join(path, "message")),
        finish_reason=finish_reason_from_proto(pb.finish_reason, join(path, "finish_reason")),
        accepted=pb.accepted,
        tier=pb.tier,
        target=pb.target,
        model=pb.model,
        usage=usage_from_proto(pb.usage),
        cost=cost_summary_from_proto(pb.cost),
        cache=cache_outcome_from_proto(pb.cache, join(path, "cache")),
        routing=routing_decision_from_proto(pb.routing, join(path, "routing")),
        attempts=tuple(attempt_from_proto(attempt, f"{attempts}[{i}]") for i, attempt in enumerate(pb.attempts)),
        escalations=pb.escalations,
        fallbacks=pb.fallbacks,
        hops=tuple(hop_latency_from_proto(hop) for hop in pb.hops),
        trace_id=pb.trace_id,
        completed_at_unix_s=timestamp_from_proto(pb.completed_at),
    )


def explanation_to_proto(value: Explanation) -> orchestrator_pb2.ExplainResponse:
    return orchestrator_pb2.ExplainResponse(
        routing=routing_decision_to_proto(value.routing),
        cache=cache_outcome_to_proto(value.cache),
        rules=[orchestrator_pb2.RuleTrial(rule=r.rule, matched=r.matched, reason=r.reason) for r in value.rules],
    )


def explanation_from_proto(pb: orchestrator_pb2.ExplainResponse, path: str = "") -> Explanation:
    """Raises WireError."""
    return Explanation(
        routing=routing_decision_from_proto(pb.routing, join(path, "routing")),
        cache=cache_outcome_from_proto(pb.cache, join(path, "cache")),
        rules=tuple(RuleTrial(r.rule, r.matched, r.reason) for r in pb.rules),
    )
