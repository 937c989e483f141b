"""What lookups and stores come to, and how often: the values that the cache answers with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.cache.entry import Answer
from services.cache.matching.findings import Explanation
from spillway.routing import CacheOutcome

__all__ = ["Found", "Stats", "StoreResult", "Stored"]


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a lookup; `answer` is set for a hit. `partition_entries` is how many questions were compared,
    `audit` whether a model should be asked as well, `explanation` what a decision by meaning rests on. `store_token`:
    which moment of invalidations this was, for `store`; empty when the store was not asked exactly, or was away."""

    outcome: CacheOutcome
    answer: Answer | None = None
    partition_entries: int = 0
    audit: bool = False
    explanation: Explanation | None = None
    store_token: str = ""


class StoreResult(StrEnum):
    """What became of an answer."""

    STORED = "stored"
    NOT_ADMITTED = "not_admitted"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an answer: its key when it was stored, the rule when it was refused."""

    result: StoreResult
    entry_key: str = ""
    reason: str = ""


@dataclass(slots=True)
class Stats:
    """Counts since the start. `lookups`: of requests, each of which may ask here exactly and then by meaning, or one of
    the two elsewhere: hits by meaning may be of lookups that another replica counted. `overtaken`: of those not
    admitted, the ones that had been invalidated."""

    lookups: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    unavailable: int = 0
    stored: int = 0
    not_admitted: int = 0
    overtaken: int = 0
    dropped: int = 0
    indexed_entries: int = 0
    partitions: int = 0
    evicted: int = 0
