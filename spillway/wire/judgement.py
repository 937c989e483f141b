"""What is judged of a request before any model runs, and what came of it, on the wire."""

from __future__ import annotations

from spillway.routing import (
    Classification,
    Signal,
    TierOutcome,
    TierSufficiency,
)
from spillway.v1 import chat_pb2, classifier_pb2
from spillway.wire.fields import (
    COMPLEXITIES,
    LAYERS,
    OUTCOME_SOURCES,
    TASK_TYPES,
    join,
)

__all__ = ["classification_from_proto", "classification_to_proto", "tier_outcome_from_proto", "tier_outcome_to_proto"]


def classification_to_proto(value: Classification) -> chat_pb2.Classification:
    simple, medium, complex_ = value.probabilities
    return chat_pb2.Classification(
        task_type=TASK_TYPES.to_proto(value.task_type),
        complexity=COMPLEXITIES.to_proto(value.complexity),
        probabilities=chat_pb2.ComplexityProbabilities(simple=simple, medium=medium, complex=complex_),
        confidence=value.confidence,
        layer=LAYERS.to_proto(value.layer),
        signals=[
            chat_pb2.Signal(name=s.name, value=s.value, contribution=s.contribution, evidence=s.evidence)
            for s in value.signals
        ],
        reason=value.reason,
        version=value.version,
        out_of_domain=value.out_of_domain,
        sufficiency=[chat_pb2.TierSufficiency(tier=s.tier, probability=s.probability) for s in value.sufficiency],
        cluster=value.cluster,
        language=value.language,
    )


def classification_from_proto(pb: chat_pb2.Classification, path: str = "classification") -> Classification:
    """Raises WireError for a task type, complexity or layer that is unset or unknown."""
    return Classification(
        task_type=TASK_TYPES.required(pb.task_type, join(path, "task_type")),
        complexity=COMPLEXITIES.required(pb.complexity, join(path, "complexity")),
        probabilities=(pb.probabilities.simple, pb.probabilities.medium, pb.probabilities.complex),
        confidence=pb.confidence,
        layer=LAYERS.required(pb.layer, join(path, "layer")),
        signals=tuple(Signal(s.name, s.value, s.contribution, s.evidence) for s in pb.signals),
        reason=pb.reason,
        version=pb.version,
        out_of_domain=pb.out_of_domain if pb.HasField("out_of_domain") else None,
        sufficiency=tuple(TierSufficiency(s.tier, s.probability) for s in pb.sufficiency),
        cluster=pb.cluster,
        language=pb.language,
    )


def tier_outcome_to_proto(value: TierOutcome) -> classifier_pb2.TierOutcome:
    return classifier_pb2.TierOutcome(
        cluster=value.cluster,
        tier=value.tier,
        sufficed=value.sufficed,
        source=OUTCOME_SOURCES.to_proto(value.source),
    )


def tier_outcome_from_proto(pb: classifier_pb2.TierOutcome, path: str = "outcome") -> TierOutcome:
    """Raises WireError for a source that is unset or unknown."""
    return TierOutcome(pb.cluster, pb.tier, pb.sufficed, OUTCOME_SOURCES.required(pb.source, join(path, "source")))
