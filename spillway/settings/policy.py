"""How a route is chosen: bypass, static rules, judgement."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spillway.routing import CacheMode, Complexity, Strategy, TaskType
from spillway.settings.ladder import Gate
from spillway.settings.section import Name, Ratio, Section

__all__ = ["CostAware", "NewUsers", "Policy", "Rollout", "Rule", "RuleAction", "RuleCondition", "WeekTime"]

TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="HH:MM.")]
Percent = Annotated[float, Field(ge=0, le=100)]


class WeekTime(Section):
    """A part of the week. A time of day that ends before it starts lasts until the next morning."""

    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = Field(None, min_length=1)
    start: TimeOfDay = "00:00"
    end: TimeOfDay | Literal["24:00"] = "24:00"
    timezone: str = Field("UTC", description="A name of the IANA database, e.g. Europe/Berlin.")


class RuleCondition(Section):
    """What must hold, all of it; an absent condition holds. Only what is visible before any model runs."""

    input_tokens_min: int | None = Field(None, ge=0, description="An estimate: a token is about four characters.")
    input_tokens_max: int | None = Field(None, ge=0)

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
    has_code: bool | None = Field(None, description="Whether the last user turn has source code in it.")
    language: list[Annotated[str, Field(pattern=r"^[a-z]{2}$")]] | None = Field(
        None, min_length=1, description="Of the last user turn, ISO 639-1, as the classifier found it."
    )
    time: WeekTime | None = Field(None, description="When the request came in.")
    any_of: list[RuleCondition] | None = Field(None, min_length=1, max_length=16, description="One of these holds.")
    none_of: list[RuleCondition] | None = Field(None, min_length=1, max_length=16, description="None of these holds.")


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
    gates: list[Gate] | None = Field(
        None, max_length=16, description="In place of those of each tier; [] leaves those that always apply."
    )


class Rule(Section):
    """The first rule whose condition holds is applied."""

    name: Name
    when: RuleCondition
    then: RuleAction


class Rollout(Section):
    """Which share of users is routed. The others get the baseline: one model, no cascade, no cache, as before."""

    baseline: str = Field("", description="The target that answers the others. Default: the flagship.")
    percent: Percent = Field(100.0, description="Of the users (of the requests that name none) that are routed.")
    task_types: dict[TaskType, Percent] = Field(default_factory=dict, description="Of a kind of work, instead.")
    salt: str = Field("", max_length=64, description="Another salt puts other users into the share.")


class NewUsers(Section):
    """People who are new get the strongest tier, so that their first impression is the best there is."""

    messages: int = Field(10, ge=0, le=10_000, description="Of each end user of a tenant; 0: nobody is new.")
    forget_s: float = Field(7_776_000.0, gt=0, le=31_536_000, description="One who was away so long is new again.")
    users_max: int = Field(100_000, ge=1, le=10_000_000, description="Kept in memory without a Redis.")


class CostAware(Section):
    """Start at the cheapest target whose measured quality for the kind of work is close to the flagship's."""

    ratio_min: Ratio = Field(0.9, description="Lower confidence bound of quality / flagship's quality, at least.")
    grades_min: int = Field(50, ge=2, le=1_000_000, description="With fewer grades a target is passed over.")
    window_days: int = Field(30, ge=1, le=365, description="Older grades do not count.")


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
    rollout: Rollout = Rollout()
    new_users: NewUsers = NewUsers()
    specialists: dict[TaskType, str] = Field(
        default_factory=dict, description="The target that is asked first for a kind of work; it escalates as usual."
    )
    cost_aware: CostAware | None = Field(None, description="Default: where to start does not depend on grades.")
    escalations_max: int = Field(2, ge=0, le=2)
    strategy: ConfiguredStrategy = Strategy.CHEAP_FIRST
