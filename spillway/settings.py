"""The schema of spillway.yaml: one file for the whole suite; every service reads the part it needs.

Promises: every field has a range and a default that works on one machine without a network; unknown keys are errors.
`services.runtime.config` reads the file, fills in `${VARIABLE:-default}`, and reports every error at once. Secrets
never stand in the file: it names an environment variable or a file that holds them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from spillway.chat import Usage
from spillway.routing import CacheMode, Complexity, Normalizer, Strategy, TaskType

__all__ = [
    "AgreementGate",
    "Breaker",
    "Cache",
    "Classifier",
    "CompositeGate",
    "Executor",
    "Freshness",
    "Gate",
    "Hedging",
    "JudgeGate",
    "Limits",
    "Log",
    "LogprobGate",
    "Orchestrator",
    "Policy",
    "Prefix",
    "Price",
    "Provider",
    "RetryBudget",
    "Rule",
    "RuleAction",
    "RuleCondition",
    "RulesGate",
    "SelfConfidenceGate",
    "SelfEvaluationGate",
    "ServiceAddress",
    "Services",
    "Settings",
    "Target",
    "Telemetry",
    "Tier",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,63}$", description="1 to 64 characters.")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Provider(Section):
    """Where models are served: any server that speaks OpenAI's chat completions or Anthropic's Messages."""

    kind: Literal["openai", "anthropic"] = Field("openai", description="The wire format.")
    base_url: str = Field(pattern=r"^https?://\S+$", description="Up to and including /v1.")
    api_key_env: str = Field("", description="The environment variable that holds the key; empty means no key.")
    api_key_file: str = Field("", description="The file that holds the key; wins over api_key_env.")
    connections_max: int = Field(100, ge=1, le=10_000, description="Open connections per executor.")


class Price(Section):
    """List prices in US dollars per million tokens."""

    input_usd_per_mtok: float = Field(ge=0, le=10_000)
    output_usd_per_mtok: float = Field(ge=0, le=10_000)
    cached_input_usd_per_mtok: float | None = Field(None, ge=0, le=10_000, description="Default: the input price.")

    def nanousd(self, usage: Usage) -> int:
        """The cost of `usage` in nano US dollars (10^-9 USD), rounded to the nearest.

        One token at 1 USD per million tokens costs 1,000 nano US dollars.
        """
        cached_price = (
            self.input_usd_per_mtok if self.cached_input_usd_per_mtok is None else self.cached_input_usd_per_mtok
        )
        fresh = usage.input_tokens - usage.cached_input_tokens
        return round(
            1000
            * (
                fresh * self.input_usd_per_mtok
                + usage.cached_input_tokens * cached_price
                + usage.output_tokens * self.output_usd_per_mtok
            )
        )


class Target(Section):
    """A model at a provider."""

    name: Name
    provider: Name
    model: str = Field(min_length=1, max_length=200, description="The model's name at the provider.")
    price: Price
    context_window_tokens: int = Field(128_000, ge=256, le=100_000_000)
    concurrency_max: int = Field(64, ge=1, le=100_000, description="Calls under way per executor; more are skipped.")
    weight: float = Field(1.0, gt=0, le=1_000, description="Its share of the tier's calls, with balance: weighted.")


class AgreementGate(Section):
    """Two cheap answers must say the same."""

    kind: Literal["agreement"]
    second_target: str = Field("", description="Default: the tier's next target, or a second sample of the same one.")
    normalizer: Normalizer = Normalizer.AUTO
    further_targets: list[Name] = Field([], max_length=4, description="Further opinions, asked at the same time.")
    agreeing_min: int = Field(0, ge=0, le=5, description="How many opinions must agree with the answer; 0 means all.")
    in_turn: bool = Field(
        False, description="Further targets are asked only while the verdict is open: saves money, costs latency."
    )
    count_earlier: bool = Field(
        False, description="Answers and opinions of earlier tiers count too; an only target gives no second sample."
    )


class SelfConfidenceGate(Section):
    """The model is asked to end with CONFIDENCE: N (1 to 5)."""

    kind: Literal["self_confidence"]
    threshold: int = Field(3, ge=1, le=5)


class RulesGate(Section):
    """Plain rules on the answer's text."""

    kind: Literal["rules"]
    chars_min: int = Field(0, ge=0, le=1_000_000)
    chars_max: int = Field(0, ge=0, le=10_000_000, description="0 means no limit.")
    must_match: list[Annotated[str, Field(max_length=1000)]] = Field([], max_length=32)
    must_not_match: list[Annotated[str, Field(max_length=1000)]] = Field([], max_length=32)
    require_code_block: bool = False
    number_min: float | None = None
    number_max: float | None = None
    require_citation: bool = Field(False, description='"[1]", "(Author, 2020)" or a link.')
    language: str = Field("", pattern=r"^([a-z]{2})?$", description="ISO 639-1; empty means any.")


