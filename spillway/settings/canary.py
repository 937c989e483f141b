"""Answers below the flagship that the flagship answers too, for a judge to compare."""

from __future__ import annotations

from pydantic import Field

from spillway.settings.section import Ratio, Section

__all__ = ["Canary"]


class Canary(Section):
    """The running proof that quality holds. Off every caller's path, with a budget of its own."""

    share: Ratio = Field(0.05, description="Share of the accepted answers below the flagship.")
    judge: str = Field("", description="The target that grades. Default: the flagship.")
    cost_usd_per_day: float = Field(
        1.0, ge=0, le=1e6, description="What flagship and judge may cost a day (UTC), per orchestrator."
    )
    queued_max: int = Field(256, ge=1, le=100_000, description="More are left out, and counted.")
    drop_max: Ratio = Field(0.03, description="A mean grade so much below the flagship's raises the alarm.")
    false_alarm_max: Ratio = Field(0.05, description="The chance of an alarm, ever, while the drop is within drop_max.")
    tighten: bool = Field(False, description="On an alarm the gates of that task type ask for more confidence.")
    tighten_step: Ratio = Field(0.05, description="So much more with each alarm.")
    tighten_max: Ratio = Field(0.95, description="The least confidence is never raised above this.")
