"""How good the targets' answers were, by kind of work, as the ledger measured it (`quality_feed` keeps it up to date).

Promises: a value; the lookup is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from spillway.routing import MeasuredQuality, TaskType

__all__ = ["QualityTable"]


@dataclass(frozen=True, slots=True)
class QualityTable:
    """What was measured of each target and kind of work."""

    _by_key: Mapping[tuple[str, TaskType], MeasuredQuality] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, qualities: Iterable[MeasuredQuality]) -> QualityTable:
        """The table of these; of two for the same target and kind of work the last counts."""
        return cls(MappingProxyType({(each.target, each.task_type): each for each in qualities}))

    def find(self, target: str, task_type: TaskType) -> MeasuredQuality | None:
        """What was measured, if anything."""
        return self._by_key.get((target, task_type))

    def __len__(self) -> int:
        return len(self._by_key)
