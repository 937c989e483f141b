"""What is learnt of clusters from what became of their answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.classifier.memory import (
    CLUSTERS_MAX,
    SOURCE_WEIGHTS,
    VERSIONS_MAX,
    ClusterMemory,
    MemoryCorruptError,
    nearness,
)
from spillway.routing import OutcomeSource, TierOutcome, TierSufficiency

TIERS = ("simple", "medium", "complex")
DAY_S = 86_400.0
HERE = "head-1/3"
PRIOR = tuple(TierSufficiency(tier, p) for tier, p in zip(TIERS, (0.5, 0.8, 1.0), strict=True))


def memory(**options: float) -> ClusterMemory:
    made = ClusterMemory(TIERS, **{"half_life_s": 7 * DAY_S, "evidence_min": 20.0, "prior_weight": 20.0, **options})
    made.follow("head-1", 8)
    return made


def outcomes(
    count: int,
    *,
    sufficed: bool,
    tier: str = "simple",
    cluster: str = HERE,
    source: OutcomeSource = OutcomeSource.GATES,
) -> list[TierOutcome]:
    return [TierOutcome(cluster, tier, sufficed, source)] * count


def served(of: ClusterMemory, now_s: float = 0.0, cluster: str = HERE) -> list[float]:
    return [entry.probability for entry in of.adjust(cluster, PRIOR, now_s)[0]]


def test_cheap_answers_that_failed_make_the_cheap_tier_less_likely_and_its_neighbours_stay() -> None:
    learnt = memory()
    learnt.record(outcomes(20, sufficed=False), 0.0)
    simple, medium, complex_ = served(learnt)
    assert simple == pytest.approx((20 * 0.5) / 40)
    assert (medium, complex_) == (0.8, 1.0)
    assert served(learnt, cluster="head-1/4") == [0.5, 0.8, 1.0]


def test_cheap_answers_that_sufficed_make_every_tier_more_likely() -> None:
    learnt = memory()
    learnt.record(outcomes(60, sufficed=True), 0.0)
    simple, medium, complex_ = served(learnt)
    assert simple == pytest.approx((20 * 0.5 + 60) / 80)
    assert medium == pytest.approx((20 * 0.8 + 60) / 80)
    assert complex_ == 1.0


def test_less_evidence_than_the_floor_says_nothing() -> None:
    learnt = memory()
    learnt.record(outcomes(19, sufficed=False), 0.0)
    assert learnt.adjust(HERE, PRIOR, 0.0) == (PRIOR, None)
    learnt.record(outcomes(1, sufficed=False), 0.0)
    assert served(learnt)[0] < 0.5


def test_the_farther_a_prompt_is_the_less_its_nearest_cluster_says_of_it() -> None:
    assert [nearness(far) for far in (None, 0.0, 0.5, 0.75, 1.0, 7.0)] == [0.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    learnt = memory()
    learnt.record(outcomes(100, sufficed=True), 0.0)
    said = [learnt.adjust(HERE, PRIOR, 0.0, nearness=near) for near in (1.0, 0.5, 0.2, 0.19, 0.0)]
    assert said[0][0][0].probability == pytest.approx((20 * 0.5 + 100) / 120)
    # At half the way at most half of what is between 0.25 and 1; what was more before stays.
    assert said[1][0][0].probability == pytest.approx(0.625)
    assert said[2][0][0].probability == 0.5
    assert learnt.adjust(HERE, PRIOR, 0.0, nearness=0.9)[0][0].probability == pytest.approx((20 * 0.5 + 90) / 110)
    unlearnt = memory()
    unlearnt.record(outcomes(100, sufficed=False), 0.0)
    assert unlearnt.adjust(HERE, PRIOR, 0.0, nearness=0.5)[0][0].probability == pytest.approx(20 * 0.5 / 70)
    assert said[1][1] is not None
    assert (
        said[1][1].evidence
        == "100 of 100 answers of simple sufficed in cluster head-1/3, each counted 0.50 so far from it"
    )
    # Less than the floor, so weighed.
    assert said[3:] == [(PRIOR, None)] * 2


def test_a_few_loud_callers_do_not_pass_the_floor_but_weigh_more_above_it() -> None:
    loud, quiet = memory(), memory()
    loud.record(outcomes(19, sufficed=False, source=OutcomeSource.FEEDBACK), 0.0)
    assert served(loud)[0] == 0.5
    loud.record(outcomes(1, sufficed=False, source=OutcomeSource.FEEDBACK), 0.0)
    quiet.record(outcomes(20, sufficed=False), 0.0)
    assert served(loud)[0] < served(quiet)[0] < 0.5
    assert list(SOURCE_WEIGHTS) == [OutcomeSource.GATES, OutcomeSource.CANARY, OutcomeSource.FEEDBACK]
    assert sorted(SOURCE_WEIGHTS.values()) == list(SOURCE_WEIGHTS.values())


def test_evidence_decays_by_half_lives_until_it_says_nothing() -> None:
    learnt = memory()
    learnt.record(outcomes(40, sufficed=False), 0.0)
    fresh, older = served(learnt)[0], served(learnt, 7 * DAY_S)[0]
    assert older == pytest.approx(10 / (20 + 20))
    assert fresh < older
    assert served(learnt, 7.1 * DAY_S)[0] == 0.5


def test_new_outcomes_win_over_old_ones() -> None:
    learnt = memory(half_life_s=DAY_S)
    learnt.record(outcomes(100, sufficed=False), 0.0)
    learnt.record(outcomes(100, sufficed=True), 10 * DAY_S)
    assert served(learnt, 10 * DAY_S)[0] > 0.9


def test_a_clock_set_back_neither_decays_nor_grows_evidence() -> None:
    learnt = memory()
    learnt.record(outcomes(20, sufficed=False), DAY_S)
    assert served(learnt, 0.0) == served(learnt, DAY_S)
    learnt.record(outcomes(20, sufficed=False), 0.0)
    assert served(learnt, 0.0)[0] == pytest.approx(10 / 60)


def test_an_escalation_counts_against_the_tier_that_failed_alone() -> None:
    learnt = memory()
    learnt.record([*outcomes(30, sufficed=False), *outcomes(30, sufficed=True, tier="medium")], 0.0)
    simple, medium, _ = served(learnt)
    assert simple == pytest.approx(10 / 50)
    assert medium == pytest.approx((20 * 0.8 + 30) / 50)


def test_the_signal_tells_the_evidence_and_which_way_it_moves() -> None:
    learnt = memory()
    learnt.record([*outcomes(18, sufficed=True), *outcomes(2, sufficed=False)], 0.0)
    adjusted, signal = learnt.adjust(HERE, PRIOR, 0.0)
    assert signal is not None
    assert signal.name == "memory"
    assert signal.evidence == "18 of 20 answers of simple sufficed in cluster head-1/3"
    assert signal.contribution < 0.0
    assert signal.value == adjusted[0].probability
    learnt.record(outcomes(60, sufficed=False), 0.0)
    worse = learnt.adjust(HERE, PRIOR, 0.0)[1]
    assert worse is not None
    assert worse.contribution > 0.0


@pytest.mark.parametrize(
    "cluster",
    ["", "head-1", "head-1/", "head-1/8", "head-1/-1", "head-1/03", "head-1/³", "head-2/3", "/3", "3" * 5_000],
)
def test_unknown_clusters_and_tiers_are_left_out(cluster: str) -> None:
    learnt = memory()
    assert learnt.record(outcomes(5, sufficed=True, cluster=cluster), 0.0) == 0
    assert learnt.record(outcomes(5, sufficed=True, tier="gone"), 0.0) == 0
    assert learnt.adjust(cluster, PRIOR, 0.0) == (PRIOR, None)
    assert learnt.clusters == 0


def test_sufficiency_of_other_tiers_is_left_as_it_is() -> None:
    learnt = memory(evidence_min=1.0)
    learnt.record(outcomes(5, sufficed=False), 0.0)
    strange = (TierSufficiency("other", 0.4), TierSufficiency("complex", 1.0))
    assert learnt.adjust(HERE, strange, 0.0) == (strange, None)
    assert learnt.adjust(HERE, (), 0.0) == ((), None)


def test_a_new_head_begins_with_nothing_and_a_rollback_finds_its_memory() -> None:
    learnt = memory()
    learnt.record(outcomes(30, sufficed=False), 0.0)
    learnt.follow("head-2", 8)
    assert served(learnt, cluster="head-2/3")[0] == 0.5
    assert learnt.record(outcomes(1, sufficed=False), 0.0) == 1  # of a call that was under way
    learnt.follow("head-1", 8)
    assert served(learnt)[0] < 0.5


def test_only_the_latest_heads_are_remembered() -> None:
    learnt = memory()
    for number in range(2, VERSIONS_MAX + 2):
        learnt.follow(f"head-{number}", 8)
    assert learnt.record(outcomes(1, sufficed=True), 0.0) == 0
    learnt.follow("huge", CLUSTERS_MAX * 2)
    assert learnt.record(outcomes(1, sufficed=True, cluster=f"huge/{CLUSTERS_MAX}"), 0.0) == 0


def test_a_head_with_other_clusters_under_the_same_name_begins_anew() -> None:
    learnt = memory()
    learnt.record(outcomes(30, sufficed=False), 0.0)
    learnt.follow("head-1", 9)
    assert served(learnt)[0] == 0.5


def test_what_was_dumped_is_loaded_alike() -> None:
    learnt = memory()
    learnt.record([*outcomes(18, sufficed=True), *outcomes(9, sufficed=False, source=OutcomeSource.CANARY)], 5.0)
    document = json.loads(json.dumps(learnt.dump(5.0)))
    restarted = memory()
    restarted.load(document)
    assert served(restarted, DAY_S) == served(learnt, DAY_S)
    fresh = ClusterMemory(TIERS, half_life_s=7 * DAY_S, evidence_min=20, prior_weight=20)
    fresh.load(document)
    fresh.follow("head-1", 8)
    assert served(fresh, DAY_S) == served(learnt, DAY_S)


def test_a_loaded_memory_keeps_what_is_followed_and_forgets_tiers_that_are_gone() -> None:
    learnt = memory()
    learnt.record(outcomes(30, sufficed=False), 0.0)
    other = ClusterMemory(("medium", "complex"), half_life_s=7 * DAY_S, evidence_min=1, prior_weight=20)
    other.follow("head-9", 4)
    other.load(learnt.dump(0.0))
    assert other.record(outcomes(1, sufficed=True, tier="medium", cluster="head-9/0"), 0.0) == 1
    assert other.adjust(HERE, PRIOR[1:], 0.0) == (PRIOR[1:], None)


def test_clusters_that_decayed_to_nothing_are_forgotten() -> None:
    learnt = memory(half_life_s=1.0)
    learnt.record(outcomes(30, sufficed=False), 0.0)
    learnt.dump(100.0)
    assert learnt.clusters == 0


def _damaged() -> list[object]:
    learnt = memory()
    learnt.record(outcomes(1, sufficed=True), 0.0)
    good = json.dumps(learnt.dump(0.0))
    return [
        None,
        [],
        {},
        {"format": "cluster-memory-9", "heads": []},
        json.loads(good.replace('"clusters": 8', '"clusters": 2')),
        json.loads(good.replace('"clusters": 8', '"clusters": 1e99')),
        json.loads(good.replace('"3":', '"x":')),
        json.loads(good.replace("1.0]", "-1.0]")),
        json.loads(good.replace("1.0]", "NaN]")),
        json.loads(good.replace("1.0]", "1.0, 1.0]")),
        json.loads(good.replace("1.0]", '"a"]')),
        json.loads(good.replace('"at_unix_s": 0.0', '"at_unix_s": null')),
        {"format": "cluster-memory-1", "heads": 5},
        {"format": "cluster-memory-1", "heads": [{"version": "a", "clusters": 1, "cells": {"0": []}}]},
    ]


@pytest.mark.parametrize("document", _damaged())
def test_a_damaged_document_is_refused_and_changes_nothing(document: object) -> None:
    learnt = memory()
    learnt.record(outcomes(30, sufficed=False), 0.0)
    with pytest.raises(MemoryCorruptError):
        learnt.load(document)
    assert served(learnt)[0] < 0.5


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 20 * DAY_S),
        st.sampled_from(TIERS),
        st.booleans(),
        st.sampled_from(OutcomeSource),
        st.sampled_from(["head-1/0", HERE]),
        st.integers(1, 30),
    ),
    max_size=12,
)


def _isotonic(values: list[float], weights: list[float]) -> list[float]:
    """By its definition: the greatest of the least means of all stretches around each place."""

    def mean(first: int, last: int) -> float:
        mass = sum(weights[first : last + 1])
        return sum(v * w for v, w in zip(values[first : last + 1], weights[first : last + 1], strict=True)) / mass

    places = range(len(values))
    return [max(min(mean(a, b) for b in places if b >= i) for a in places if a <= i) for i in places]


@given(EVENTS, st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2))
@settings(max_examples=200)
def test_it_says_what_a_plain_list_of_all_outcomes_says(
    events: list[tuple[float, str, bool, OutcomeSource, str, int]], probabilities: list[float]
) -> None:
    learnt = memory()
    now_s = 0.0
    log: list[tuple[float, TierOutcome]] = []
    for wait_s, tier, sufficed, source, cluster, count in events:
        now_s += wait_s
        batch = outcomes(count, sufficed=sufficed, tier=tier, cluster=cluster, source=source)
        learnt.record(batch, now_s)
        log += [(now_s, outcome) for outcome in batch]
    before = [*sorted(probabilities), 1.0]
    prior = tuple(TierSufficiency(tier, value) for tier, value in zip(TIERS, before, strict=True))
    found = [entry.probability for entry in learnt.adjust(HERE, prior, now_s)[0]]

    def decayed(at_s: float) -> float:
        return math.exp2((at_s - now_s) / (7 * DAY_S))

    values, weights, spoke = [], [], False
    for index, value in enumerate(before[:-1]):
        failed = [(at, o) for at, o in log if o.cluster == HERE and o.tier == TIERS[index] and not o.sufficed]
        good = [(at, o) for at, o in log if o.cluster == HERE and o.tier in TIERS[: index + 1] and o.sufficed]
        evidence = sum(decayed(at) for at, _ in failed + good)
        if abs(evidence - 20.0) < 1e-6:
            return  # at the floor itself rounding decides
        speaks = evidence >= 20.0
        spoke |= speaks
        plus = sum(decayed(at) * SOURCE_WEIGHTS[o.source] for at, o in good) if speaks else 0.0
        minus = sum(decayed(at) * SOURCE_WEIGHTS[o.source] for at, o in failed) if speaks else 0.0
        weights.append(20.0 + plus + minus)
        values.append((20.0 * value + plus) / weights[-1])
    expected = [*_isotonic(values, weights), 1.0] if spoke else before
    assert found == pytest.approx(expected, abs=1e-9)
    assert found == sorted(found)
    assert all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in found)


def test_the_same_outcomes_in_one_call_or_many_are_the_same() -> None:
    together, apart = memory(), memory()
    batch = [*outcomes(15, sufficed=True), *outcomes(10, sufficed=False)]
    together.record(batch, 3.0)
    for outcome in batch:
        apart.record([replace(outcome)], 3.0)
    assert together.dump(3.0) == apart.dump(3.0)
