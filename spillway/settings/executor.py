"""The runner of plans: breakers, hedges, budgets."""

from __future__ import annotations

from pydantic import Field

from spillway.settings.section import Ratio, Seconds, Section, VariableName

__all__ = ["Breaker", "Executor", "Hedging", "RetryBudget"]


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
    share_redis_url: str = Field(
        "", description="Replicas tell each other of open breakers through this Redis; its URL as that of the cache."
    )
    share_redis_password_env: VariableName = ""
    gate_weights: str = Field("", description="An artifact of `spillway calibrate gates`. Default: the built-in one.")
