"""Risk control on made-up evidence: it abstains, opens, keeps its limit, notices a change, and reports what it did."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from services.cache.matching import risk_control
from services.cache.matching.measured_wrong import measured_wrong
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Decision, Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import EVIDENCE_MIN, Observations, fit_risk_model
from services.cache.matching.risk_state import STATE_BYTES_MAX, RiskStateError

LIMIT = 0.01


class World:
    """Questions whose clarity says how likely the proposal is right."""

    def __init__(self, seed: int, limit: float = LIMIT, audit_rate: float = 0.05) -> None:
        self.rng = np.random.default_rng(seed)
        self.controller = RiskController(RiskPolicy(limit, audit_rate), Random(seed))
        self.hits = self.wrong = self.lookups = self.audits = 0
        self.worst = 0.0

    def ask(self, count: int, *, spoiled: float = 0.0, refusal: str = "") -> list[Decision]:
        decisions = []
        for _ in range(count):
            clarity = float(self.rng.normal(2.5, 3.0))
            right = bool(self.rng.random() < 1 / (1 + np.exp(-clarity))) and bool(self.rng.random() >= spoiled)
            features = np.full(len(NAMES), clarity) + self.rng.normal(0, 0.3, len(NAMES))
            decision = self.controller.decide(features, refusal=lambda: refusal)
            decisions.append(decision)
            self.lookups += 1
            self.hits += decision.serve
            self.wrong += decision.serve and not right
            self.audits += decision.audit
            if self.lookups > 500:
                self.worst = max(self.worst, self.wrong / self.lookups)
            if decision.judged is not None and (decision.audit or not decision.serve):
                source = Source.AUDIT if decision.audit else Source.MISS
                self.controller.observe(decision.judged, same=right, source=source)
            if self.controller.stale:
                self.controller.adopt(fit_risk_model(self.controller.observations()))
        return decisions


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


def test_one_outcome_alone_is_no_evidence() -> None:
    rows = np.random.default_rng(1).normal(size=(500, len(NAMES)))
    assert fit_risk_model(Observations(rows, np.ones(500), np.zeros(500))) is None


def observations(clarity: np.ndarray, same: np.ndarray, refused: np.ndarray | None = None) -> Observations:
    rows = np.repeat(clarity[:, None], len(NAMES), axis=1)
    return Observations(rows, same, np.zeros(len(same)) if refused is None else refused)


def test_what_guards_refuse_does_not_make_dearer_what_they_let_pass() -> None:
    rng = np.random.default_rng(3)
    clarity = rng.normal(2.0, 2.0, 2_000)
    refused = (rng.random(2_000) < 0.3).astype(float)
    same = (rng.random(2_000) < 1 / (1 + np.exp(-clarity))).astype(float) * (1.0 - refused)
    told = fit_risk_model(observations(clarity, same, refused))
    untold = fit_risk_model(observations(clarity, same))
    assert told is not None
    assert untold is not None
    at = np.full(len(NAMES), 2.0)
    assert untold.wrong(untold.log_odds(at)) > 0.3
    assert told.wrong(told.log_odds(at)) < 0.25  # the truth is 0.12


def test_while_a_cache_fills_newer_evidence_counts_for_more() -> None:
    rng = np.random.default_rng(4)
    clarity = rng.normal(2.0, 2.0, 3_000)
    missing = rng.random(3_000) < np.linspace(0.8, 0.0, 3_000)  # the right answer is not stored yet
    same = (rng.random(3_000) < 1 / (1 + np.exp(-clarity))).astype(float) * (1.0 - missing)
    model = fit_risk_model(observations(clarity, same))
    assert model is not None
    at = np.full(len(NAMES), 4.0)
    assert model.wrong(model.log_odds(at)) < 0.7 * float(1.0 - same[np.abs(clarity - 4.0) < 0.5].mean())


def test_wrong_answers_that_nothing_foretells_are_booked_all_the_same() -> None:
    rng = np.random.default_rng(5)
    clarity = np.concatenate([rng.normal(-3.0, 1.0, 1_000), rng.normal(9.0, 1.0, 1_000)])
    same = (clarity > 3.0).astype(float)
    model = fit_risk_model(observations(clarity, same))
    assert model is not None
    assert model.wrong(model.log_odds(np.full(len(NAMES), 12.0))) > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_what_is_likely_right_is_ranked_by_what_tells_there_though_elsewhere_it_tells_the_contrary(seed: int) -> None:
    rng, count = np.random.default_rng(seed), 3_000
    near = rng.random(count) < 0.4
    sign = rng.normal(0.0, 1.0, count)
    odds = np.where(near, 2.0 + 2.0 * sign, -2.5 - 2.0 * sign)
    same = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(float)
    rows = np.zeros((count, len(NAMES)))
    rows[:, 0], rows[:, 1] = np.where(near, 3.0, -3.0) + rng.normal(0.0, 0.5, count), sign
    model = fit_risk_model(Observations(rows, same, np.zeros(count)))
    assert model is not None

    def odds_at(sign: float) -> float:
        return model.log_odds(np.asarray([3.0, sign, *np.zeros(len(NAMES) - 2)]))

    assert odds_at(1.0) > odds_at(-1.0) + 2.0  # the truth is 4; counted all alike it is below 0


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


def test_what_is_likelier_right_is_booked_cheaper() -> None:
    rng = np.random.default_rng(2)
    clarity = rng.normal(2.0, 2.0, 2_000)
    same = (rng.random(2_000) < 1 / (1 + np.exp(-clarity))).astype(float)
    model = fit_risk_model(Observations(np.repeat(clarity[:, None], len(NAMES), axis=1), same, np.zeros(2_000)))
    assert model is not None
    wrong = [model.wrong(model.log_odds(np.full(len(NAMES), c))) for c in (-2.0, 0.0, 2.0, 4.0)]
    assert wrong == sorted(wrong, reverse=True)
    assert abs(wrong[1] - 0.5) < 0.1


def test_a_restored_controller_goes_on_as_the_first_would_have() -> None:
    world, other = World(10), World(10)
    world.ask(1_500)
    other.controller.restore(world.controller.state())
    first, second = world.controller.report(), other.controller.report()
    assert (second.lookups, second.hits, second.observations) == (first.lookups, first.hits, first.observations)
    assert second.opened
    assert other.controller.decide(np.full(len(NAMES), 9.0)).serve


@pytest.mark.parametrize("data", [b"", b"PK", World(1).controller.state()[:-40]])
def test_what_is_no_state_is_refused_and_changes_nothing(data: bytes) -> None:
    world = World(11)
    world.ask(600)
    before = world.controller.report()
    with pytest.raises(RiskStateError):
        world.controller.restore(data)
    assert world.controller.report() == before


def changed(name: str, change: Callable[[np.ndarray], None], **others: Any) -> bytes:
    """A controller's state with something changed in one of its parts."""
    controller = RiskController(RiskPolicy(), Random(1))
    rng = np.random.default_rng(1)
    for number in range(300):
        judged = Judged(rng.normal(size=len(NAMES)), 0.01, "wording", 0.01, audit=True)
        controller.observe(judged, same=bool(number % 2), source=Source.AUDIT)
    with np.load(io.BytesIO(controller.state())) as archive:
        parts = {each: archive[each] for each in archive.files}
    change(parts[name])
    stream = io.BytesIO()
    np.savez_compressed(stream, **{**parts, **others})
    return stream.getvalue()


