"""Targets that a plan names and that are not configured here: its maker has an older or a newer configuration.

Promises: pure. Such a target is left out and said to be; it was not called, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final

from spillway.routing import Plan, PlannedTier, Strategy
from spillway.settings import Price, Target

__all__ = ["TARGET_UNKNOWN", "known_tiers", "unknown_target"]

TARGET_UNKNOWN: Final = "TARGET_UNKNOWN"  # the reason why a target was not called that only the plan's maker knows


def unknown_target(name: str) -> Target:
    """Stands for a target that a plan names and that is not configured here: it was not called, and costs nothing."""
    price = Price(input_usd_per_mtok=0, output_usd_per_mtok=0)
    return Target.model_construct(name=name, provider="", model="", price=price)


def known_tiers(
    plan: Plan, configured: Container[str]
) -> tuple[tuple[PlannedTier, ...], tuple[tuple[PlannedTier, str], ...]]:
    """The plan's tiers as far as their targets are `configured` here, and what is left out of which.

    DIRECT is its first tier alone; none of another takes its place.
    """
    tiers = plan.tiers[:1] if plan.strategy is Strategy.DIRECT else plan.tiers
    left_out = tuple((tier, name) for tier in tiers for name in tier.targets if name not in configured)
    if not left_out:
        return plan.tiers, ()
    cut = (replace(tier, targets=tuple(name for name in tier.targets if name in configured)) for tier in tiers)
    return tuple(tier for tier in cut if tier.targets), left_out
