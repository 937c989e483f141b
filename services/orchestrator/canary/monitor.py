"""What grades add up to: alarms when quality has drifted, and the confidence that is asked for after them.

Promises: an alarm is raised once, whichever replica sees it first, logged (`canary_drift`) with what it rests on, and
the test begins anew. Nothing is tightened but by an alarm, with `tighten` set, one step at a time, up to `tighten_max`,
and never without a line in each replica's log (`canary_confidence`) of before and after; nothing here ever loosens.
What replicas have in common is as old as the last grade or READ_S at most. A store that is away costs the grades of
that time, which are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.orchestrator.canary.drift import (
    OVERALL,
    STREAMS,
    Estimate,
    Tally,
    Watch,
    estimate,
    evidence,
    evidence_min,
)
from services.orchestrator.canary.drift_store import Drift, DriftStore
from services.orchestrator.canary.sample import Comparison
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.tasks import end_tasks
from spillway.routing import TaskType
from spillway.settings import Settings, Target

__all__ = ["READ_S", "Alarm", "DriftMonitor", "Standing"]

READ_S: Final = 30.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one stream stands: the drop with its 95 % interval, and its evidence as a share of what is an alarm, at
    least 0 (both as logarithms, so 0.5 is half of the way)."""

    stream: str
    drop: Estimate
    alarm_share: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """A drop beyond what is allowed, and what was made of it: (kind of work, confidence before, after)."""

    stream: str
    drop: Estimate
    tightened: tuple[tuple[TaskType, float, float], ...] = ()


