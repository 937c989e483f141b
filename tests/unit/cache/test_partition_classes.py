"""Who shares a controller with whom, within bounds."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest

from services.cache.matching import partition_classes
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.partition_classes import NOTHING_SERVED, OWN_MAX, PartitionClass, PartitionClasses
from services.cache.matching.risk_control import Judged, RiskPolicy, Source
from services.cache.matching.risk_model import EVIDENCE_MIN
from spillway.routing import TaskType

QA, OTHER = TaskType.FACTUAL_QA, TaskType.OTHER


def teach(
    classes: PartitionClasses, each: PartitionClass, count: int = EVIDENCE_MIN, *, tenant: str = "anyone"
) -> None:
    numbers = np.random.default_rng(1)
    for at in range(count):
        same = at % 3 > 0
        judged = Judged(numbers.standard_normal(len(NAMES)) + 3.0 * same, 0.0)
        classes.observe(each, judged, tenant=tenant, same=same, source=Source.MISS)


def test_a_tenants_kind_of_work_has_a_class_of_its_own() -> None:
    classes = PartitionClasses(RiskPolicy(), random=Random(1))
    mine = classes.of(QA, "acme")
    assert classes.of(QA, "acme") is mine
    assert (
        len({id(each) for each in (mine, classes.of(OTHER, "acme"), classes.of(QA, "other"), classes.of(QA, ""))}) == 4
    )
    assert mine.name == "factual_qa/acme"
    assert classes.of(QA, "").name == "factual_qa"
    assert mine.report().threshold == NOTHING_SERVED


def test_newcomers_beyond_the_limit_share_a_class_and_learn_together() -> None:
    classes = PartitionClasses(RiskPolicy(), random=Random(1))
    for turn in range(EVIDENCE_MIN):
        for index in range(3 * OWN_MAX):
            each = classes.of(QA, f"tenant {index}")
            if index >= OWN_MAX and each.evidence < 2 * EVIDENCE_MIN:
                teach(classes, each, count=3)
        assert turn or len(classes.all()) == OWN_MAX + 1
    assert classes.of(QA, f"tenant {OWN_MAX}").report().risk.opened
    assert len({each.name for each in classes.all()}) == OWN_MAX + 1


def test_only_an_idle_class_that_never_learned_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_classes, "IDLE_CALLS", 4 * OWN_MAX)
    classes = PartitionClasses(RiskPolicy(), random=Random(1))
    learned = classes.of(QA, "acme")
    teach(classes, learned)
    for index in range(OWN_MAX - 1):
        classes.of(QA, f"passer-by {index}")
    busy = classes.of(QA, "passer-by 0")
    for _ in range(3 * OWN_MAX):
        assert classes.of(QA, "new").tenant is None
    for _ in range(OWN_MAX):
        classes.of(QA, "passer-by 0")
    assert classes.of(QA, "new").tenant == "new"
    assert classes.of(QA, "acme") is learned
    assert classes.of(QA, "passer-by 0") is busy
    assert len(classes.all()) == OWN_MAX + 1


def test_when_all_have_learned_newcomers_share_one_for_their_kind_of_work() -> None:
    classes = PartitionClasses(RiskPolicy(), random=Random(1))
    for index in range(OWN_MAX):
        teach(classes, classes.of(QA, f"tenant {index}"))
    shared = classes.of(QA, "new")
    assert shared.tenant is None
    assert classes.of(QA, "newer") is shared
    assert classes.of(OTHER, "new") is not shared
    assert len(classes.all()) == OWN_MAX + 2


def files(directory: Path) -> set[Path]:
    return set(directory.glob("*.risk"))


async def test_the_classes_that_learned_last_are_taken_up_and_the_files_of_others_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_classes, "KEPT_MAX", 3)
    first = PartitionClasses(RiskPolicy(), random=Random(1), directory=tmp_path)
    written: dict[Path, str] = {}
    for tenant in ("a", "b", "c", "d", "e"):
        teach(first, first.of(QA, tenant), count=1)
        await first.close()
        (path,) = files(tmp_path) - written.keys()
        written[path] = tenant
    for age, path in enumerate(written):
        os.utime(path, (1_000.0 - age, 1_000.0 - age))
    again = PartitionClasses(RiskPolicy(), random=Random(1), directory=tmp_path)
    await again.load()
    assert [each.tenant for each in again.all()] == ["a", "b", "c"]
    assert {written[path] for path in files(tmp_path)} == {"a", "b", "c"}


async def test_a_fit_in_a_thread_is_taken_up_when_it_is_done() -> None:
    with ThreadPoolExecutor(1) as threads:
        classes = PartitionClasses(RiskPolicy(), random=Random(1), threads=threads)
        mine = classes.of(QA, "acme")
        teach(classes, mine)
        assert not mine.report().risk.opened
        await classes.settle()
        assert mine.report().risk.opened
        await classes.close()


def test_a_hit_of_another_replica_is_booked_as_this_one_would_have() -> None:
    classes = PartitionClasses(RiskPolicy(audit_rate=0.25), random=Random(1))
    mine = classes.of(QA, "acme")
    features = np.full(len(NAMES), 3.0)
    assert mine.judged_elsewhere(features, "").booked == 0.0  # without a model it would have served nothing
    teach(classes, mine)
    likely, unlikely = mine.judged_elsewhere(features, ""), mine.judged_elsewhere(-features, "")
    assert 0.0 < likely.booked < unlikely.booked <= 1.0


def test_a_hit_of_another_replica_names_the_guard_that_spoke_against_it() -> None:
    classes = PartitionClasses(RiskPolicy(audit_rate=0.25), random=Random(1))
    mine = classes.of(QA, "acme")
    teach(classes, mine)
    features = np.full(len(NAMES), 3.0)
    for number in range(400):
        mine.controller.observe(
            Judged(features, 0.0, "wording", group=f"answer {number % 20}"), same=True, source=Source.MISS
        )
    before = mine.controller.guards.surcharge("wording")
    mine.drawn(Judged(features, 0.01, audit=True))
    for _ in range(20):
        judged = mine.judged_elsewhere(features, "wording")
        assert judged.guard == "wording"
        mine.controller.observe(judged, same=False, source=Source.AUDIT)
    assert mine.controller.guards.surcharge("wording") > before


def test_no_more_hits_of_other_replicas_are_audits_than_were_drawn_here() -> None:
    classes = PartitionClasses(RiskPolicy(audit_rate=0.25), random=Random(1))
    mine = classes.of(QA, "acme")
    teach(classes, mine)
    features = np.full(len(NAMES), 3.0)
    mine.drawn(Judged(features, 0.01, audit=True))
    mine.drawn(Judged(features, 0.01))
    taken = []
    for _ in range(3):
        judged = mine.judged_elsewhere(features, "")
        mine.told(judged)
        taken.append(judged.audit)
    assert taken == [True, False, False]


def test_in_a_class_that_tenants_share_no_guard_is_lifted_by_what_one_of_them_asks() -> None:
    classes = PartitionClasses(RiskPolicy(), random=Random(1))
    for index in range(OWN_MAX):
        teach(classes, classes.of(QA, f"tenant {index}"))
    for tenant, is_lifted in (("tenant 0", True), ("attacker", False)):
        each = classes.of(QA, tenant)
        teach(classes, each)
        for number in range(5_000):
            judged = Judged(np.full(len(NAMES), 3.0), 0.01, "wording", 0.01, audit=True, group=f"answer {number % 20}")
            each.controller.observe(judged, same=True, source=Source.AUDIT)
        assert (each.controller.guards.surcharge("wording") < math.inf) is is_lifted
    assert classes.of(QA, "victim") is classes.of(QA, "attacker")


def crowded() -> PartitionClasses:
    """With as many classes as may have a controller of their own."""
    classes = PartitionClasses(RiskPolicy(max_wrong_rate=0.1), random=Random(1))
    for index in range(OWN_MAX):
        classes.of(QA, f"passer-by {index}")
    return classes


def test_what_one_tenant_taught_a_shared_class_serves_another_only_from_its_own_evidence_on() -> None:
    classes = crowded()
    shared = classes.of(QA, "teacher")
    teach(classes, shared, tenant="teacher")
    likely = np.full(len(NAMES), 3.0)
    for _ in range(1_000):  # what a budget is made of
        shared.controller.decide(likely)

    def is_served(tenant: str) -> bool:
        known = classes.seen(QA, tenant).knows(tenant)
        counted = shared.controller.decide(likely, known=known)
        assert counted.serve is shared.controller.consider(likely, known=known).serve
        return counted.serve

    assert shared.report().risk.opened
    assert is_served("teacher")
    assert not is_served("newcomer")
    teach(classes, shared, EVIDENCE_MIN - 1, tenant="newcomer")
    assert not is_served("newcomer")
    teach(classes, shared, 1, tenant="newcomer")
    assert shared.knows("newcomer")


def test_an_outcome_of_which_nothing_was_seen_is_no_evidence_of_a_tenant() -> None:
    classes = crowded()
    shared = classes.of(QA, "newcomer")
    for _ in range(EVIDENCE_MIN):
        classes.observe(shared, Judged(None, 0.001), tenant="newcomer", same=True, source=Source.FEEDBACK)
    assert not shared.knows("newcomer")


def test_of_tenants_that_share_a_class_those_heard_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_classes, "SHARERS_MAX", 2)
    classes = crowded()
    shared = classes.of(QA, "a")
    for tenant in ("a", "b"):
        teach(classes, shared, tenant=tenant)
    teach(classes, shared, 1, tenant="a")
    teach(classes, shared, tenant="c")
    assert [shared.knows(tenant) for tenant in ("a", "b", "c")] == [True, False, True]


def test_a_class_of_ones_own_knows_its_tenant() -> None:
    assert PartitionClasses(RiskPolicy(), random=Random(1)).of(QA, "acme").knows("acme")
