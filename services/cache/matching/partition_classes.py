"""The classes of partitions whose errors are controlled together, and what they learned.

A class is a tenant's work of one kind. `OWN_MAX` have a controller of their own; whoever finds none shares the
controller of its kind of work, at once; no guard is lifted there, as one tenant's questions would lift it for others,
and nothing is served by meaning to a tenant of whose own questions it has not heard as much as a class must.
One that never learned enough to serve anything and was idle for `IDLE_CALLS` makes room for a new one. The limit then
holds for all who share it together.

Promises: memory is bounded (some 2 MB a class); fitting happens in a thread, one fit at a time for each class; what was
learned survives a restart where there is a directory, of the KEPT_MAX classes that learned last: files of others are
removed, and one that cannot be used is left out and logged. Each replica learns by itself: a sum of shares that are
each below the limit is below it.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.class_files import read_classes, write_class
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, RiskReport, Source
from services.cache.matching.risk_model import EVIDENCE_MIN, RiskModel, fit_risk_model
from services.cache.matching.risk_state import RiskStateError
from services.runtime.logs import describe_exception, get_logger
from spillway.routing import TaskType

__all__ = ["ClassReport", "PartitionClass", "PartitionClasses"]

Floats = npt.NDArray[np.float64]

OWN_MAX: Final = 64
IDLE_CALLS: Final = 20_000
"""Lookups and answers of all classes since the last one of a class: it is idle from then on."""

NOTHING_SERVED: Final = 2.0
"""A threshold that no probability reaches."""

SHARERS_MAX: Final = 4_096
"""Tenants of a shared class of which it is known how much was heard of each: those that were heard last. Another begins
anew, and all do when a process starts."""

KEPT_MAX: Final = 2 * OWN_MAX
"""Files of classes: those that have a controller of their own, the shared ones, and some that had."""
SAVE_EVERY: Final = 50
"""Pieces of evidence after which a class is written again."""


@dataclass(frozen=True, slots=True)
class ClassReport:
    """What a class has done since this process started, and what is known of its errors."""

    name: str
    lookups: int
    hits: int
    audited: int
    wrong: int
    comparisons: Mapping[Comparison, int]
    risk: RiskReport

    @property
    def threshold(self) -> float:
        """The least P(same answer) that is served now; above 1 nothing is."""
        return 1.0 - self.risk.bar if self.risk.opened and self.risk.bar > 0.0 else NOTHING_SERVED


class PartitionClass:
    """One controller and its counts. `tenant` is None for the class that tenants share."""

    def __init__(self, task_type: TaskType, tenant: str | None, policy: RiskPolicy, random: Random) -> None:
        self.task_type, self.tenant = task_type, tenant
        self.controller = RiskController(policy, random, lifts=tenant is not None)
        self.name = task_type.value if not tenant else f"{task_type.value}/{tenant}"
        self._counts = {"lookups": 0, "hits": 0, "audited": 0, "wrong": 0}
        self._comparisons = dict.fromkeys(Comparison, 0)
        self.fitting: asyncio.Task[None] | None = None
        self.unsaved = 0
        self.told_elsewhere = 0
        self.audits_open = 0
        self.used_at = 0
        self._sharers: OrderedDict[str, int] = OrderedDict()

    def hear(self, tenant: str) -> None:
        """Counts a piece of evidence of that tenant's questions."""
        if self.tenant is not None:
            return
        self._sharers[tenant] = self._sharers.pop(tenant, 0) + 1
        while len(self._sharers) > SHARERS_MAX:
            self._sharers.popitem(last=False)

    def knows(self, tenant: str) -> bool:
        """Whether what was learned here may serve that tenant: where it is shared, by evidence of its own alone."""
        return self.tenant is not None or self._sharers.get(tenant, 0) >= EVIDENCE_MIN

    @property
    def hits(self) -> int:
        """Hits served here."""
        return self._counts["hits"]

    @property
    def evidence(self) -> int:
        """Pieces of evidence heard."""
        return self.controller.observed

    def count(self, *, lookups: int = 0, hits: int = 0, audited: int = 0, wrong: int = 0) -> None:
        """Adds to the counts."""
        for name, more in (("lookups", lookups), ("hits", hits), ("audited", audited), ("wrong", wrong)):
            self._counts[name] += more

    def compared(self, verdict: Comparison) -> None:
        """Counts a comparison of a fresh answer with the stored one that would have been served, or was."""
        self._comparisons[verdict] += 1

    def report(self) -> ClassReport:
        """As of now."""
        return ClassReport(
            self.name, **self._counts, comparisons=dict(self._comparisons), risk=self.controller.report()
        )

    def adopt(self, model: RiskModel | None) -> None:
        """Decides by this model from now on."""
        self.controller.adopt(model)

    def drawn(self, judged: Judged) -> None:
        """Remembers that a hit was drawn for an audit, of which nothing was told yet."""
        self.audits_open += judged.audit

    def told(self, judged: Judged) -> None:
        """A hit that was drawn was told of, here or in the place of one that was drawn here."""
        self.audits_open -= judged.audit

    def judged_elsewhere(self, features: Floats, guard: str, group: str = "") -> Judged:
        """A hit that another replica decided, as this one would have booked it.

        Audits reach any replica. Each gets as many of others as others get of its own, so the estimate stays right; and
        no more are taken for audits than were drawn here.
        """
        return self.controller.judge_elsewhere(features, guard, group=group, audit=self.audits_open > 0)


