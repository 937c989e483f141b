"""What Spillway decides about a request: judgement, plan, verdicts, attempts, outcome. Plain frozen values.

Promises: no I/O, no protobuf (`spillway.wire` translates). Money is whole nano US dollars (10^-9 USD), so sums are
exact. Times are seconds.
"""

from __future__ import annotations

from spillway.routing.completion import (
    CachedAnswer,
    CacheKind,
    CacheMode,
    CacheOutcome,
    Completion,
    CompletionRequest,
    CostSummary,
    Explanation,
    HopLatency,
    RoutingDecision,
    RoutingOptions,
    RuleTrial,
)
from spillway.routing.evidence import proves
from spillway.routing.execution import (
    AnswerDelta,
    Attempt,
    AttemptOutcome,
    AttemptPurpose,
    Execution,
    FailedExecution,
    GateVerdict,
    Verdict,
)
from spillway.routing.feedback import Feedback, FeedbackKind, Grade, GradeSource, MeasuredQuality
from spillway.routing.job import Job, JobState, JobSubmission, WebhookDelivery
from spillway.routing.judgement import (
    Classification,
    Complexity,
    Layer,
    OutcomeSource,
    Signal,
    TaskType,
    TierOutcome,
    TierSufficiency,
)
from spillway.routing.plan import (
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

__all__ = [
    "AgreementSpec",
    "AnswerDelta",
    "Attempt",
    "AttemptOutcome",
    "AttemptPurpose",
    "CacheKind",
    "CacheMode",
    "CacheOutcome",
    "CachedAnswer",
    "Classification",
    "Completion",
    "CompletionRequest",
    "Complexity",
    "CompositeSpec",
    "CostSummary",
    "Execution",
    "Explanation",
    "FailedExecution",
    "Feedback",
    "FeedbackKind",
    "GateSpec",
    "GateVerdict",
    "Grade",
    "GradeSource",
    "HopLatency",
    "Job",
    "JobState",
    "JobSubmission",
    "JudgeSpec",
    "Layer",
    "LogprobSpec",
    "MeasuredQuality",
    "Normalizer",
    "OutcomeSource",
    "Plan",
    "PlannedTier",
    "RoutingDecision",
    "RoutingOptions",
    "RuleTrial",
    "RulesSpec",
    "SelfConfidenceSpec",
    "SelfEvaluationSpec",
    "Signal",
    "Strategy",
    "StreamPrefix",
    "TaskType",
    "TierOutcome",
    "TierSufficiency",
    "Verdict",
    "WebhookDelivery",
    "proves",
]
