"""When a class of partitions may overrule a guard: after enough proof, never of the hard kinds, and not for ever."""

from __future__ import annotations

import math
from functools import partial
from random import Random

import numpy as np
import pytest

from services.cache.matching.guard_evidence import GUARDED_WRONG_MAX, GuardEvidence, guard_code
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.proposal_guard import ALIASES_PROVEN, LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.reading import read
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

HARD = ("numbers", "units", "literals", "code", "negation", "opposites", "direction", "names", "language")


def seen(guard: str, right: int, wrong: int = 0, p: float = 0.01) -> GuardEvidence:
    evidence = GuardEvidence()
    for number in range(right + wrong):
        evidence.add(guard, wrong=p, same=number >= wrong)
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
    assert seen("words", 49).surcharge("words") == math.inf
    assert 5.0 < seen("words", 50).surcharge("words") < 7.0
    assert seen("words", 300).surcharge("words") == 1.0
    assert seen("words", 300).surcharge("case") == math.inf
    assert seen("words", 300).refuses().tolist().count(0.0) == 2


def test_wrong_answers_make_what_a_guard_speaks_against_dearer() -> None:
    charges = [seen("words", 300, wrong=wrong).surcharge("words") for wrong in (0, 3, 9, 30)]
    assert charges == sorted(charges)
    assert charges[-1] > 9.0


def test_what_looks_wrong_anyhow_says_nothing_of_a_guard() -> None:
    assert seen("words", 500, p=2 * GUARDED_WRONG_MAX).surcharge("words") == math.inf


def test_old_evidence_fades() -> None:
    evidence = seen("order", 80)
    evidence.fade(0.5)
    assert evidence.surcharge("order") == math.inf


def learned(controller: RiskController, *, guard: str, right: float, count: int = 3_000) -> None:
    rng = np.random.default_rng(2)
    for _ in range(count):
        clarity = float(rng.normal(3.0, 3.0))
        guarded = bool(rng.random() < 0.3)
        same = bool(rng.random() < 1 / (1 + np.exp(-clarity))) and not (guarded and rng.random() > right)
        said = f"{guard}: it speaks" if guarded else ""
        decision = controller.decide(np.full(len(NAMES), clarity), refusal=partial(str, said))
        if decision.judged is not None and (decision.audit or not decision.serve):
            source = Source.AUDIT if decision.audit else Source.MISS
            controller.observe(decision.judged, same=same, source=source)
        if controller.stale:
            controller.adopt(fit_risk_model(controller.observations()))


@pytest.mark.parametrize(
    ("guard", "right", "served"), [("words", 1.0, True), ("words", 0.6, False), ("code", 1.0, False)]
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
    learned(controller, guard="words", right=1.0)
    clear = np.full(len(NAMES), 9.0)
    for _ in range(300):
        controller.observe(Judged(clear, 0.0, 1.0, "words"), same=True, source=Source.MISS)
    decision = controller.decide(clear, refusal=lambda: "words: they differ")
    assert decision.serve
    assert decision.judged is not None
    assert decision.judged.guard == "words"
    for _ in range(300):
        controller.observe(Judged(clear, 0.001, 1.0, "words"), same=False, source=Source.MISS)
    assert not controller.consider(clear, refusal=lambda: "words: they differ").serve


@pytest.mark.parametrize(
    ("kind", "asked", "stored"),
    [
        ("numbers", "I was charged 5 times", "I was charged {} times"),
        ("units", "no answer for a week", "no answer for a {}"),
    ],
)
def test_an_answer_whose_own_questions_differ_so_may_be_proven_to_serve_others(
    kind: str, asked: str, stored: str
) -> None:
    others = ["2", "3", "4", "7"] if kind == "numbers" else ["day", "month", "year", "decade"]
    rows = [read(stored.format(other)) for other in others]
    assert kind_of(proposal_refusal(read(asked), rows, aliases=9)) == f"{kind} among aliases"
    assert kind_of(proposal_refusal(read(asked), rows[:ALIASES_PROVEN], aliases=9)) == kind
    assert kind_of(proposal_refusal(read(asked), [rows[0]] * 9, aliases=9)) == kind
    assert kind_of(proposal_refusal(read(asked), rows, aliases=ALIASES_PROVEN - 1)) == kind


def refused_by(asked: str, *stored: str) -> str:
    return kind_of(proposal_refusal(read(asked), [read(each) for each in stored], aliases=9))


def test_opposites_are_never_proven_by_other_opposites() -> None:
    pairs = ("enable", "disable", "lock", "unlock", "open", "close")
    rows = [f"how do I {verb} the alarm" for verb in pairs]
    assert refused_by("how do I start the alarm", "how do I stop the alarm", *rows) == "opposites"


def test_a_hard_difference_is_not_hidden_by_one_that_may_be_lifted() -> None:
    assert refused_by("track Order 7", "cancel order 8") == "numbers"
    assert refused_by("enable Sharing of cars", "disable sharing of bikes") == "opposites"
    assert refused_by("turn off the lamp", "turn on the lamp", "how does the lamp get lit") == "opposites"
    assert refused_by("turn off the lamp", "turn on the lamp", "please turn off the lamp") == ""
    assert refused_by("turn off the hall lamp", "turn on the hall lamp", "light the kitchen lamp") == "opposites"


class Sure:
    """A model to whom nothing is ever wrong."""

    def log_odds(self, features: object) -> float:
        return 9.0

    def wrong(self, log_odds: float, *, deviations: float = 0.0) -> float:
        return 0.0


@pytest.mark.parametrize("guard", [*HARD, *LIFTABLE])
def test_a_guard_that_is_not_lifted_decides_however_sure_a_model_is_and_whatever_the_bar(guard: str) -> None:
    controller = RiskController(RiskPolicy(1.0), Random(1))
    controller.adopt(Sure())  # type: ignore[arg-type]
    for _ in range(60):
        controller.decide(np.zeros(len(NAMES)))
    assert controller.decide(np.zeros(len(NAMES))).serve
    assert not controller.decide(np.zeros(len(NAMES)), refusal=lambda: f"{guard}: it speaks").serve