class SelfEvaluationGate(Section):
    """A second call asks a model to grade the answer."""

    kind: Literal["self_evaluation"]
    target: str = Field("", description="Who grades. Default: the target that answered.")
    score_min: Ratio = 0.7


class LogprobGate(Section):
    """How sure the model was of its words: natural logarithms, at most 0; abstains where the provider gives none."""

    kind: Literal["logprob"]
    mean_min: float | None = Field(None, ge=-100, le=0)
    least_min: float | None = Field(None, ge=-100, le=0)
    span_mean_min: float | None = Field(None, ge=-100, le=0, description="Mean over the final answer's tokens.")


class JudgeGate(Section):
    """Another model grades the answer against a rubric."""

    kind: Literal["judge"]
    target: Name
    score_min: Ratio = 0.7
    rubric: str = Field("", max_length=2_000, description="What a good answer has. Default: a general rubric.")


class CompositeGate(Section):
    """One calibrated P(acceptable) decides; the tier's other soft gates inform it."""

    kind: Literal["composite"]
    threshold: Ratio | None = Field(None, description="Default: the least confidence of the request or the executor.")
    wrong_answer_cost_usd: float | None = Field(
        None, gt=0, le=1e6, description="When set, the threshold makes accepting and escalating equally dear."
    )


Gate = Annotated[
    AgreementGate | SelfConfidenceGate | RulesGate | SelfEvaluationGate | LogprobGate | JudgeGate | CompositeGate,
    Field(discriminator="kind"),
]


class Prefix(Section):
    """How much of a stream the gates read before it flows."""

    tokens: int = Field(64, ge=1, le=4_096, description="Counted as characters divided by four.")
    wait_s: float = Field(2.0, gt=0, le=30, description="Since the first token.")


class Tier(Section):
    """A rung of the ladder. Its targets are tried in order when one is not available."""

    name: Name
    targets: list[Target] = Field(min_length=1, max_length=16)
    gates: list[Gate] = Field([], max_length=16, description="Beside those that always apply.")
    attempt_timeout_s: Seconds = 60.0
    balance: Literal["order", "weighted", "least_loaded"] = Field(
        "order", description="Which target is asked first: the first listed, by weight, or the less busy of two."
    )
    escape_valve: bool = Field(False, description='The prompt offers a way out: reply "[ESCALATE]".')
    stream_prefix: Prefix | None = Field(
        None, description="Streams flow once the gates have passed this much. Default: the whole answer is gated."
    )


class RuleCondition(Section):
    """What must hold, all of it; an absent condition holds. Only what is visible before any model runs."""

    input_chars_min: int | None = Field(None, ge=0)
    input_chars_max: int | None = Field(None, ge=0)
    messages_min: int | None = Field(None, ge=1)
    user_tier: list[str] | None = Field(None, min_length=1)
    endpoint: list[str] | None = Field(None, min_length=1, description="Equal, or a prefix when it ends with *.")
    task_type: list[TaskType] | None = Field(None, min_length=1)
    complexity: list[Complexity] | None = Field(None, min_length=1)
    keywords: list[str] | None = Field(None, min_length=1, description="Any of these words in the last user turn.")
    tags: list[str] | None = Field(None, min_length=1, description="Any of these.")
    has_tools: bool | None = None
    has_images: bool | None = None


# WATERFALL is for work that can wait: only a request may ask for it.
ConfiguredStrategy = Literal[Strategy.CHEAP_FIRST, Strategy.DIRECT, Strategy.RACE, Strategy.HEDGED]


