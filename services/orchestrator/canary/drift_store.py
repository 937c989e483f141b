"""Where the drops are counted: one Protocol, and the store of a single process.

Promises of every implementation: `add` counts one drop, for its kind of work and for all together, and returns what
stands then, in one round trip; nothing is counted twice on purpose (there are no retries). `begin_anew` empties tallies
and raises levels together, once for each era, however many ask. A store that cannot be reached returns None within its
time limit. It holds counts, never a prompt, an answer, or a tenant. For one event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.orchestrator.canary.drift import OVERALL, STREAMS, Tally, place
from spillway.routing import TaskType

__all__ = ["Drift", "DriftStore", "MemoryDrift"]


@dataclass(frozen=True, slots=True)
class Drift:
    """What is known: tallies of some streams of STREAMS, and how often each kind of work has been tightened."""

    tallies: Mapping[str, Tally] = field(default_factory=dict)
    levels: Mapping[TaskType, int] = field(default_factory=dict)


class DriftStore(Protocol):
    """The counts."""

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        """Counts one drop; returns the tallies of `task_type` and OVERALL, and all levels."""
        ...

    async def read(self) -> Drift | None:
        """All that is known."""
        ...

    async def begin_anew(
        self, stream: str, era: int, *, also: Collection[str] = (), tightened: Collection[TaskType] = ()
    ) -> Drift | None:
        """Empties `stream` and the streams `also`, and raises the level of each of `tightened` by one.

        Returns all that is known then. Does nothing, and returns no tallies, when `stream` is not in `era` any more:
        somebody else was first.
        """
        ...

    def compare(self, flagship: str, judge: str) -> None:
        """From now on it is about answers beside those of `flagship`, graded by `judge`; levels stay.

        Each is a text that tells the one from others.

        Counts of one comparison are never mixed with another's.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


class MemoryDrift:
    """The store of a single process."""

    def __init__(self) -> None:
        self._compared = ("", "")
        self._tallies = {stream: Tally() for stream in STREAMS}
        self._levels: dict[TaskType, int] = {}

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        place(drop_units)
        for stream in (task_type.value, OVERALL):
            self._tallies[stream] = self._tallies[stream].add(drop_units)
        both = {stream: self._tallies[stream] for stream in (task_type.value, OVERALL)}
        return Drift(both, dict(self._levels))

    async def read(self) -> Drift | None:
        return Drift(dict(self._tallies), dict(self._levels))

    async def begin_anew(
        self, stream: str, era: int, *, also: Collection[str] = (), tightened: Collection[TaskType] = ()
    ) -> Drift | None:
        if self._tallies[stream].era != era:
            return Drift({}, dict(self._levels))
        for each in {stream, *also}:
            self._tallies[each] = Tally(self._tallies[each].era + 1)
        for kind in tightened:
            self._levels[kind] = self._levels.get(kind, 0) + 1
        return await self.read()

    def compare(self, flagship: str, judge: str) -> None:
        if (flagship, judge) != self._compared:
            self._compared = (flagship, judge)
            self._tallies = {stream: Tally() for stream in STREAMS}

    async def close(self) -> None:
        """Nothing to let go of."""
