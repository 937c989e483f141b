"""Accepted answers, found again: how sure, how long, how many, and where they are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.routing import TaskType
from spillway.settings.section import Ratio, Seconds, Section, VariableName

__all__ = ["Audits", "Cache", "Freshness"]


class Freshness(Section):
    """How long an answer may be served, by data-freshness class; a request's tag "freshness:static" names the class."""

    static: Seconds = 86_400.0
    business: Seconds = 3_600.0
    default: Seconds = 3_600.0


class Audits(Section):
    """Would-be hits for which a model is asked all the same, off the caller's path."""

    share: Ratio = Field(0.05, description="Share of the answers found by meaning.")
    per_minute_max: int = Field(60, ge=0, le=1_000_000, description="At most so many, per orchestrator.")


class Cache(Section):
    """Accepted answers, found again."""

    enabled: bool = True
    store: Literal["memory", "file", "redis"] = Field(
        "memory", description="memory: gone with the process; file: on this machine's disk; redis: shared by replicas."
    )
    file: str = Field("", description="With store: file. Default: cache.sqlite in the working directory.")
    redis_url: str = Field(
        "",
        description="redis://, rediss://, redis+sentinel://host,host/master or redis+cluster://host,host; "
        "a password comes from redis_password_env.",
    )
    redis_password_env: VariableName = ""
    redis_timeout_s: Seconds = Field(0.04, description="A Redis that takes longer is a miss.")
    prompt_key_file: str = Field(
        "",
        description="With store: redis or file. Keys of 32 bytes in hexadecimal or Base64, one a line: the first seals "
        "questions, answers and vectors, all open them. The index is then not kept over restarts.",
    )
    snapshot_dir: str = Field("", description="With store: redis. Where a replica keeps its index over restarts.")
    entries_max: int = Field(100_000, ge=1, description="All tenants together; the least valuable leave first.")
    tenant_entries_max: int = Field(100_000, ge=1, description="Of one tenant.")
    bytes_max: int = Field(
        536_870_912, ge=1_048_576, description="Of all entries, with what the store needs beside their contents."
    )
    entry_bytes_max: int = Field(262_144, ge=1_024, description="A larger answer is not stored.")
    ttl_s: Freshness = Freshness()
    semantic: bool = True
    semantic_task_types: list[TaskType] = Field(
        default_factory=lambda: [TaskType.CHITCHAT, TaskType.FACTUAL_QA, TaskType.OTHER],
        description="Other kinds of work are only found exactly: a changed digit changes their answer.",
    )
    semantic_temperature_max: float = Field(
        1.0, ge=0, le=2, description="Requests of a higher temperature want variety: they are only found exactly."
    )
    allow_time_sensitive: bool = Field(False, description='Whether prompts with "today", "latest" and such are cached.')
    allow_personal: bool = Field(False, description="Whether prompts about the caller's own matters are cached.")
    similarity_min: Ratio = Field(
        0.5, description="Answers to questions below this cosine similarity are never served; the verifier decides."
    )
    max_wrong_rate: Ratio = Field(
        0.005,
        description="Wrong answers served by meaning, at most, as a share of the lookups by meaning of each class (a"
        " tenant's work of one kind), and so of all lookups. 0: exact hits only.",
    )
    verifier: str = Field("", description="An artifact of `spillway calibrate cache`. Default: the built-in one.")
    audits: Audits = Audits()
