"""What the executor is told, on the wire: plans and their gates."""

from __future__ import annotations

from spillway.routing import (
    AgreementSpec,
    CompositeSpec,
    GateSpec,
    JudgeSpec,
    LogprobSpec,
    Normalizer,
    Plan,
    PlannedTier,
    RulesSpec,
    SelfConfidenceSpec,
    SelfEvaluationSpec,
    Strategy,
    StreamPrefix,
)
from spillway.v1 import executor_pb2
from spillway.validation.plan import FURTHER_TARGETS_MAX, GATES_MAX, PATTERNS_MAX, TARGETS_MAX, TIERS_MAX
from spillway.wire.fields import (
    NORMALIZERS,
    STRATEGIES,
    WireError,
    at_most,
    duration_from_proto,
    duration_to_proto,
    join,
)

__all__ = ["gate_spec_from_proto", "gate_spec_to_proto", "plan_from_proto", "plan_to_proto"]


def gate_spec_to_proto(value: GateSpec) -> executor_pb2.GateSpec:
    match value:
        case AgreementSpec():
            agreement = executor_pb2.AgreementGate(
                second_target=value.second_target,
                normalizer=NORMALIZERS.to_proto(value.normalizer),
                further_targets=value.further_targets,
                agreeing_min=value.agreeing_min,
                in_turn=value.in_turn,
                count_earlier=value.count_earlier,
            )
            return executor_pb2.GateSpec(agreement=agreement)
        case SelfConfidenceSpec():
            self_confidence = executor_pb2.SelfConfidenceGate(threshold=value.threshold)
            return executor_pb2.GateSpec(self_confidence=self_confidence)
        case RulesSpec():
            rules = executor_pb2.RulesGate(
                chars_min=value.chars_min,
                chars_max=value.chars_max,
                must_match=value.must_match,
                must_not_match=value.must_not_match,
                require_code_block=value.require_code_block,
                number_min=value.number_min,
                number_max=value.number_max,
                require_citation=value.require_citation,
                language=value.language,
            )
            return executor_pb2.GateSpec(rules=rules)
        case SelfEvaluationSpec():
            evaluation = executor_pb2.SelfEvaluationGate(target=value.target, score_min=value.score_min)
            return executor_pb2.GateSpec(self_evaluation=evaluation)
        case LogprobSpec():
            logprob = executor_pb2.LogprobGate(
                mean_min=value.mean_min, least_min=value.least_min, span_mean_min=value.span_mean_min
            )
            return executor_pb2.GateSpec(logprob=logprob)
        case JudgeSpec():
            judge = executor_pb2.JudgeGate(target=value.target, score_min=value.score_min, rubric=value.rubric)
            return executor_pb2.GateSpec(judge=judge)
        case CompositeSpec():
            composite = executor_pb2.CompositeGate(
                threshold=value.threshold, wrong_answer_cost_nanousd=value.wrong_answer_cost_nanousd
            )
            return executor_pb2.GateSpec(composite=composite)


def gate_spec_from_proto(pb: executor_pb2.GateSpec, path: str = "gate") -> GateSpec:
    """Raises WireError when no gate is set."""
    which = pb.WhichOneof("gate")
    if which == "agreement":
        return _agreement_from_proto(pb.agreement, join(path, "agreement"))
    if which == "self_confidence":
        return SelfConfidenceSpec(pb.self_confidence.threshold)
    if which == "rules":
        return _rules_from_proto(pb.rules, join(path, "rules"))
    if which == "self_evaluation":
        return SelfEvaluationSpec(pb.self_evaluation.target, pb.self_evaluation.score_min)
    if which == "logprob":
        logprob = pb.logprob
        return LogprobSpec(
            mean_min=logprob.mean_min if logprob.HasField("mean_min") else None,
            least_min=logprob.least_min if logprob.HasField("least_min") else None,
            span_mean_min=logprob.span_mean_min if logprob.HasField("span_mean_min") else None,
        )
    if which == "judge":
        return JudgeSpec(pb.judge.target, pb.judge.score_min, pb.judge.rubric)
    if which == "composite":
        composite = pb.composite
        cost = composite.wrong_answer_cost_nanousd if composite.HasField("wrong_answer_cost_nanousd") else None
        return CompositeSpec(composite.threshold if composite.HasField("threshold") else None, cost)
    raise WireError(path, "must be one of the known gates")