class PartitionClasses:
    """`threads` do the fitting; without any it is done at once. `directory` keeps what was learned."""

    def __init__(
        self,
        policy: RiskPolicy,
        *,
        random: Random,
        threads: Executor | None = None,
        directory: Path | None = None,
    ) -> None:
        self._policy = policy
        self._random = random
        self._threads = threads
        self._directory = directory
        self._own: OrderedDict[tuple[TaskType, str], PartitionClass] = OrderedDict()
        self._shared: dict[TaskType, PartitionClass] = {}
        self._calls = 0
        self._log = get_logger(__name__)

    def of(self, task_type: TaskType, tenant: str) -> PartitionClass:
        """The class that decides for that tenant's work of that kind."""
        self._calls += 1
        found = self._own.get((task_type, tenant))
        if found is None and len(self._own) >= OWN_MAX:
            leaving = self._first_idle()
            if leaving is None:
                if task_type not in self._shared:
                    self._shared[task_type] = self._new(task_type, None)
                return self._shared[task_type]
            del self._own[leaving]
        if found is None:
            found = self._own[task_type, tenant] = self._new(task_type, tenant)
        self._own.move_to_end((task_type, tenant))
        found.used_at = self._calls
        return found

    def seen(self, task_type: TaskType, tenant: str) -> PartitionClass:
        """The class that `of` would give now; one that there is not yet is new, and not kept."""
        found = self._own.get((task_type, tenant))
        if found is None and len(self._own) >= OWN_MAX and self._first_idle() is None:
            found = self._shared.get(task_type)
        return found or PartitionClass(task_type, tenant, self._policy, Random(0))

    def all(self) -> list[PartitionClass]:
        """Every class there is."""
        return [*self._own.values(), *self._shared.values()]

    def observe(
        self, partition_class: PartitionClass, judged: Judged, *, tenant: str, same: bool, source: Source
    ) -> None:
        """Tells the class an outcome, of a question of that tenant, and lets it learn when there is enough new."""
        partition_class.controller.observe(judged, same=same, source=source)
        if judged.features is not None:
            partition_class.hear(tenant)
        partition_class.unsaved += 1
        if partition_class.controller.stale and partition_class.fitting is None:
            if self._threads is None:
                partition_class.adopt(fit_risk_model(partition_class.controller.observations()))
            else:
                partition_class.fitting = asyncio.create_task(self._fit(partition_class, self._threads), name="fit")

    async def load(self) -> None:
        """Takes up what was learned before this process started."""
        if self._directory is None:
            return
        found, left_out = await asyncio.to_thread(read_classes, self._directory, kept_max=KEPT_MAX)
        if left_out:
            self._log.warning("cache_risk_state_left_out", reason="unreadable files", files=left_out)
        for task_type, tenant, state in found:
            made = self._new(task_type, tenant)
            try:
                await asyncio.to_thread(made.controller.restore, state)
            except (RiskStateError, np.linalg.LinAlgError) as error:
                self._log.warning("cache_risk_state_left_out", reason=str(error))
                continue
            if tenant is None:
                self._shared[task_type] = made
            elif len(self._own) < OWN_MAX:
                self._own[task_type, tenant] = made

    async def settle(self) -> None:
        """Returns when no fit is under way."""
        await asyncio.gather(*(each.fitting for each in self.all() if each.fitting is not None))

    async def close(self) -> None:
        """Ends the fits, and keeps what was learned."""
        for each in self.all():
            if each.fitting is not None:
                each.fitting.cancel()
                await asyncio.gather(each.fitting, return_exceptions=True)
            if each.unsaved:
                await self._save(each)

    def _first_idle(self) -> tuple[TaskType, str] | None:
        """The class of longest ago that never learned enough, if that is long enough ago."""
        for key, each in self._own.items():  # in the order of their last use
            if self._calls - each.used_at < IDLE_CALLS:
                return None
            if each.evidence < EVIDENCE_MIN:
                return key
        return None

    def _new(self, task_type: TaskType, tenant: str | None) -> PartitionClass:
        return PartitionClass(task_type, tenant, self._policy, Random(self._random.getrandbits(64)))

    async def _fit(self, partition_class: PartitionClass, threads: Executor) -> None:
        try:
            observations = partition_class.controller.observations()
            model = await asyncio.get_running_loop().run_in_executor(threads, fit_risk_model, observations)
            partition_class.adopt(model)
            if partition_class.unsaved >= SAVE_EVERY:
                await self._save(partition_class)
        except np.linalg.LinAlgError as error:  # it goes on with the model that it has
            self._log.error("cache_risk_fit_failed", **describe_exception(error))
        finally:
            partition_class.fitting = None

    async def _save(self, partition_class: PartitionClass) -> None:
        if self._directory is None:
            return
        partition_class.unsaved = 0
        state = partition_class.controller.state()
        try:
            await asyncio.to_thread(
                write_class, self._directory, partition_class.task_type, partition_class.tenant, state
            )
        except OSError as error:
            self._log.warning("cache_risk_state_not_written", error=type(error).__name__)
