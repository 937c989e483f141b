"""When a class of partitions may overrule a guard: after enough proof, never of the hard kinds, and not for ever."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from random import Random

import numpy as np
import pytest

from services.cache.matching.guard_evidence import (
    GUARDED_WRONG_MAX,
    HEARD_EACH_MAX,
    HEARD_MAX,
    UNSHOWN_MAX,
    UNSHOWN_MIN,
    GuardEvidence,
    guard_code,
)
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.proposal_guard import LIFTABLE
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

HARD = (
    "numbers", "units", "ordinals", "literals", "code", "negation", "opposites", "direction", "names", "language",
    "contrary", "several", "length", "order", "question", "roles", "words", "action",
)  # fmt: skip


def seen(guard: str, right: int, wrong: int = 0, p: float = 0.01, answers: int = 20) -> GuardEvidence:
    evidence = GuardEvidence()
    for number in range(right + wrong):
        evidence.add(guard, group=f"answer {number % answers}", wrong=p, same=number >= wrong)
    return evidence


def test_without_evidence_no_guard_is_lifted() -> None:
    assert all(GuardEvidence().surcharge(kind) == math.inf for kind in (*LIFTABLE, *HARD))
    assert GuardEvidence().surcharge("") == 1.0


@pytest.mark.parametrize("kind", HARD)
def test_no_evidence_lifts_a_hard_guard(kind: str) -> None:
    assert kind not in LIFTABLE
    assert seen(kind, 5_000).surcharge(kind) == math.inf
    assert seen(kind, 5_000).refuses()[guard_code(kind)] == 1.0


def test_a_guard_is_lifted_when_what_it_refused_was_shown_to_be_right() -> None:
    assert seen("wording", 49).surcharge("wording") == math.inf
    assert 5.0 < seen("wording", 50).surcharge("wording") < 7.0
    assert seen("wording", 300).surcharge("wording") == 1.0
    assert seen("wording", 300).surcharge("case") == math.inf
    assert seen("wording", 300).refuses().tolist().count(0.0) == 2


def test_the_questions_of_a_few_answers_lift_no_guard_however_many_they_are() -> None:
    few = (HEARD_MAX - 1) // HEARD_EACH_MAX
    assert seen("unheard", 5_000, answers=few).surcharge("unheard") == math.inf
    assert seen("unheard", 5_000, answers=few + 1).surcharge("unheard") == 1.0


class Traffic:
    """A class that is asked: 3,000 honest lookups first, under no guard. Outcomes come `late` lookups after."""

    def __init__(self, seed: int, *, late: int = 0) -> None:
        self._rng, self._late = np.random.default_rng(seed), late
        self.controller = RiskController(RiskPolicy(), Random(seed))
        self.lookups = self.hits = self.wrong = 0
        self._untold: deque[tuple[int, Judged, bool, Source]] = deque()
        for number in range(3_000):
            clear = self._rng.random() < 0.55
            self.ask(2.0, 0.002, f"answer {number % 40}") if clear else self.ask(0.0, 0.5, f"answer {number % 40}")

    def ask(self, clear: float, wrong: float, group: str, guard: str = "") -> bool:
        features, same = self._rng.normal(size=len(NAMES)) * 0.5 + clear, bool(self._rng.random() >= wrong)
        decision = self.controller.decide(features, group=group, refusal=lambda: guard and f"{guard}: it speaks")
        self.lookups += 1
        self.hits += decision.serve
        self.wrong += decision.serve and not same
        if decision.judged is not None and (decision.audit or not decision.serve):
            source = Source.AUDIT if decision.audit else Source.MISS
            self._untold.append((self.lookups + self._late, decision.judged, same, source))
        while self._untold and self._untold[0][0] <= self.lookups:
            _, judged, right, source = self._untold.popleft()
            self.controller.observe(judged, same=right, source=source)
            if self.controller.stale:
                self.controller.adopt(fit_risk_model(self.controller.observations()))
        return decision.serve


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whoever_plants_questions_of_one_answer_opens_no_way_to_the_others(seed: int) -> None:
    traffic = Traffic(seed)
    assert traffic.hits > 1_000
    for _ in range(120):
        traffic.ask(2.0, 0.0, "planted", "unheard")
    assert not any(traffic.ask(2.0, 1.0, f"answer {number % 40}", "unheard") for number in range(300))


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("planted", "late"), [(60, 0), (60, 30), (120, 30), (240, 0), (600, 30)])
def test_whoever_plants_many_answers_to_lift_a_guard_breaks_no_limit_with_it(
    seed: int, planted: int, late: int
) -> None:
    traffic = Traffic(seed, late=late)
    for number in range(planted):
        traffic.ask(2.0, 0.0, f"planted {number % 20}", "unheard")
    served = [traffic.ask(2.0, 1.0, f"answer {number % 40}", "unheard") for number in range(300)]
    assert sum(served) <= UNSHOWN_MIN + 1
    assert not any(served[100:])
    assert traffic.wrong <= 0.005 * traffic.lookups


def test_under_a_lifted_guard_few_hits_are_served_beyond_the_last_proposal_that_was_shown_right() -> None:
    evidence = seen("wording", 300)
    for _ in range(int(UNSHOWN_MIN)):
        assert not evidence.is_due("wording", wrong_max=0.0)
        evidence.serve("wording")
    assert evidence.is_due("wording", wrong_max=0.0)
    assert not evidence.is_due("wording", wrong_max=1_000.0)
    assert not evidence.is_due("case", wrong_max=0.0)
    evidence.add("wording", group="another", wrong=0.01, same=True)
    assert not evidence.is_due("wording", wrong_max=0.0)


def test_the_lead_of_a_lifted_guard_is_bounded_however_much_may_be_wrong() -> None:
    evidence = seen("wording", 300)
    for _ in range(UNSHOWN_MAX):
        evidence.serve("wording")
    assert evidence.is_due("wording", wrong_max=1e9)


def test_what_was_decided_before_later_hits_vouches_for_none_of_them() -> None:
    evidence = seen("wording", 300)
    early = evidence.place("wording")
    for _ in range(int(UNSHOWN_MIN)):
        evidence.serve("wording")
    evidence.add("wording", group="another", wrong=0.01, same=True, served=True, place=early)
    assert evidence.is_due("wording", wrong_max=0.0)


def test_after_a_wrong_one_nothing_is_served_under_its_guard_until_a_later_one_is_shown_right() -> None:
    evidence = seen("wording", 300)
    early = evidence.place("wording")
    evidence.add("wording", group="another", wrong=0.01, same=False, served=True, place=early)
    assert evidence.is_due("wording", wrong_max=1e9)
    evidence.add("wording", group="another", wrong=0.01, same=True, served=True, place=early)
    assert evidence.is_due("wording", wrong_max=1e9)
    evidence.add("wording", group="another", wrong=0.01, same=True, place=evidence.place("wording"))
    assert not evidence.is_due("wording", wrong_max=0.0)


def test_a_proposal_keeps_where_among_the_hits_under_its_guard_it_was_decided() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    for _ in range(3):
        controller.guards.serve("wording")
    judged = controller.consider(np.zeros(len(NAMES)), refusal=lambda: "wording: it speaks").judged
    assert judged is not None
    assert judged.place == controller.guards.place("wording") == 3
    other = controller.consider(np.zeros(len(NAMES)), refusal=lambda: "code: it speaks").judged
    assert other is not None
    assert other.place is None


def test_hits_that_were_never_told_of_end_what_a_lifted_guard_lets_pass_until_a_miss_shows_another_right() -> None:
    controller = RiskController(RiskPolicy(0.02, audit_rate=0.0), Random(1))
    learned(controller, guard="wording", right=1.0)
    clear, refusal = np.full(len(NAMES), 9.0), partial(str, "wording: it speaks")
    served = [controller.decide(clear, group=f"answer {number}", refusal=refusal) for number in range(UNSHOWN_MAX + 2)]
    assert 0 < sum(each.serve for each in served) <= UNSHOWN_MAX
    refused = served[-1]
    assert not refused.serve
    assert refused.reason == "wording: it speaks"
    assert refused.judged is not None
    controller.observe(refused.judged, same=True, source=Source.MISS)
    assert controller.decide(clear, refusal=refusal).serve


def test_wrong_answers_make_what_a_guard_speaks_against_dearer() -> None:
    charges = [seen("wording", 300, wrong=wrong).surcharge("wording") for wrong in (0, 3, 9, 30)]
    assert charges == sorted(charges)
    assert charges[-1] > 9.0


@pytest.mark.parametrize(("right", "wrong"), [(50, 0), (90, 0), (300, 0), (280, 9), (200, 30)])
def test_a_lifted_guard_is_booked_at_the_mean_of_what_it_is_charged_the_bound_of(right: int, wrong: int) -> None:
    evidence = seen("wording", right, wrong=wrong)
    expected = max(1.0, (wrong + 1.0) / (0.01 * (right + wrong)))
    assert evidence.expected("wording") == pytest.approx(expected)
    assert 1.0 <= evidence.expected("wording") <= evidence.surcharge("wording")


def test_where_no_guard_was_seen_nothing_is_added_to_what_is_booked() -> None:
    assert {GuardEvidence().expected(kind) for kind in ("", *LIFTABLE, *HARD)} == {1.0}


def test_a_hit_under_a_lifted_guard_is_decided_by_the_bound_and_booked_by_the_mean() -> None:
    controller = RiskController(RiskPolicy(0.5), Random(1))
    controller.adopt(Sure(0.01))  # type: ignore[arg-type]
    features = np.zeros(len(NAMES))
    controller.observe(Judged(features, 0.0, "wording"), same=False, source=Source.MISS)
    for number in range(100):
        controller.decide(None)
        controller.decide(features)
        controller.observe(
            Judged(features, 0.0, "wording", group=f"answer {number % 20}"), same=True, source=Source.MISS
        )
    decision = controller.decide(features, refusal=lambda: "wording: they differ")
    assert decision.serve
    assert decision.judged is not None
    assert decision.wrong == pytest.approx(0.01 * controller.guards.surcharge("wording"))
    assert decision.judged.booked == pytest.approx(0.01 * controller.guards.expected("wording"))
    assert decision.judged.booked < 0.5 * decision.wrong
    assert controller.judge_elsewhere(features, "wording", audit=False).booked == decision.judged.booked


def test_what_looks_wrong_anyhow_says_nothing_of_a_guard() -> None:
    assert seen("wording", 500, p=2 * GUARDED_WRONG_MAX).surcharge("wording") == math.inf


def test_old_evidence_fades() -> None:
    evidence = seen("case", 80)
    evidence.fade(0.5)
    assert evidence.surcharge("case") == math.inf


def learned(controller: RiskController, *, guard: str, right: float, count: int = 3_000) -> None:
    rng = np.random.default_rng(2)
    for number in range(count):
        clarity = float(rng.normal(3.0, 3.0))
        guarded = bool(rng.random() < 0.3)
        same = bool(rng.random() < 1 / (1 + np.exp(-clarity))) and not (guarded and rng.random() > right)
        said = f"{guard}: it speaks" if guarded else ""
        decision = controller.decide(
            np.full(len(NAMES), clarity), group=f"answer {number % 20}", refusal=partial(str, said)
        )
        if decision.judged is not None and (decision.audit or not decision.serve):
            source = Source.AUDIT if decision.audit else Source.MISS
            controller.observe(decision.judged, same=same, source=source)
        if controller.stale:
            controller.adopt(fit_risk_model(controller.observations()))


@pytest.mark.parametrize(
    ("guard", "right", "served"), [("wording", 1.0, True), ("wording", 0.6, False), ("code", 1.0, False)]
)
def test_a_class_serves_what_a_guard_refuses_only_where_it_was_shown_that_it_may(
    guard: str, right: float, served: bool
) -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    clear = np.full(len(NAMES), 9.0)
    learned(controller, guard=guard, right=right)
    assert controller.consider(clear).serve
    assert controller.consider(clear, refusal=lambda: f"{guard}: it speaks").serve is served
    again = RiskController(RiskPolicy(0.02), Random(1))
    again.restore(controller.state())
    again.decide(None)
    assert again.consider(clear, refusal=lambda: f"{guard}: it speaks").serve is served


def test_of_audited_hits_under_a_lifted_guard_the_guard_hears() -> None:
    controller = RiskController(RiskPolicy(0.02, audit_rate=0.1), Random(1))
    learned(controller, guard="wording", right=1.0)
    clear = np.full(len(NAMES), 9.0)
    for number in range(300):
        controller.observe(Judged(clear, 0.0, "wording", group=f"answer {number % 20}"), same=True, source=Source.MISS)
    decision = controller.decide(clear, refusal=lambda: "wording: they differ")
    assert decision.serve
    assert decision.judged is not None
    assert decision.judged.guard == "wording"
    for number in range(300):
        controller.observe(
            Judged(clear, 0.001, "wording", group=f"answer {number % 20}"), same=False, source=Source.MISS
        )
    assert not controller.consider(clear, refusal=lambda: "wording: they differ").serve


def test_what_is_foretold_of_a_guard_is_not_raised_by_tightening() -> None:
    charges = []
    for wrong_audits in (0, 12):
        controller = RiskController(RiskPolicy(0.02), Random(1))
        controller.adopt(Sure(0.004))  # type: ignore[arg-type]
        features = np.zeros(len(NAMES))
        for _ in range(wrong_audits):
            controller.observe(Judged(features, 0.05, audit=True), same=False, source=Source.AUDIT)
        assert (controller.report().tightening > 1.0) == bool(wrong_audits)
        for number in range(100):
            controller.observe(
                Judged(features, 0.0, "wording", group=f"answer {number % 20}"), same=True, source=Source.MISS
            )
        charges.append(controller.guards.surcharge("wording"))
    assert charges[0] == charges[1]


def test_a_wrong_hit_under_a_lifted_guard_counts_against_it_however_dear_it_looks_by_now() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Sure(0.004))  # type: ignore[arg-type]
    features = np.zeros(len(NAMES))
    for number in range(400):
        controller.observe(
            Judged(features, 0.0, "wording", group=f"answer {number % 20}"), same=True, source=Source.MISS
        )
    before = controller.guards.surcharge("wording")
    served = Judged(features, 0.004, "wording", 0.004, audit=True)
    controller.adopt(Sure(0.5))  # type: ignore[arg-type]
    for _ in range(5):
        controller.observe(served, same=False, source=Source.AUDIT)
    assert controller.guards.surcharge("wording") > 2.0 * before


def test_a_guard_hears_of_a_served_hit_what_was_foretold_and_not_what_it_was_booked_at() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Sure(0.004))  # type: ignore[arg-type]
    for _ in range(100):
        served = Judged(np.zeros(len(NAMES)), 0.03, "wording", 0.004, audit=True)
        controller.observe(served, same=True, source=Source.AUDIT)
    seen, wrong, foretold = controller.guards.counts[LIFTABLE.index("wording")].tolist()
    assert (seen, wrong, foretold) == (100.0, 0.0, pytest.approx(0.4))


def test_praise_of_a_hit_lifts_no_guard() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Sure(0.01))  # type: ignore[arg-type]
    for _ in range(500):
        controller.observe(Judged(np.zeros(len(NAMES)), 0.01, "wording", 0.01), same=True, source=Source.FEEDBACK)
    assert controller.guards.surcharge("wording") == math.inf


def test_where_tenants_are_observed_together_no_guard_is_lifted() -> None:
    controllers = [RiskController(RiskPolicy(0.02), Random(1), lifts=lifts) for lifts in (True, False)]
    for controller in controllers:
        learned(controller, guard="wording", right=1.0)
        assert controller.consider(np.full(len(NAMES), 9.0)).serve
    clear = np.full(len(NAMES), 9.0)
    assert [c.consider(clear, refusal=lambda: "wording: x").serve for c in controllers] == [True, False]
    controllers[1].restore(controllers[0].state())
    controllers[1].decide(None)
    assert controllers[1].consider(clear).serve
    assert not controllers[1].consider(clear, refusal=lambda: "wording: x").serve


class Sure:
    """A model to whom everything is equally probable to be wrong."""

    def __init__(self, wrong: float = 0.0) -> None:
        self._p = wrong

    def log_odds(self, features: object) -> float:
        return 9.0

    def wrong(self, log_odds: float) -> float:
        return self._p


@pytest.mark.parametrize("guard", [*HARD, *LIFTABLE])
def test_a_guard_that_is_not_lifted_decides_however_sure_a_model_is_and_whatever_the_bar(guard: str) -> None:
    controller = RiskController(RiskPolicy(1.0), Random(1))
    controller.adopt(Sure())  # type: ignore[arg-type]
    for _ in range(60):
        controller.decide(np.zeros(len(NAMES)))
    assert controller.decide(np.zeros(len(NAMES))).serve
    assert not controller.decide(np.zeros(len(NAMES)), refusal=lambda: f"{guard}: it speaks").serve
