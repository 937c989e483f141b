"""Where models are served, what they cost, and the ladder of tiers with its gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spillway.chat import Usage
from spillway.routing import Normalizer
from spillway.settings.section import BaseUrl, Name, Ratio, Seconds, Section, VariableName

__all__ = [
    "AgreementGate",
    "CompositeGate",
    "Gate",
    "JudgeGate",
    "LogprobGate",
    "Prefix",
    "Price",
    "Provider",
    "RulesGate",
    "SelfConfidenceGate",
    "SelfEvaluationGate",
    "Target",
    "Tier",
]


class Provider(Section):
    """Where models are served: any server that speaks OpenAI's chat completions or Anthropic's Messages."""

    kind: Literal["openai", "anthropic"] = Field("openai", description="The wire format.")
    base_url: BaseUrl
    api_key_env: VariableName = Field("", description="The environment variable with the key; empty: no key.")
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
