"""What Spillway decides about a request: judgement, plan, verdicts, attempts, outcome. Plain frozen values.

Promises: no I/O, no protobuf (`spillway.wire` translates). Money is whole nano US dollars (10^-9 USD), so sums are
exact. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spillway.chat import ChatRequest, FinishReason, Message, ToolCall, Usage

__all__ = [
    "AgreementSpec",
    "AnswerDelta",
    "Attempt",
    "AttemptOutcome",
    "AttemptPurpose",
    "CacheKind",
    "CacheMode",
    "CacheOutcome",
    "Classification",
    "Completion",
    "CompletionRequest",
    "Complexity",
    "CompositeSpec",
    "CostSummary",
    "Execution",
    "Explanation",
    "FailedExecution",
    "GateSpec",
    "GateVerdict",
    "HopLatency",
    "JudgeSpec",
    "Layer",
    "LogprobSpec",
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
]


class TaskType(StrEnum):
    """What kind of work a prompt asks for."""

    CHITCHAT = "chitchat"
    FACTUAL_QA = "factual_qa"
    SUMMARIZATION = "summarization"
    EXTRACTION = "extraction"
    CLASSIFICATION = "classification"
    REWRITING = "rewriting"
    TRANSLATION = "translation"
    CODE = "code"
    MATH = "math"
    REASONING = "reasoning"
    CREATIVE = "creative"
    OTHER = "other"


class Complexity(StrEnum):
    """How hard a prompt is."""

    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"


class Strategy(StrEnum):
    """How the executor walks the tiers of a plan."""

    CHEAP_FIRST = "cheap_first"
    DIRECT = "direct"
    RACE = "race"
    HEDGED = "hedged"
    WATERFALL = "waterfall"


class CacheMode(StrEnum):
    """How one request may use the cache."""

    USE = "use"
    REFRESH = "refresh"
    BYPASS = "bypass"


class Verdict(StrEnum):
    """What a gate says of an answer."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    ABSTAIN = "abstain"


class Layer(StrEnum):
    """Which layer of the classifier decided."""

    HEURISTICS = "heuristics"
    EMBEDDING = "embedding"
    SMALL_LLM = "small_llm"


class AttemptOutcome(StrEnum):
    """How one call of one target ended."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ERROR = "error"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    EVIDENCE = "evidence"


class AttemptPurpose(StrEnum):
    """What one call of one target was for."""

    ANSWER = "answer"
    HEDGE = "hedge"
    SECOND_OPINION = "second_opinion"
    SELF_EVALUATION = "self_evaluation"
    JUDGE = "judge"


class CacheKind(StrEnum):
    """What the cache said."""

    EXACT_HIT = "exact_hit"
    SEMANTIC_HIT = "semantic_hit"
    MISS = "miss"
    BYPASS = "bypass"
    UNAVAILABLE = "unavailable"


class Normalizer(StrEnum):
    """How the agreement gate compares two answers; AUTO chooses from the task type and the answers' form."""

    AUTO = "auto"
    NUMBER = "number"
    CHOICE = "choice"
    LITERAL = "literal"
    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Signal:
    """One observation: `value` in [0, 1], `contribution` is what it added to the score for complex."""

    name: str
    value: float
    contribution: float
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class TierSufficiency:
    """How likely it is, 0 to 1, that an answer of `tier` is good enough."""

    tier: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """How hard a prompt was judged to be. `probabilities` are P(simple), P(medium), P(complex); they sum to 1.

    `sufficiency` is of every configured tier, cheapest first; it never falls, and is 1 for the last.
    """

    task_type: TaskType
    complexity: Complexity
    probabilities: tuple[float, float, float]
    confidence: float
    layer: Layer
    signals: tuple[Signal, ...] = ()
    reason: str = ""
    version: str = ""
    out_of_domain: float | None = None
    sufficiency: tuple[TierSufficiency, ...] = ()
    cluster: str = ""


class OutcomeSource(StrEnum):
    """Who says how an answer turned out."""

    GATES = "gates"
    FEEDBACK = "feedback"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class TierOutcome:
    """How an answer of `tier` to a prompt of `cluster` turned out."""

    cluster: str
    tier: str
    sufficed: bool
    source: OutcomeSource


@dataclass(frozen=True, slots=True)
class AgreementSpec:
    """Cheap answers must agree; an empty `second_target` means the tier's next target, or a second sample.

    `agreeing_min` of the opinions must say the same as the answer; 0 means all of them. `in_turn`: the further targets
    are asked one after the other, while the verdict is open. `count_earlier`: what earlier tiers said counts as well.
    """

    second_target: str = ""
    normalizer: Normalizer = Normalizer.AUTO
    further_targets: tuple[str, ...] = ()
    agreeing_min: int = 0
    in_turn: bool = False
    count_earlier: bool = False


