"""Alarms, and the confidence that is asked for after them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestrator.canary.drift import OVERALL, UNITS
from services.orchestrator.canary.drift_store import Drift, DriftStore, MemoryDrift
from services.orchestrator.canary.monitor import READ_S, Alarm, DriftMonitor
from services.runtime.clock import FakeClock
from spillway.routing import TaskType
from spillway.settings import Settings
from tests.support.waiting import until
from tests.unit.orchestrator.ladder import settings_of, target, tier

DEFAULT = 0.6


def settings_with(**canary: Any) -> Settings:
    return settings_of(canary=canary, executor={"confidence_min": DEFAULT})


class Watched:
    """A monitor, its alarms, and what was lost."""

    def __init__(self, store: DriftStore | None = None, **canary: Any) -> None:
        self.clock = FakeClock()
        self.alarms: list[Alarm] = []
        self.lost = 0
        self.store = store or MemoryDrift()
        self.monitor = DriftMonitor(
            settings_with(**canary),
            store=self.store,
            clock=self.clock,
            on_alarm=self.alarms.append,
            on_uncounted=self._lose,
        )

    def _lose(self) -> None:
        self.lost += 1

    async def until_alarm(self, kind: TaskType, drop_units: int, most: int = 400) -> int:
        """Takes the same drop until there is an alarm more; says how many it took."""
        before = len(self.alarms)
        for count in range(1, most + 1):
            await self.monitor.take(kind, drop_units)
            if len(self.alarms) > before:
                return count
        raise AssertionError("no alarm")


class Away(MemoryDrift):
    """A store that can be out of reach."""

    is_away = False

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        return None if self.is_away else await super().add(task_type, drop_units)

    async def read(self) -> Drift | None:
        return None if self.is_away else await super().read()

    async def begin_anew(
        self, stream: str, era: int, *, also: Collection[str] = (), tightened: Collection[TaskType] = ()
    ) -> Drift | None:
        return None if self.is_away else await super().begin_anew(stream, era, also=also, tightened=tightened)


async def test_a_large_drop_is_one_alarm_with_its_interval_and_the_test_begins_anew() -> None:
    watched = Watched()
    with structlog.testing.capture_logs() as logs:
        took = await watched.until_alarm(TaskType.CODE, UNITS)
    (alarm,) = watched.alarms
    assert alarm.stream == OVERALL  # it has the larger share of what may go wrong
    assert (alarm.drop.mean, alarm.drop.grades, alarm.tightened) == (1, took, ())
    assert 0.03 < alarm.drop.low <= alarm.drop.high == pytest.approx(1)
    (event,) = [each for each in logs if each["event"] == "canary_drift"]
    assert (event["task_type"], event["grades"], event["log_level"]) == (OVERALL, took, "warning")
    standing = {each.stream: each.drop.grades for each in watched.monitor.standings()}
    assert standing == {"code": took}


async def test_a_kind_of_work_that_drops_alone_raises_its_own_alarm_and_both_its_tests_begin_anew() -> None:
    watched = Watched(tighten=True)
    for _ in range(400):
        await watched.monitor.take(TaskType.MATH, 0)
        await watched.monitor.take(TaskType.CHITCHAT, -1)
    for _ in range(600):
        await watched.monitor.take(TaskType.CODE, UNITS // 4)
        for kind in (TaskType.MATH, TaskType.CHITCHAT, TaskType.CREATIVE, TaskType.SUMMARIZATION):
            for _more in range(3):
                await watched.monitor.take(kind, -1)
        if watched.alarms:
            break
    assert [alarm.stream for alarm in watched.alarms] == ["code"]
    assert watched.monitor.levels() == {TaskType.CODE: 1}
    left = {each.stream: each.drop.grades for each in watched.monitor.standings()}
    assert "code" not in left
    assert left.get(OVERALL, 0) < 20 < left["math"]  # that of all together was counted before, too


async def test_no_drop_tightens_nothing() -> None:
    watched = Watched(tighten=True)
    for _ in range(500):
        await watched.monitor.take(TaskType.CODE, 0)
    assert watched.alarms == []
    assert watched.monitor.confidence_min(TaskType.CODE, None) is None
    assert watched.monitor.confidence_min(TaskType.CODE, 0.3) == 0.3


async def test_an_alarm_tightens_one_step_and_says_before_and_after() -> None:
    watched = Watched(tighten=True, tighten_step=0.1)
    with structlog.testing.capture_logs() as logs:
        await watched.until_alarm(TaskType.CODE, UNITS)
    ((kind, before, after),) = watched.alarms[0].tightened
    assert (kind, before) == (TaskType.CODE, DEFAULT)
    assert after == pytest.approx(0.7)
    (event,) = [each for each in logs if each["event"] == "canary_confidence"]
    assert (event["task_type"], event["confidence_before"], event["confidence_after"]) == (
        "code",
        DEFAULT,
        pytest.approx(0.7),
    )
    assert watched.monitor.confidence_min(TaskType.CODE, None) == pytest.approx(0.7)
    assert watched.monitor.confidence_min(TaskType.CODE, 0.8) == pytest.approx(0.9)
    assert watched.monitor.confidence_min(TaskType.MATH, None) is None
    assert watched.monitor.confidence_min(None, 0.5) == 0.5
    assert watched.monitor.standings() == ()  # what was let through before says nothing of now


async def test_of_all_together_only_the_kinds_that_dropped_are_tightened() -> None:
    watched = Watched(tighten=True)
    for _ in range(20):
        await watched.monitor.take(TaskType.MATH, 0)
    await watched.until_alarm(TaskType.CODE, UNITS)
    assert watched.monitor.levels() == {TaskType.CODE: 1}


async def test_tightening_ends_at_its_most_and_alarms_go_on() -> None:
    watched = Watched(tighten=True, tighten_step=0.3, tighten_max=0.95)
    for _ in range(4):
        await watched.until_alarm(TaskType.CODE, UNITS)
    assert watched.monitor.levels() == {TaskType.CODE: 2}
    assert watched.monitor.confidence_min(TaskType.CODE, None) == 0.95
    assert watched.monitor.confidence_min(TaskType.CODE, 0.99) == 0.99


@settings(max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 50))
def test_nothing_asks_for_less_than_was_configured_or_raises_above_the_most(
    configured: float, step: float, most: float, level: int
) -> None:
    watched = Watched(tighten=True, tighten_step=step, tighten_max=most)
    watched.monitor._levels = {TaskType.CODE: level}
    least = watched.monitor.confidence_min(TaskType.CODE, configured)
    assert least is not None
    assert configured <= least <= max(configured, most)


async def test_without_tighten_an_alarm_changes_nothing() -> None:
    watched = Watched(tighten=False)
    await watched.until_alarm(TaskType.CODE, UNITS)
    assert (watched.monitor.levels(), watched.monitor.confidence_min(TaskType.CODE, None)) == ({}, None)


async def test_two_replicas_raise_one_alarm_and_ask_for_the_same_confidence() -> None:
    store = MemoryDrift()
    one, other = Watched(store, tighten=True), Watched(store, tighten=True)
    for _ in range(100):
        await asyncio.gather(one.monitor.take(TaskType.CODE, UNITS), other.monitor.take(TaskType.CODE, UNITS))
        if one.alarms or other.alarms:
            break
    assert len(one.alarms) + len(other.alarms) == 1
    await one.monitor.read()
    await other.monitor.read()
    least = one.monitor.confidence_min(TaskType.CODE, None)
    assert least == other.monitor.confidence_min(TaskType.CODE, None) == pytest.approx(DEFAULT + 0.05)


async def test_a_replica_hears_of_the_others_alarms_from_time_to_time() -> None:
    store = MemoryDrift()
    one, other = Watched(store, tighten=True), Watched(store, tighten=True)
    await other.monitor.start()
    await one.until_alarm(TaskType.CODE, UNITS)
    assert other.monitor.levels() == {}
    await until(lambda: other.clock.sleepers > 0)
    other.clock.advance(READ_S)
    with structlog.testing.capture_logs() as logs:
        await until(lambda: bool(other.monitor.levels()))
    assert [each["event"] for each in logs] == ["canary_confidence"]
    await other.monitor.close()


async def test_what_a_store_that_is_away_does_not_count_is_counted_as_lost() -> None:
    store = Away()
    watched = Watched(store)
    await watched.monitor.take(TaskType.CODE, 0)
    store.is_away = True
    for _ in range(50):
        await watched.monitor.take(TaskType.CODE, UNITS)
    assert (watched.lost, watched.alarms) == (50, [])
    store.is_away = False
    await watched.until_alarm(TaskType.CODE, UNITS)


async def test_a_human_lowers_it_in_the_store_and_every_replica_says_so() -> None:
    watched = Watched(tighten=True)
    await watched.until_alarm(TaskType.CODE, UNITS)
    assert isinstance(watched.store, MemoryDrift)
    watched.store._levels.clear()
    with structlog.testing.capture_logs() as logs:
        await watched.monitor.read()
    assert [(each["event"], each["confidence_after"]) for each in logs] == [("canary_confidence", DEFAULT)]
    assert watched.monitor.confidence_min(TaskType.CODE, None) is None


async def test_with_another_judge_the_count_begins_anew_and_levels_stay() -> None:
    watched = Watched(tighten=True)
    await watched.until_alarm(TaskType.CODE, UNITS)
    await watched.monitor.take(TaskType.CODE, 0)
    watched.monitor.apply(settings_with(tighten=True, judge="medium-1"))
    assert watched.monitor.standings() == ()
    await watched.monitor.read()
    assert watched.monitor.standings() == ()
    assert watched.monitor.levels() == {TaskType.CODE: 1}


@pytest.mark.parametrize("name", ["complex-1", "medium-1"], ids=["the flagship", "the judge"])
async def test_with_another_model_under_the_same_name_the_count_begins_anew(name: str) -> None:
    watched = Watched(judge="medium-1")
    await watched.monitor.take(TaskType.CODE, 5)
    watched.monitor.apply(settings_with(judge="medium-1"))
    assert {each.drop.grades for each in watched.monitor.standings()} == {1}
    same_name = {**target(name), "model": "next"}
    tiers = [tier(each, same_name) if name == f"{each}-1" else tier(each) for each in ("simple", "medium", "complex")]
    watched.monitor.apply(settings_of(*tiers, canary={"judge": "medium-1"}, executor={"confidence_min": DEFAULT}))
    assert watched.monitor.standings() == ()


async def test_the_standing_says_how_far_it_is_to_an_alarm() -> None:
    watched = Watched()
    shares = []
    for _ in range(3):
        await watched.monitor.take(TaskType.CODE, UNITS)
        shares.append({each.stream: each.alarm_share for each in watched.monitor.standings()})
    assert 0 < shares[0]["code"] < shares[1]["code"] < shares[2]["code"] < shares[2][OVERALL] < 1


class Slow(MemoryDrift):
    """A store whose answers are held until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        found = await super().add(task_type, drop_units)
        await self.gate.wait()
        return found

    async def read(self) -> Drift | None:
        found = await super().read()
        await self.gate.wait()
        return found