class RuleAction(Section):
    """What the rule does."""

    target: str | None = Field(None, description="Only this target may answer.")
    start_tier: str | None = Field(None, description="Start here, whatever the complexity.")
    tiers: list[str] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="The ladder is of these tiers alone, in the order of the file. A start or a floor at another moves "
        "to the next of them above, a ceiling to the next below. No limit: a target that is named may be of any tier.",
    )
    tier_floor: str | None = None
    tier_ceiling: str | None = None
    strategy: ConfiguredStrategy | None = None
    cache_mode: CacheMode | None = None


class Rule(Section):
    """The first rule whose condition holds is applied."""

    name: Name
    when: RuleCondition
    then: RuleAction


class Policy(Section):
    """How a route is chosen."""

    bypass_endpoints: list[str] = Field(
        [], description="Mission-critical or latency-critical: straight to bypass_tier."
    )
    bypass_tier: str = Field("", description="Default: the strongest tier.")
    rules: list[Rule] = Field([], max_length=200)
    start_tier: dict[Complexity, str] = Field(
        default_factory=dict,
        description="Where each complexity starts. Default: the tier of that name, or the nearest below it.",
    )
    confidence_bump: dict[Complexity, Ratio] = Field(
        default_factory=lambda: {Complexity.SIMPLE: 0.75, Complexity.MEDIUM: 0.80},
        description="Below this confidence the request starts one tier higher.",
    )
    escalations_max: int = Field(2, ge=0, le=2)
    strategy: ConfiguredStrategy = Strategy.CHEAP_FIRST


class Orchestrator(Section):
    """The front: time limits of the optional hops, and the decision log."""

    deadline_s: Seconds = Field(120.0, description="For callers that set none, and the most that any may ask for.")
    cache_timeout_s: Seconds = Field(0.25, description="A cache that takes longer is a miss.")
    classifier_timeout_s: Seconds = Field(1.0, description="A classifier that takes longer is done without.")
    background_tasks_max: int = Field(1024, ge=1, description="Cache stores and records under way; more are dropped.")
    decision_log: str = Field("", description="The file for decision records, JSON lines; empty means none.")
    prompt_head_chars: int = Field(0, ge=0, le=200, description="How much of a prompt a record may keep.")


class Classifier(Section):
    """The judge of prompts."""

    model_dir: str = Field("", description="Default: $SPILLWAY_MODEL_DIR, or ~/.cache/spillway/all-MiniLM-L6-v2.")
    embedding: bool = Field(True, description="False: heuristics alone.")
    heuristics_confidence_min: Ratio = Field(0.9, description="At or above it the embedding layer is not asked.")
    threads: int = Field(1, ge=1, le=256, description="Inference threads.")


class Freshness(Section):
    """How long an answer may be served, by data-freshness class; a request's tag "freshness:static" names the class."""

    static: Seconds = 86_400.0
    business: Seconds = 3_600.0
    default: Seconds = 3_600.0


class Cache(Section):
    """Accepted answers, found again."""

    enabled: bool = True
    store: Literal["memory", "redis"] = "memory"
    redis_url: str = Field("", description="redis:// or rediss://; a password comes from redis_password_env.")
    redis_password_env: str = ""
    redis_timeout_s: Seconds = Field(0.04, description="A Redis that takes longer is a miss.")
    entries_max: int = Field(100_000, ge=1, description="Kept in memory, all tenants together; the oldest leave first.")
    entry_bytes_max: int = Field(262_144, ge=1_024, description="A larger answer is not stored.")
    ttl_s: Freshness = Freshness()
    semantic: bool = True
    semantic_task_types: list[TaskType] = Field(
        default_factory=lambda: [TaskType.CHITCHAT, TaskType.FACTUAL_QA, TaskType.OTHER],
        description="Other kinds of work are only found exactly: a changed digit changes their answer.",
    )
    similarity_min: Ratio = Field(0.92, description="Least cosine similarity of a semantic hit; guards apply as well.")


class Breaker(Section):
    """When a target is left alone."""

    window_s: Seconds = Field(30.0, description="Only calls of this last time count.")
    window_calls_max: int = Field(100, ge=1, le=10_000, description="Only so many last calls count.")
    calls_min: int = Field(5, ge=1, description="With fewer calls in the window it stays closed.")
    failure_ratio: Ratio = 0.5
    open_s: Seconds = Field(5.0, description="First open interval; doubles at each failed probe, with jitter.")
    open_s_max: Seconds = 60.0
    probes_max: int = Field(1, ge=1, le=100, description="Calls let through while half-open.")
    slow_call_s: float = Field(0.0, ge=0, le=86_400, description="A longer call is slow; 0 means none is.")
    slow_ratio: Ratio = Field(0.8, description="This share of slow calls opens it too.")