class DriftMonitor:
    """For one event loop. `start` once, `close` at the end; `apply` exchanges the settings at any time."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: DriftStore,
        clock: Clock,
        on_alarm: Callable[[Alarm], None] = lambda alarm: None,
        on_uncounted: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_alarm = on_alarm
        self._on_uncounted = on_uncounted
        self._compared: tuple[str, str] | None = None
        self._tallies: dict[str, Tally] = {}
        self._levels: dict[TaskType, int] = {}
        self._task: asyncio.Task[None] | None = None
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Goes on with other settings. Counts stay, but where flagship or judge is another now, or another model of
        the same name; levels stay."""
        self._settings = settings.canary
        # What the executor asks for when a plan says nothing.
        self._confidence_default = settings.executor.confidence_min
        self._watch = Watch(settings.canary.drop_max, settings.canary.false_alarm_max)
        compared = Comparison.of(settings)
        who = (_who(compared.flagship), _who(compared.judge))
        if who != self._compared:
            self._compared = who
            self._tallies = {stream: Tally() for stream in STREAMS}
            self._store.compare(*who)

    async def start(self) -> None:
        """Reads what other replicas have counted, and goes on to do so. Does not fail when the store is away."""
        await self.read()
        self._task = asyncio.get_running_loop().create_task(self._keep_reading(), name="canary-drift")

    async def close(self) -> None:
        """Ends it, and the store."""
        if self._task is not None:
            await end_tasks([self._task])
        await self._store.close()

    async def read(self) -> None:
        """Takes over what stands in the store."""
        compared = self._compared
        drift = await self._store.read()
        if drift is not None and compared == self._compared:
            self._tallies |= drift.tallies  # also when they have become fewer: a Redis without a memory begins again
            self._take_over(drift)

    async def take(self, task_type: TaskType, drop_units: int) -> None:
        """Counts one pair of grades: the flagship's less the answer's, in twentieths."""
        compared = self._compared
        drift = await self._store.add(task_type, drop_units)
        if drift is None:
            self._on_uncounted()
            return
        if compared != self._compared:  # exchanged meanwhile: these are another's counts
            return
        self._take_over(drift)
        for stream in (OVERALL, task_type.value):
            tally = self._tallies[stream]
            # The first alarm may have emptied the other one.
            if self._watch.is_alarm(stream, tally):
                await self._raise(stream, tally)

    def confidence_min(self, task_type: TaskType | None, configured: float | None) -> float | None:
        """The least confidence for a plan that would ask for `configured` (None: what the executor asks for).

        Where nothing was tightened that is `configured`; it is never below it.
        """
        level = self._level(task_type) if task_type is not None and self._settings.tighten else 0
        if not level:
            return configured
        base = self._confidence_default if configured is None else configured
        return self._raised(base, level)

    def standings(self) -> tuple[Standing, ...]:
        """Of every stream with grades, as last seen."""
        return tuple(
            Standing(
                stream,
                estimate(tally),
                max(0.0, evidence(tally, self._watch.drop_max)) / evidence_min(stream, self._watch.false_alarm_max),
            )
            for stream, tally in tuple(self._tallies.items())
            if tally.grades
        )

    def levels(self) -> dict[TaskType, int]:
        """How often each kind of work has been tightened."""
        return dict(self._levels)

    async def _raise(self, stream: str, tally: Tally) -> None:
        """The alarm, unless another replica was first."""
        kinds = self._to_tighten(stream)
        # What was counted before is of answers that were let through more easily.
        also = {OVERALL, *(kind.value for kind in kinds)} if kinds else set()
        drift = await self._store.begin_anew(stream, tally.era, also=also, tightened=kinds)
        if drift is None:
            return  # the evidence stays, and the next grade finds it
        before = {kind: self._level(kind) for kind in kinds}
        self._take_over(drift)
        if not drift.tallies:
            return  # somebody else was first
        changes = tuple((kind, self._least(before[kind]), self._least(self._level(kind))) for kind in kinds)
        drop = estimate(tally)
        _log.warning(
            "canary_drift",
            task_type=stream,
            drop_max=self._watch.drop_max,
            drop_mean=round(drop.mean, 4),
            drop_low=round(drop.low, 4),
            drop_high=round(drop.high, 4),
            grades=drop.grades,
            tightened=[kind.value for kind in kinds],
        )
        self._on_alarm(Alarm(stream, drop, changes))

    def _to_tighten(self, stream: str) -> tuple[TaskType, ...]:
        """The alarm's kind of work; of all together, those whose own drop looks too large. Not what is at its most."""
        if not self._settings.tighten:
            return ()
        kinds = TaskType if stream == OVERALL else (TaskType(stream),)
        return tuple(
            kind
            for kind in kinds
            if (stream != OVERALL or estimate(self._tallies[kind.value]).mean > self._watch.drop_max)
            and self._least(self._level(kind) + 1) > self._least(self._level(kind))
        )

    def _level(self, kind: TaskType) -> int:
        return self._levels.get(kind, 0)

    def _least(self, level: int) -> float:
        """The least confidence of plans that say nothing."""
        return self._raised(self._confidence_default, level)

    def _raised(self, base: float, level: int) -> float:
        return max(base, min(self._settings.tighten_max, base + level * self._settings.tighten_step))

    def _take_over(self, drift: Drift) -> None:
        for stream, tally in drift.tallies.items():
            mine = self._tallies[stream]
            if tally.era != mine.era or tally.grades >= mine.grades:  # answers of the store may overtake one another
                self._tallies[stream] = tally
        changed = [kind for kind in TaskType if self._level(kind) != drift.levels.get(kind, 0)]
        before = {kind: self._level(kind) for kind in changed}
        self._levels = dict(drift.levels)
        for kind in changed if self._settings.tighten else ():  # by an alarm anywhere, or by hand
            _log.warning(
                "canary_confidence",
                task_type=kind.value,
                confidence_before=self._least(before[kind]),
                confidence_after=self._least(self._level(kind)),
            )

    async def _keep_reading(self) -> None:
        while True:
            await self._clock.sleep(READ_S)
            await self.read()


def _who(target: Target) -> str:
    """Tells it from others, and from another model in its place."""
    return f"{len(target.name)}:{target.name}:{target.model}"