async def test_counts_that_arrive_after_the_judge_was_exchanged_are_not_taken_over() -> None:
    store = Slow()
    watched = Watched(store)
    adding = asyncio.create_task(watched.monitor.take(TaskType.CODE, UNITS))
    await asyncio.sleep(0)
    reading = asyncio.create_task(watched.monitor.read())
    await asyncio.sleep(0)
    watched.monitor.apply(settings_with(judge="medium-1"))
    store.gate.set()
    await asyncio.gather(adding, reading)
    assert watched.monitor.standings() == ()


class Overtaken(MemoryDrift):
    """A store whose first answer arrives last."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = asyncio.Event()

    async def add(self, task_type: TaskType, drop_units: int) -> Drift | None:
        found = await super().add(task_type, drop_units)
        if self.gate is not None:
            gate, self.gate = self.gate, None
            await gate.wait()
        return found


async def test_an_answer_that_was_overtaken_takes_nothing_back() -> None:
    store = Overtaken()
    gate = store.gate
    watched = Watched(store)
    adding = asyncio.create_task(watched.monitor.take(TaskType.CODE, 0))
    await asyncio.sleep(0)
    await watched.monitor.take(TaskType.CODE, 0)
    assert gate is not None
    gate.set()
    await adding
    assert {each.drop.grades for each in watched.monitor.standings()} == {2}


class Hesitant(MemoryDrift):
    """A store that others use while a test is to begin anew."""

    async def begin_anew(
        self, stream: str, era: int, *, also: Collection[str] = (), tightened: Collection[TaskType] = ()
    ) -> Drift | None:
        await asyncio.sleep(0)
        return await super().begin_anew(stream, era, also=also, tightened=tightened)


async def test_of_two_replicas_that_see_the_same_drop_at_once_one_raises_the_alarm() -> None:
    store = Hesitant()
    pair = Watched(store, tighten=True), Watched(store, tighten=True)
    while not any(each.alarms for each in pair):
        await asyncio.gather(*(each.monitor.take(TaskType.CODE, UNITS) for each in pair * 3))
    assert sum(len(each.alarms) for each in pair) == 1
    assert [each.monitor.levels() for each in pair] == [{TaskType.CODE: 1}] * 2