class Hedging(Section):
    """When a second call starts beside a slow one, with strategy: hedged."""

    delay_quantile: Ratio = Field(0.95, description="Of the latencies seen of the first target.")
    delay_s_min: Seconds = 0.05
    delay_s_default: Seconds = Field(2.0, description="While too few latencies have been seen.")
    share_max: Ratio = Field(0.1, description="Share of requests that may be hedged.")


class RetryBudget(Section):
    """How many further calls availability may cost: fallbacks and retries, over all requests of an executor."""

    share: Ratio = Field(0.1, description="Of a request's call, this much is put aside for further calls.")
    calls_min: int = Field(10, ge=0, le=10_000, description="So many may always be made at once, e.g. after a start.")


class Executor(Section):
    """The runner of plans."""

    breaker: Breaker = Breaker()
    confidence_min: Ratio = Field(0.80, description="Least score of an accepted answer where a gate gives one.")
    connect_timeout_s: Seconds = 5.0
    answer_bytes_max: int = Field(8_388_608, ge=1_024, description="A larger provider answer is an error.")
    retry_after_s_max: Seconds = Field(300.0, description="Longer Retry-After times are cut to this.")
    hedging: Hedging = Hedging()
    retry_budget: RetryBudget = RetryBudget()
    slow_start_s: float = Field(10.0, ge=0, le=3_600, description="After an outage a target's share grows this long.")
    share_redis_url: str = Field("", description="Replicas tell each other of open breakers through this Redis.")
    share_redis_password_env: str = ""
    gate_weights: str = Field("", description="An artifact of `spillway calibrate gates`. Default: the built-in one.")


class Limits(Section):
    """Bounds of every gRPC server."""

    message_bytes_max: int = Field(8_388_608, ge=1_024, le=104_857_600)
    metadata_bytes_max: int = Field(16_384, ge=1_024, le=1_048_576)
    concurrent_rpcs_max: int = Field(256, ge=1, le=100_000, description="More are refused at once, to be retried.")
    drain_s: float = Field(1.0, ge=0, le=600, description="After SIGTERM: time for clients to see NOT_SERVING.")
    grace_s: float = Field(20.0, ge=0, le=3_600, description="After the drain: time for calls under way.")


class ServiceAddress(Section):
    """Where a service listens, and where the others find it."""

    listen: str = Field(min_length=1, description="host:port, or unix:/path.")
    target: str = Field(min_length=1, description="A gRPC target, e.g. dns:///executor:50054.")


def _local(port: int) -> ServiceAddress:
    return ServiceAddress(listen=f"127.0.0.1:{port}", target=f"127.0.0.1:{port}")


class Services(Section):
    """Addresses."""

    orchestrator: ServiceAddress = _local(50051)
    classifier: ServiceAddress = _local(50052)
    cache: ServiceAddress = _local(50053)
    executor: ServiceAddress = _local(50054)


class Telemetry(Section):
    """Where traces and metrics go."""

    otlp_endpoint: str = Field("", description="An OTLP gRPC endpoint, e.g. http://jaeger:4317; empty means no export.")
    query_url: str = Field("", description="Jaeger's query API, for `spillway ask` to show traces.")
    sample_ratio: Ratio = Field(1.0, description="Share of new traces kept; a caller's decision is followed.")
    export_interval_s: Seconds = Field(1.0, description="At most so long after its end a span leaves.")


class Log(Section):
    """What is written to standard error, as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole file."""

    version: Literal[1] = 1
    providers: dict[Name, Provider] = Field(min_length=1)
    tiers: list[Tier] = Field(min_length=1, max_length=8, description="Cheapest first.")
    flagship: str = Field(
        "", description="The target that savings are measured against. Default: the last tier's first."
    )
    policy: Policy = Policy()
    orchestrator: Orchestrator = Orchestrator()
    classifier: Classifier = Classifier()
    cache: Cache = Cache()
    executor: Executor = Executor()
    services: Services = Services()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()

    @property
    def flagship_target(self) -> Target:
        """The target that savings are measured against."""
        targets = [target for tier in self.tiers for target in tier.targets]
        return next((t for t in targets if t.name == self.flagship), self.tiers[-1].targets[0])
