"""What the executor is asked to do: the ordered tiers, their gates, the bounds. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "AgreementSpec",
    "CompositeSpec",
    "GateSpec",
    "JudgeSpec",
    "LogprobSpec",
    "Normalizer",
    "Plan",
    "PlannedTier",
    "RulesSpec",
    "SelfConfidenceSpec",
    "SelfEvaluationSpec",
    "Strategy",
    "StreamPrefix",
]


class Strategy(StrEnum):
    """How the executor walks the tiers of a plan."""

    CHEAP_FIRST = "cheap_first"
    DIRECT = "direct"
    RACE = "race"
    HEDGED = "hedged"
    WATERFALL = "waterfall"


class Normalizer(StrEnum):
    """How the agreement gate compares two answers; AUTO chooses from the task type and the answers' form."""

    AUTO = "auto"
    NUMBER = "number"
    CHOICE = "choice"
    LITERAL = "literal"
    JSON = "json"
    TEXT = "text"


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
    """What the executor is to do: ordered tiers (cheapest first), strategy, gates and budgets.

    `config_version` is of the configuration that it was made by; empty where nobody says.
    """

    tiers: tuple[PlannedTier, ...]
    strategy: Strategy = Strategy.CHEAP_FIRST
    escalations_max: int = 2
    cost_nanousd_max: int | None = None
    confidence_min: float | None = None
    config_version: str = ""
