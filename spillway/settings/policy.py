"""How a route is chosen: bypass, static rules, judgement."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.routing import CacheMode, Complexity, Strategy, TaskType
from spillway.settings.section import Name, Ratio, Section

__all__ = ["Policy", "Rule", "RuleAction", "RuleCondition"]


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
    sufficiency_min: Ratio | None = Field(
        None,
        description="Start at the cheapest tier whose P(an answer suffices) is at least this, whatever the complexity; "
        "`spillway calibrate classifier` finds it for a share of traffic. Default: by complexity.",
    )
    escalations_max: int = Field(2, ge=0, le=2)
    strategy: ConfiguredStrategy = Strategy.CHEAP_FIRST