@dataclass(frozen=True, slots=True)
class SelfConfidenceSpec:
    """The model's own confidence, 1 to 5, must reach `threshold`; missing counts as 1."""

    threshold: int = 3


@dataclass(frozen=True, slots=True)
class RulesSpec:
    """Plain rules on the text; 0 and None mean no limit."""

    chars_min: int = 0
    chars_max: int = 0
    must_match: tuple[str, ...] = ()
    must_not_match: tuple[str, ...] = ()
    require_code_block: bool = False
    number_min: float | None = None
    number_max: float | None = None
    require_citation: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True)
class SelfEvaluationSpec:
    """A model grades the answer, 0 to 1; an empty `target` means the one that answered."""

    target: str = ""
    score_min: float = 0.7


@dataclass(frozen=True, slots=True)
class LogprobSpec:
    """Least accepted log-probabilities (natural, at most 0): mean, least token, mean over the final answer."""

    mean_min: float | None = None
    least_min: float | None = None
    span_mean_min: float | None = None


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """Another model grades the answer against a rubric, 0 to 1; an empty rubric means a general one."""

    target: str
    score_min: float = 0.7
    rubric: str = ""


@dataclass(frozen=True, slots=True)
class CompositeSpec:
    """One calibrated P(acceptable) decides; the tier's other soft gates inform it.

    Without a threshold the plan's least confidence is it, or, with the cost of a wrong answer, the value that makes
    accepting and escalating equally dear.
    """

    threshold: float | None = None
    wrong_answer_cost_nanousd: int | None = None


GateSpec = AgreementSpec | SelfConfidenceSpec | RulesSpec | SelfEvaluationSpec | LogprobSpec | JudgeSpec | CompositeSpec


@dataclass(frozen=True, slots=True)
class StreamPrefix:
    """How much of a stream the gates read before it flows: tokens (characters / 4), or seconds since the first."""

    tokens: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class PlannedTier:
    """One rung of a plan: targets in order of preference, gates, and the most time that one attempt may take."""

    name: str
    targets: tuple[str, ...]
    gates: tuple[GateSpec, ...] = ()
    attempt_timeout_s: float = 60.0
    escape_valve: bool = False
    stream_prefix: StreamPrefix | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the executor is to do: ordered tiers (cheapest first), strategy, gates and budgets."""

    tiers: tuple[PlannedTier, ...]
    strategy: Strategy = Strategy.CHEAP_FIRST
    escalations_max: int = 2
    cost_nanousd_max: int | None = None
    confidence_min: float | None = None


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate said: `score` in [0, 1] or None; `reason` never quotes the answer."""

    gate: str
    verdict: Verdict
    reason: str
    score: float | None = None
    cost_nanousd: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one target."""

    tier: str
    target: str
    model: str
    provider: str
    outcome: AttemptOutcome
    verdicts: tuple[GateVerdict, ...] = ()
    usage: Usage | None = None
    cost_nanousd: int = 0
    started_after_s: float = 0.0
    latency_s: float = 0.0
    time_to_first_token_s: float | None = None
    error_reason: str = ""
    finish_reason: FinishReason = FinishReason.UNKNOWN
    purpose: AttemptPurpose = AttemptPurpose.ANSWER


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """A piece of an answer: text to append, and tool calls that are complete."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of a plan. `accepted` is False when the last tier that could be asked answered without proof."""

    message: Message
    finish_reason: FinishReason
    accepted: bool
    tier: str
    target: str
    model: str
    attempts: tuple[Attempt, ...]
    usage: Usage
    usage_total: Usage
    cost_nanousd: int
    escalations: int = 0
    fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class FailedExecution:
    """What an execution without an answer had done."""

    attempts: tuple[Attempt, ...]
    cost_nanousd: int = 0
    escalations: int = 0
    fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class CacheOutcome:
    """What the cache said to one request, and why."""

    kind: CacheKind
    reason: str = ""
    similarity: float | None = None
    entry_key: str = ""
    age_s: float | None = None


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


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """How the route was chosen. `policy_step` is one of pinned, bypass, rule, complexity, confidence_bump."""

    policy_step: str = ""
    reason: str = ""
    rule: str = ""
    classification: Classification | None = None
    plan: Plan | None = None
    degraded: tuple[str, ...] = ()


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
