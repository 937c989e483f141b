"""All that one version of the configuration makes of the pipeline.

Promises: immutable, so that a request that holds one sees this version alone from its beginning to its end, whatever is
exchanged meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.orchestrator.policy.policy import Policy
from spillway.routing import TaskType
from spillway.settings import Price, Settings, Target

__all__ = ["Configured"]


@dataclass(frozen=True, slots=True)
class Configured:
    """Made by `of`. `semantic_task_types` are the kinds of work whose answers are found by meaning.

    `version` is the file's, by which executors look for what a plan names. `in_force` is of `settings`: another one
    while settings of the file wait for a restart. `prices` are by target.
    """

    settings: Settings
    version: str
    in_force: str
    policy: Policy
    flagship: Target
    prices: Mapping[str, Price]
    semantic_task_types: frozenset[TaskType]

    @classmethod
    def of(cls, settings: Settings, version: str, in_force: str = "") -> Configured:
        """`in_force`: default `version`. Raises ValueError for settings that name unknown tiers."""
        return cls(
            settings,
            version,
            in_force or version,
            Policy(settings),
            settings.flagship_target,
            {target.name: target.price for tier in settings.tiers for target in tier.targets},
            frozenset(settings.cache.semantic_task_types if settings.cache.semantic else ()),
        )