def _agreement_from_proto(pb: executor_pb2.AgreementGate, path: str) -> AgreementSpec:
    at_most(pb.further_targets, FURTHER_TARGETS_MAX, join(path, "further_targets"))
    return AgreementSpec(
        second_target=pb.second_target,
        normalizer=NORMALIZERS.optional(pb.normalizer, join(path, "normalizer")) or Normalizer.AUTO,
        further_targets=tuple(pb.further_targets),
        agreeing_min=pb.agreeing_min,
        in_turn=pb.in_turn,
        count_earlier=pb.count_earlier,
    )


def _rules_from_proto(pb: executor_pb2.RulesGate, path: str) -> RulesSpec:
    at_most(pb.must_match, PATTERNS_MAX, join(path, "must_match"))
    at_most(pb.must_not_match, PATTERNS_MAX, join(path, "must_not_match"))
    return RulesSpec(
        chars_min=pb.chars_min,
        chars_max=pb.chars_max,
        must_match=tuple(pb.must_match),
        must_not_match=tuple(pb.must_not_match),
        require_code_block=pb.require_code_block,
        number_min=pb.number_min if pb.HasField("number_min") else None,
        number_max=pb.number_max if pb.HasField("number_max") else None,
        require_citation=pb.require_citation,
        language=pb.language,
    )


def _tier_to_proto(value: PlannedTier) -> executor_pb2.PlannedTier:
    return executor_pb2.PlannedTier(
        name=value.name,
        targets=value.targets,
        gates=[gate_spec_to_proto(gate) for gate in value.gates],
        attempt_timeout=duration_to_proto(value.attempt_timeout_s),
        escape_valve=value.escape_valve,
        stream_prefix=None if value.stream_prefix is None else _prefix_to_proto(value.stream_prefix),
    )


def _prefix_to_proto(value: StreamPrefix) -> executor_pb2.StreamPrefix:
    return executor_pb2.StreamPrefix(tokens=value.tokens, wait=duration_to_proto(value.wait_s))


def _prefix_from_proto(pb: executor_pb2.StreamPrefix, path: str) -> StreamPrefix:
    return StreamPrefix(tokens=pb.tokens, wait_s=duration_from_proto(pb.wait, join(path, "wait")))


def _tier_from_proto(pb: executor_pb2.PlannedTier, path: str) -> PlannedTier:
    if not pb.HasField("attempt_timeout"):
        raise WireError(join(path, "attempt_timeout"), "must be set")
    at_most(pb.targets, TARGETS_MAX, join(path, "targets"))
    at_most(pb.gates, GATES_MAX, join(path, "gates"))
    return PlannedTier(
        name=pb.name,
        targets=tuple(pb.targets),
        gates=tuple(gate_spec_from_proto(gate, f"{join(path, 'gates')}[{i}]") for i, gate in enumerate(pb.gates)),
        attempt_timeout_s=duration_from_proto(pb.attempt_timeout, join(path, "attempt_timeout")),
        escape_valve=pb.escape_valve,
        stream_prefix=(
            _prefix_from_proto(pb.stream_prefix, join(path, "stream_prefix")) if pb.HasField("stream_prefix") else None
        ),
    )


def plan_to_proto(value: Plan) -> executor_pb2.Plan:
    return executor_pb2.Plan(
        strategy=STRATEGIES.to_proto(value.strategy),
        tiers=[_tier_to_proto(tier) for tier in value.tiers],
        escalations_max=value.escalations_max,
        cost_nanousd_max=value.cost_nanousd_max,
        confidence_min=value.confidence_min,
        config_version=value.config_version,
    )


def plan_from_proto(pb: executor_pb2.Plan, path: str = "plan") -> Plan:
    """An unspecified strategy is CHEAP_FIRST. Raises WireError."""
    at_most(pb.tiers, TIERS_MAX, join(path, "tiers"))
    return Plan(
        tiers=tuple(_tier_from_proto(tier, f"{join(path, 'tiers')}[{i}]") for i, tier in enumerate(pb.tiers)),
        strategy=STRATEGIES.optional(pb.strategy, join(path, "strategy")) or Strategy.CHEAP_FIRST,
        escalations_max=pb.escalations_max,
        cost_nanousd_max=pb.cost_nanousd_max if pb.HasField("cost_nanousd_max") else None,
        confidence_min=pb.confidence_min if pb.HasField("confidence_min") else None,
        config_version=pb.config_version,
    )
