"""A set checker for stores that are killed: what was tried, what was acknowledged, and what may be there afterwards.

For each key the changes were made one after the other by one caller. What the store holds afterwards must be the last
acknowledged value of the key, or that of a change that was tried after it (the one under way when the store died);
anything else is a loss, a revival, or a phantom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Acknowledged"]


@dataclass(slots=True)
class Acknowledged:
    """Values are texts; None is "deleted" or "never there"."""

    _known: dict[str, str | None] = field(default_factory=dict)
    _tried: dict[str, list[str | None]] = field(default_factory=dict)  # since the last acknowledged change

    def tried(self, key: str, value: str | None) -> None:
        """Call it before the change."""
        self._tried.setdefault(key, []).append(value)

    def acknowledged(self, key: str, value: str | None) -> None:
        """Call it when the store has said that it is done."""
        self._known[key] = value
        self._tried[key] = []

    @property
    def keys(self) -> list[str]:
        """All that was ever tried."""
        return list(self._tried)

    def settle(self, held: Mapping[str, str]) -> list[str]:
        """What is wrong with what the store holds, in words; then takes it as what is known."""
        wrong = []
        for key in {*self._tried, *held}:
            value = held.get(key)
            allowed = [self._known.get(key), *self._tried.get(key, ())]
            if key not in self._tried or value not in allowed:
                wrong.append(f"{key} holds {value!r}; it may hold one of {allowed!r}")
            self._known[key] = value
            self._tried[key] = []
        return wrong
