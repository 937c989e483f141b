"""Accepted answers, found again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.routing import TaskType
from spillway.settings.section import Ratio, Seconds, Section

__all__ = ["Cache", "Freshness"]


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
