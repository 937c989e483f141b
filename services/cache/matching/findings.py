"""What a lookup by meaning comes to, and why; what a fresh answer turned out to be: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from services.cache.entry import Entry

__all__ = ["Explanation", "Link", "SemanticFinding"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a lookup by meaning ended as it did, for the trace: P(same answer), the least that is served now, the margin
    in similarity to the nearest question with another answer, and what the class knows of itself."""

    partition_class: str
    p_same: float
    threshold: float
    margin: float
    evidence: int
    wrong_rate: float
    aliases: int


@dataclass(frozen=True, slots=True)
class SemanticFinding:
    """`entry` is set for a hit. `audit`: a model should be asked as well."""

    reason: str
    entry: Entry | None = None
    similarity: float | None = None
    audit: bool = False
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Whose answer a fresh one was found to be, as Entry has it; empty where it is nobody's."""

    group: str = ""
    aliases: int = 1