def put(at: Any, value: Any) -> Callable[[np.ndarray], None]:
    def change(part: np.ndarray) -> None:
        part[at] = value

    return change


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("outcomes", (0, 1), 12.0),
        ("outcomes", (0, 1), -1.0),
        ("outcomes", (0, 1), 1.5),
        ("outcomes", (0, 0), 0.5),
        ("guards", (0, slice(None)), (100.0, -5.0, 1.0)),
        ("guards", (0, slice(None)), (10.0, 11.0, 1.0)),
        ("guards", (0, slice(None)), (10.0, 1.0, 11.0)),
        ("features", (0, 0), 1e9),
        ("features", (0, 0), np.nan),
        ("recent_audits", (0, 1), 2.0),
        ("recent_audits", (0, 2), -1.0),
        ("counters", 0, np.inf),
        *[("counters", place, -1e-3) for place in (0, 1, 2, *range(4, 12))],
        ("counters", 3, -6.0),
        ("counters", 11, 1e10),
        ("observed", (), 299),
        ("kinds", 0, "words"),
    ],
)
def test_a_state_with_a_value_out_of_range_is_refused_and_changes_nothing(name: str, at: Any, value: Any) -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    before = controller.report()
    with pytest.raises(RiskStateError):
        controller.restore(changed(name, put(at, value)))
    assert controller.report() == before
    controller.restore(changed(name, lambda part: None))
    assert controller.report() != before


def test_a_state_of_a_part_of_an_observation_is_refused() -> None:
    with pytest.raises(RiskStateError):
        RiskController(RiskPolicy(), Random(1)).restore(changed("observed", lambda part: None, observed=300.5))


def test_a_state_in_which_audits_ran_ahead_is_gone_on_from() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    controller.restore(changed("counters", put(3, -4.9)))
    assert controller.report().audits > 0.0


def test_a_state_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, features=np.zeros((2_000_000, len(NAMES))))
    assert len(stream.getvalue()) < STATE_BYTES_MAX
    with pytest.raises(RiskStateError, match="ValueError"):
        RiskController(RiskPolicy(), Random(1)).restore(stream.getvalue())


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


@pytest.mark.parametrize(("wrong", "foretold"), [(0.0, 0.0), (0.0, 5.0), (3.0, 3.0), (20.0, 4.0), (300.0, 310.0)])
def test_the_interval_is_finite_around_its_middle_and_never_below_nothing(wrong: float, foretold: float) -> None:
    middle, low, high = measured_wrong(50.0, wrong=wrong, foretold=foretold)
    assert 0.0 <= low <= middle <= high < 1_000.0


def test_audits_move_the_measured_wrong_ones_and_many_of_them_narrow_the_interval() -> None:
    few, many, worse = (
        measured_wrong(1_000.0, wrong=wrong, foretold=foretold)
        for wrong, foretold in ((2.0, 2.0), (200.0, 200.0), (40.0, 10.0))
    )
    assert few[2] - few[1] > 3.0 * (many[2] - many[1])
    assert many[0] == pytest.approx(1_000.0)
    assert worse[1] > 2.0 * many[0]


def test_where_audits_told_all_what_is_left_is_the_chance_of_the_answers_that_were_served() -> None:
    _, low, high = measured_wrong(50.0, wrong=1e6, foretold=1e6)
    assert 2 * 1.9 * 50**0.5 < high - low < 2 * 2.1 * 50**0.5


def test_the_interval_holds_the_truth_however_far_booking_is_off_by_chance() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        ratio = rng.gamma(4.0, 0.25)  # how many times what was foretold there is: half to twice, mostly
        audited = rng.poisson(3.0 * ratio)
        _, low, high = measured_wrong(50.0, wrong=float(audited), foretold=3.0)
        held += low <= rng.poisson(50.0 * ratio) <= high
    assert held >= 0.95 * 400
