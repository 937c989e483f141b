"""The advice on a rollout: what it needs to say "go", what makes it say "back", and how often it is wrong."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ledger.report.clustered import FIRST, SECOND, Part, Unit, clustered_mean, stratified_difference
from services.ledger.report.evidence import BASELINE, ROUTED, Evidence, gather
from services.ledger.report.rollout import GRADES_MIN, MARGIN, USERS_MIN, Verdict, advise, next_step
from services.ledger.report.source import Graded, Remark, Trial
from spillway.intervals import wilson

GRADE = Graded("canary", "simple", "small-1", "math", ROUTED, 0.9, 0.9, 500)
# More of them say more: SPILLWAY_ROLLOUT_TRIALS=1000.
TRIALS = int(os.environ.get("SPILLWAY_ROLLOUT_TRIALS", "40"))


def trials_of(
    arm: str, requests: int, *, failed: int = 0, kind: str = "math", version: str = "v1", first_id: int = 0
) -> list[Trial]:
    """Requests that name no user; the first `failed` of them failed."""
    return [
        Trial(first_id + number, "", version, kind, arm, 14 if number < failed else 0, 100 if arm == ROUTED else 500)
        for number in range(requests)
    ]


def disliked(trials: Iterable[Trial], count: int) -> list[Remark]:
    """Of the last of them."""
    return [Remark("thumbs_down", each.decision_id, "simple", each.task_type, each.arm) for each in [*trials][-count:]]


def evidence_of(
    routed: Mapping[str, int] | None = None,
    baseline: Mapping[str, int] | None = None,
    *,
    grades: Iterable[Graded] = (GRADE,) * 400,
) -> Evidence:
    """3,000 requests an arm, 30 disliked; `negative`, `failed`, `requests` say otherwise."""
    said: list[Remark] = []
    trials: list[Trial] = []
    for arm, given_, first_id in ((ROUTED, routed, 0), (BASELINE, baseline, 1_000_000)):
        wanted = {"requests": 3_000, "negative": 30, "failed": 0} | dict(given_ or {})
        mine = trials_of(arm, wanted["requests"], failed=wanted["failed"], first_id=first_id)
        trials += mine
        said += disliked(mine, wanted["negative"]) if wanted["negative"] else []
    return gather(trials, said, grades)


def test_a_step_needs_evidence_of_every_kind() -> None:
    assert advise(evidence_of()).verdict is Verdict.GO
    few = {"requests": 199, "negative": 0}
    assert advise(evidence_of(few)).verdict is Verdict.WAIT
    assert advise(evidence_of(None, few)).verdict is Verdict.WAIT
    assert advise(evidence_of({"requests": 290, "negative": 0})).verdict is Verdict.WAIT
    assert advise(evidence_of(grades=())).verdict is Verdict.WAIT


@pytest.mark.parametrize("harm", [{"negative": 160}, {"failed": 160}])
def test_harm_that_is_shown_leads_a_step_back(harm: dict[str, int]) -> None:
    advice = advise(evidence_of(harm))
    assert advice.verdict is Verdict.BACK
    assert sum(reason.startswith("back") for reason in advice.reasons) == 1
    assert advise(evidence_of(harm), 100).verdict is Verdict.BACK


def test_answers_that_are_graded_much_lower_lead_a_step_back() -> None:
    worse = [replace(GRADE, score=0.9 - drop) for drop in (0.0, 0.1, 0.2)] * 100
    assert advise(evidence_of(grades=worse)).verdict is Verdict.BACK


def test_few_grades_prove_nothing_however_good_they_are() -> None:
    for count in (1, 2, 5, GRADES_MIN - 1):
        advice = advise(evidence_of(grades=[GRADE] * count))
        assert advice.verdict is Verdict.WAIT
        assert advice.grade is not None
        assert advice.grade.low < max(-1, -2.8 / count) + 1e-9
    assert advise(evidence_of(grades=[GRADE] * (GRADES_MIN + 1))).verdict is Verdict.GO
    one_user = [replace(GRADE, end_user_hash="ann")] * 400
    assert advise(evidence_of(grades=one_user)).verdict is Verdict.WAIT


def test_a_drop_of_five_points_hardly_ever_passes_for_none() -> None:
    dice = random.Random(3)
    passed: Counter[int] = Counter()
    for count in (100, 200, 400):
        for _ in range(300):
            lost = sum(dice.random() < 0.05 for _ in range(count))
            grades = [Unit((Part("", FIRST, 1, -1.0),), lost), Unit((Part("", FIRST, 1, 0.0),), count - lost)]
            found = clustered_mean(grades)
            assert found is not None
            passed[count] += found[0].low > -0.03
    assert max(passed.values(), default=0) <= 0.025 * 300, passed


def test_where_everything_is_routed_the_rollout_is_complete() -> None:
    advice = advise(gather(trials_of(ROUTED, 500), [], []), 100)
    assert advice.verdict is Verdict.COMPLETE
    assert next_step(100, advice.verdict) == 100
    assert advice.reasons == (), "nothing is waited for"


def test_steps_go_up_and_down_the_published_ladder() -> None:
    assert [next_step(p, Verdict.GO) for p in (0, 5, 10, 25, 30, 50, 100)] == [5, 10, 25, 50, 50, 100, 100]
    assert [next_step(p, Verdict.BACK) for p in (100, 30, 10, 5)] == [50, 25, 5, 0]
    assert next_step(25, Verdict.WAIT) == 25


def test_evidence_is_of_one_kind_of_work_or_of_all_but_some() -> None:
    trials = [*trials_of(ROUTED, 3), *trials_of(BASELINE, 2, failed=1, first_id=10)]
    trials += trials_of(ROUTED, 5, kind="code", first_id=20)
    said = [Remark(kind, 20, "simple", "code", ROUTED) for kind in ("thumbs_down", "complaint", "thumbs_up")]
    grades = [GRADE, replace(GRADE, task_type="code"), replace(GRADE, arm=BASELINE)]
    both = gather(trials, said, grades)
    assert (both.arms[ROUTED].requests, both.arms[ROUTED].negative, both.grade_count) == (8, 1, 2)
    assert (both.arms[BASELINE].requests, both.arms[BASELINE].failed) == (2, 1)
    for one in (gather(trials, said, grades, "math"), gather(trials, said, grades, without=("code",))):
        assert (one.arms[ROUTED].requests, one.arms[ROUTED].negative, one.grade_count) == (3, 0, 1)


def test_a_request_that_was_answered_when_tried_again_did_not_fail() -> None:
    tries = [replace(each, tried_again=True) for each in trials_of(ROUTED, 3, failed=3)]
    arm = gather([*tries, *trials_of(ROUTED, 1, first_id=9)], [], []).arms[ROUTED]
    assert (arm.requests, arm.failed, arm.failed_tries, arm.cost_nanousd) == (1, 0, 3, 400)


def test_costs_are_compared_over_the_same_mix_of_work() -> None:
    dear = [replace(each, cost_nanousd=each.cost_nanousd * 100) for each in trials_of(ROUTED, 10, kind="code")]
    dear += [replace(each, cost_nanousd=each.cost_nanousd * 100) for each in trials_of(BASELINE, 190, kind="code")]
    cheap = [*trials_of(ROUTED, 190), *trials_of(BASELINE, 10)]
    costs = gather([*dear, *cheap], [], []).costs()
    assert costs is not None
    assert costs[1] / costs[0] == pytest.approx(5)


def test_without_strata_and_users_it_is_the_difference_of_two_shares() -> None:
    found = evidence_of({"negative": 90}).compared("negative")
    assert found is not None
    assert found.difference.value == pytest.approx(0.02)
    assert found.first_units == pytest.approx(3_000)
    assert found.second_units == pytest.approx(3_000)
    plain = (wilson(90, 3_000).high - wilson(90, 3_000).low) / 2
    half = (found.difference.high - found.difference.low) / 2
    assert plain < half < 1.5 * plain


def test_a_user_counts_once_however_much_they_ask() -> None:
    loud = Unit((Part("s", FIRST, 1_000, 300),))
    quiet = [Unit((Part("s", arm, 10, 0),)) for arm in (FIRST, SECOND) for _ in range(60)]
    found = stratified_difference([loud, *quiet])
    assert found is not None
    assert found.first_units < 3
    assert found.second_units == pytest.approx(60)
    assert found.difference.low < 0 < found.difference.high


def test_without_an_event_users_say_what_the_rule_of_three_says() -> None:
    quiet = [Unit((Part("s", arm, 10, 0),), 300) for arm in (FIRST, SECOND)]
    found = stratified_difference(quiet)
    assert found is not None
    assert found.difference.high == pytest.approx(3 / 300, rel=0.05)
    assert found.difference.low == pytest.approx(-3 / 300, rel=0.05)


def test_strata_of_one_arm_are_left_out_and_counted() -> None:
    both = [Unit((Part("s", arm, 1, 0),), 100) for arm in (FIRST, SECOND)]
    found = stratified_difference([*both, Unit((Part("alone", FIRST, 7, 7),))])
    assert found is not None
    assert (found.left_out, found.difference.value) == (7, 0)
    assert stratified_difference([Unit((Part("alone", FIRST, 7, 7),))]) is None


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(200, 2_000), st.integers(200, 2_000))
def test_more_harm_never_makes_a_better_verdict(negative: int, more: int, routed: int, baseline: int) -> None:
    order = [Verdict.GO, Verdict.WAIT, Verdict.BACK]
    few = {"requests": baseline, "negative": 5}
    less = advise(evidence_of({"requests": routed, "negative": negative}, few)).verdict
    worse = advise(evidence_of({"requests": routed, "negative": negative + more}, few)).verdict
    assert order.index(worse) >= order.index(less)


def mixed(seed: int, harm: float) -> Verdict:
    """Code is routed for 5 % and disliked in 10 %, chitchat for 50 % and in 2 %; routing harms both alike."""
    dice = random.Random(seed)
    trials: list[Trial] = []
    said: list[Remark] = []
    for number in range(12_000):
        kind, share, base = dice.choice((("code", 0.05, 0.10), ("chitchat", 0.50, 0.02)))
        arm = ROUTED if dice.random() < share else BASELINE
        trials.append(Trial(number, "", "v1", kind, arm, 0, 1))
        if dice.random() < base + (harm if arm == ROUTED else 0):
            said.append(Remark("complaint", number, "simple", kind, arm))
    return advise(gather(trials, said, [GRADE] * 400)).verdict


def test_kinds_of_work_with_different_percentages_hide_no_harm() -> None:
    harmed = Counter(mixed(seed, 0.03) for seed in range(10))
    assert harmed[Verdict.GO] == 0, harmed
    assert harmed[Verdict.BACK] >= 5, harmed
    assert Counter(mixed(seed, 0.0) for seed in range(10))[Verdict.BACK] == 0


def test_one_kind_of_work_that_is_harmed_is_not_hidden_by_the_others() -> None:
    fine = [*trials_of(ROUTED, 9_000), *trials_of(BASELINE, 9_000, first_id=10_000)]
    harmed = trials_of(ROUTED, 300, kind="code", first_id=30_000)
    code = [*harmed, *trials_of(BASELINE, 300, kind="code", first_id=40_000)]
    advice = advise(gather([*fine, *code], disliked(harmed, 45), [GRADE] * 400))
    assert advice.verdict is Verdict.WAIT
    assert any("code" in reason and "task_types" in reason for reason in advice.reasons)
    assert advise(gather([*fine, *code], disliked(harmed, 6), [GRADE] * 400)).verdict is Verdict.GO


def crowd(seed: int, users: int, share: float, harm: float, heaviness: float) -> Verdict:
    """Users who differ: one in twenty dislikes much, and some ask a hundred times as often as most."""
    dice = random.Random(seed)
    units = []
    for _ in range(users):
        arm = FIRST if dice.random() < share else SECOND
        count = min(2_000, int(dice.paretovariate(heaviness) * 3))
        chance = (0.3 if dice.random() < 0.05 else 0.01) + (harm if arm == FIRST else 0)
        mean = count * chance
        if count <= 30:  # beyond it a normal one is near enough, and quicker
            events = sum(dice.random() < chance for _ in range(count))
        else:
            events = min(count, max(0, round(dice.gauss(mean, (mean * (1 - chance)) ** 0.5))))
        units.append(Unit((Part("s", arm, count, events),)))
    found = stratified_difference(units)
    assert found is not None
    if min(found.first_units, found.second_units) < USERS_MIN:
        return Verdict.WAIT
    interval = found.difference
    return Verdict.GO if interval.high <= MARGIN else Verdict.BACK if interval.low > MARGIN else Verdict.WAIT


@pytest.mark.parametrize("heaviness", [1.1, 1.5, 3.0])
def test_among_users_who_differ_much_it_is_hardly_ever_wrong(heaviness: float) -> None:
    allowed = 0.025 * TRIALS + 2 * (0.025 * TRIALS) ** 0.5
    for harm, wrong in ((0.0, Verdict.BACK), (MARGIN, Verdict.BACK), (MARGIN, Verdict.GO), (0.02, Verdict.GO)):
        found = Counter(crowd(seed, 3_000, 0.25, harm, heaviness) for seed in range(TRIALS))
        assert found[wrong] <= allowed, (heaviness, harm, found)
