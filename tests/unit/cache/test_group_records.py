"""What earlier proposals of an answer came to: bounded, forgetful, kept by digests, heard of by the risk control."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entry import Scope
from services.cache.entry_group import group_of
from services.cache.matching.group_records import GROUPS_MAX, KEPT, OUTCOMES_MAX, GroupRecords
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model
from services.cache.matching.risk_state import RiskStateError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, vector

FEATURES = np.zeros(len(NAMES))


def told(records: GroupRecords, group: str, right: int, wrong: int) -> float:
    for same in [True] * right + [False] * wrong:
        records.add(group, same=same)
    return records.log_odds(group)


def test_a_group_of_which_nothing_was_heard_speaks_neither_for_nor_against() -> None:
    records = GroupRecords()
    assert records.log_odds("a") == 0.0
    assert told(records, "a", 5, 0) > 0.0 > told(records, "b", 0, 5)
    assert records.log_odds("c") == 0.0


def test_newer_outcomes_outweigh_a_long_good_past() -> None:
    assert told(GroupRecords(), "a", 5_000, 0) < math.log(1.0 / (1.0 - KEPT) + 1.0) + 1e-9
    assert told(GroupRecords(), "a", 5_000, 40) < 0.0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=300))
def test_counts_stay_within_their_bound_whatever_is_told(outcomes: list[tuple[int, bool]]) -> None:
    records = GroupRecords()
    for group, same in outcomes:
        records.add(str(group), same=same)
    digests, counts = records.kept()
    assert len(digests) == len({group for group, _ in outcomes})
    assert (counts >= 0.0).all()
    assert (counts.sum(axis=1) <= OUTCOMES_MAX).all()


def test_the_group_heard_of_longest_ago_makes_room() -> None:
    records = GroupRecords()
    for number in range(GROUPS_MAX):
        records.add(str(number), same=True)
    records.add("0", same=True)
    records.add("new", same=True)
    assert len(records.kept()[0]) == GROUPS_MAX
    assert records.log_odds("0") > records.log_odds("2") > 0.0
    assert records.log_odds("1") == 0.0


def judged(group: str, **fields: Any) -> Judged:
    return Judged(FEATURES, fields.pop("booked", 0.0), group=group, **fields)


def test_misses_audits_and_complaints_are_heard_and_praise_is_not() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    controller.observe(judged("miss"), same=True, source=Source.MISS)
    controller.observe(judged("audit", booked=0.01, audit=True), same=False, source=Source.AUDIT)
    controller.observe(judged("complaint", booked=0.01), same=False, source=Source.FEEDBACK)
    controller.observe(judged("praise", booked=0.01), same=True, source=Source.FEEDBACK)
    controller.observe(judged("not drawn", booked=0.01), same=True, source=Source.AUDIT)
    assert controller.record("miss") > 0.0
    assert controller.record("audit") < 0.0
    assert controller.record("complaint") < 0.0
    assert controller.record("praise") == controller.record("not drawn") == 0.0


def test_what_is_decided_names_the_group_and_peeking_counts_nothing() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    for decision in (controller.consider(FEATURES, group="a"), controller.decide(FEATURES, group="a")):
        assert decision.judged is not None
        assert decision.judged.group == "a"
    assert controller.record("a") == 0.0


def world(controller: RiskController, seed: int, *, with_records: bool, count: int = 4_000) -> list[float]:
    """Two answers look alike; one of them is mostly wrong. What is foretold of the good one and of the bad one."""
    rng = np.random.default_rng(seed)
    foretold = []
    for _ in range(count):
        group = "good" if rng.random() < 0.5 else "bad"
        same = bool(rng.random() < (0.995 if group == "good" else 0.6))
        features = rng.normal(3.0, 1.0, len(NAMES))
        features[NAMES.index("record")] = controller.record(group) if with_records else 0.0
        controller.observe(Judged(features, 0.0, group=group), same=same, source=Source.MISS)
        if controller.stale:
            controller.adopt(fit_risk_model(controller.observations()))
    for group in ("good", "bad"):
        features = np.full(len(NAMES), 3.0)
        features[NAMES.index("record")] = controller.record(group) if with_records else 0.0
        decision = controller.judge_elsewhere(features, "", group=group, audit=False)
        foretold.append(decision.booked)
    return foretold


def test_an_answer_that_was_often_wrong_is_taken_for_likelier_wrong_where_all_else_is_alike() -> None:
    good, bad = world(RiskController(RiskPolicy(), Random(1)), 1, with_records=True)
    assert good < 0.03
    assert bad > 0.2
    good, bad = world(RiskController(RiskPolicy(), Random(1)), 1, with_records=False)
    assert good == pytest.approx(bad)


def test_records_are_restored_and_no_group_is_named_in_what_is_kept() -> None:
    controller, again = (RiskController(RiskPolicy(), Random(1)) for _ in range(2))
    for number in range(30):
        controller.observe(judged(f"a group's key {number % 3}"), same=number % 3 > 0, source=Source.MISS)
    state = controller.state()
    with np.load(io.BytesIO(state)) as archive:
        assert not any(b"group's key" in archive[name].tobytes() for name in archive.files)
    again.restore(state)
    for number in range(3):
        assert again.record(f"a group's key {number}") == controller.record(f"a group's key {number}") != 0.0


def put(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(part: np.ndarray) -> np.ndarray:
        part[at] = value
        return part

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("groups", lambda part: part[:1]),
        ("groups", lambda part: part.astype(np.float64)),
        ("groups", lambda part: part.reshape(1, -1)),
        ("groups", put(0, 1)),
        ("groups", lambda part: np.arange(GROUPS_MAX + 1, dtype=np.uint64)),
        ("group_counts", put((0, 0), -1.0)),
        ("group_counts", put((0, 0), 1.1 * OUTCOMES_MAX)),
        ("group_counts", put((0, 0), math.nan)),
        ("group_counts", lambda part: part[:, :1]),
        ("groups", None),
    ],
)
def test_records_out_of_range_are_refused_and_change_nothing(
    name: str, change: Callable[[np.ndarray], np.ndarray] | None
) -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    for group in ("a", "b"):
        controller.observe(judged(group), same=True, source=Source.MISS)
    with np.load(io.BytesIO(controller.state())) as archive:
        parts = {each: archive[each] for each in archive.files}
    if name == "groups" and change is not None:
        parts[name][1] = 1
    changed = {**parts, name: change(parts[name])} if change else {k: v for k, v in parts.items() if k != name}
    stream = io.BytesIO()
    np.savez_compressed(stream, **changed)
    with pytest.raises(RiskStateError):
        controller.restore(stream.getvalue())
    assert controller.record("a") > 0.0


async def test_a_fresh_answer_tells_the_record_of_the_group_that_would_have_been_served() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, clock=clock)
    cache = cache_over(store, clock)
    keys = []
    for number, (text, said) in enumerate(
        (
            ("How do I reset my router?", "hold_the_button"),
            ("how can the router be reset", "hold_the_button"),  # of the first one's group
            ("resetting a router", "see_the_shop"),
        )
    ):
        values = vector("r", 64) + (0.1 + 0.05 * number) * vector(f"r{number}", 64)
        at = Embedding(values.astype("<f4").tobytes(), MODEL)
        stored = await cache.store(Scope("acme"), chat(text), answer(said), embedding=at, task_type=TaskType.OTHER)
        keys.append(stored.entry_key)
    (learned,) = cache._search.classes.all()
    groups = [group_of(entry) for entry in await store.get_many(keys) if entry is not None]
    assert groups[0] == groups[1] != groups[2]
    assert learned.controller.record(groups[0]) == pytest.approx(math.log((KEPT + 1.0) / (1.0 + 1.0)))
    observed = learned.controller.observations()
    assert observed.same.tolist() == [1.0, 0.0]
    assert observed.features[:, NAMES.index("record")].tolist() == [0.0, pytest.approx(math.log(2.0))]
    assert learned.controller.record(groups[2]) == 0.0
