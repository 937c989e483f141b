"""Risk control on made-up evidence: it abstains, opens, keeps its limit, notices a change, and reports what it did."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from services.cache.matching import risk_control
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import EVIDENCE_MIN
from tests.support.risk_world import LIMIT, World


def test_with_little_evidence_nothing_is_served() -> None:
    world = World(1)
    assert not any(decision.serve for decision in world.ask(EVIDENCE_MIN - 1))
    assert not world.controller.report().opened


def test_without_a_proposal_it_is_a_miss_that_counts_as_a_lookup() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    decision = controller.decide(None)
    assert not decision.serve
    assert decision.judged is None
    assert controller.report().lookups == 1.0


def test_the_limit_holds_at_every_point_in_nearly_every_world_and_hits_are_many() -> None:
    worlds = [World(seed) for seed in range(8)]
    for world in worlds:
        world.ask(2_000)
    # A bound that chance decides: one world of eight may break it, and none by half.
    assert sum(world.worst <= LIMIT for world in worlds) >= 7
    assert max(world.worst for world in worlds) <= 1.5 * LIMIT
    assert sum(world.hits for world in worlds) > 0.2 * sum(world.lookups for world in worlds)


def test_a_guard_has_the_last_word() -> None:
    world = World(5)
    world.ask(1_500)
    assert world.hits
    before = world.hits
    refused = [
        decision for decision in world.ask(500, refusal="numbers: differ") if decision.reason == "numbers: differ"
    ]
    assert refused
    assert world.hits == before
    assert all(decision.wrong <= decision.bar for decision in refused)


def test_a_world_that_turns_is_noticed_and_closes_the_door() -> None:
    world = World(6, audit_rate=0.2)
    world.ask(3_000)
    served_before, wrong_before = world.hits, world.wrong
    assert world.controller.report().tightening == 1.0
    world.ask(3_000, spoiled=0.5)
    assert world.controller.report().tightening > 1.0
    served = world.hits - served_before
    assert served < 0.1 * 3_000  # it had served far more before
    assert world.wrong - wrong_before < 0.03 * 3_000  # unnoticed it would have been half of the hits


def test_audits_keep_to_their_rate() -> None:
    world = World(7)
    world.ask(4_000)
    assert 0.03 * world.hits < world.audits <= 0.08 * world.hits + 40  # some 35 more of the first hits


def test_the_measured_rate_comes_with_an_interval_that_holds_the_truth() -> None:
    covered = 0
    for seed in range(10):
        world = World(100 + seed, audit_rate=0.2)
        world.ask(2_500)
        report = world.controller.report()
        covered += report.wrong_rate_low <= world.wrong / world.lookups <= report.wrong_rate_high
        assert report.wrong_rate_low <= report.wrong_rate <= report.wrong_rate_high
    assert covered >= 8


def test_the_same_randomness_decides_the_same() -> None:
    first, second = World(8).ask(1_000), World(8).ask(1_000)
    assert [(d.serve, d.audit, d.wrong) for d in first] == [(d.serve, d.audit, d.wrong) for d in second]


def test_by_no_model_nothing_is_served() -> None:
    world = World(9)
    world.ask(1_500)
    world.controller.adopt(None)
    assert not world.controller.decide(np.full(len(NAMES), 9.0)).serve


@pytest.mark.parametrize(("limit", "audits"), [(0.0, 0.1), (1.1, 0.1), (0.1, -0.1), (0.1, 1.1)])
def test_an_impossible_policy_is_refused(limit: float, audits: float) -> None:
    with pytest.raises(ValueError, match="max_wrong_rate"):
        RiskPolicy(limit, audits)


def test_evidence_is_given_oldest_first_when_the_oldest_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk_control, "OBSERVATIONS_MAX", 10)
    controller = RiskController(RiskPolicy(), Random(1))
    for number in range(14):
        controller.observe(Judged(np.full(len(NAMES), float(number)), 0.0), same=True, source=Source.MISS)
    assert controller.observations().features[:, 0].tolist() == [float(n) for n in range(4, 14)]


def test_the_first_hits_are_audited_more_often_than_the_later_ones() -> None:
    first = later = first_hits = later_hits = 0
    for seed in range(4):
        world = World(20 + seed)
        while world.hits < 60:
            world.ask(10)
        first, first_hits = first + world.audits, first_hits + world.hits
        world.ask(2_500)
        audits, hits = world.audits, world.hits
        world.ask(1_000)
        later, later_hits = later + world.audits - audits, later_hits + world.hits - hits
    assert first / first_hits > 0.15
    assert later / later_hits < 0.1


def audited(controller: RiskController, count: int, *, same: bool, audit: bool = True) -> None:
    for _ in range(count):
        judged = Judged(np.zeros(len(NAMES)), 0.01, audit=audit)
        controller.observe(judged, same=same, source=Source.AUDIT)


def test_praise_relaxes_nothing_and_is_no_audit() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    audited(controller, 40, same=True)
    audited(controller, 10, same=False)
    before = controller.report()
    assert before.tightening > 1.0
    for _ in range(300):
        controller.observe(Judged(np.zeros(len(NAMES)), 0.01), same=True, source=Source.FEEDBACK)
    audited(controller, 300, same=True, audit=False)  # another answer to what was not drawn
    after = controller.report()
    assert (after.tightening, after.audits, after.wrong_rate) == (before.tightening, before.audits, before.wrong_rate)
    audited(controller, 300, same=True)
    assert controller.report().tightening < before.tightening


def test_a_complaint_tightens_and_is_no_audit() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    for _ in range(5):
        controller.observe(Judged(np.zeros(len(NAMES)), 0.01), same=False, source=Source.FEEDBACK)
    assert controller.report().tightening > 1.0
    assert controller.report().audits == 0.0


class Even:
    """A model to whom everything is equally probable to be wrong."""

    def log_odds(self, features: object) -> float:
        return 5.0

    def wrong(self, log_odds: float) -> float:
        return 0.004


def turns_until(controller: RiskController, serves: bool, *, same: bool) -> int:
    """How many audits of this outcome it takes until it serves, or serves no more."""
    for number in range(600):
        if controller.consider(np.zeros(len(NAMES))).serve is serves:
            return number
        audited(controller, 1, same=same)
        for _ in range(25):
            controller.decide(None)
    raise AssertionError("never")


def test_wrong_audits_raise_the_bar_until_nothing_is_served_and_right_ones_lower_it_again() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Even())  # type: ignore[arg-type]
    for number in range(3_000):
        controller.decide(np.zeros(len(NAMES)) if number % 2 else None)
    assert controller.report().hits > 1_000
    assert turns_until(controller, False, same=False) <= 20
    assert controller.report().tightening > 1.0
    assert turns_until(controller, True, same=True) > 0


def test_the_wrong_rate_that_a_trace_has_is_the_reported_one() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    assert (controller.wrong_rate, controller.observed) == (0.0, 0)
    for number in range(50):
        _, judged = controller.serve_same_words()
        controller.observe(judged, same=number % 5 > 0, source=Source.AUDIT)
    assert controller.wrong_rate == controller.report().wrong_rate > 0.0
    assert controller.observed == controller.report().observations
