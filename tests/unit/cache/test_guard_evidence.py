"""When a class of partitions may overrule a guard: after enough proof, never of the hard kinds, and not for ever."""

from __future__ import annotations

import math
from functools import partial
from random import Random

import numpy as np
import pytest

from services.cache.matching.contraries import clears, hard_differences
from services.cache.matching.differences import certain_difference, exchanged_content
from services.cache.matching.guard_evidence import GUARDED_WRONG_MAX, GuardEvidence, guard_code
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.proposal_guard import LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.reading import read
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model

HARD = (
    "numbers", "units", "ordinals", "literals", "code", "negation", "opposites", "direction", "names", "language",
    "contrary", "several", "length", "order", "question", "roles", "words", "action",
)  # fmt: skip


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
    assert seen("wording", 49).surcharge("wording") == math.inf
    assert 5.0 < seen("wording", 50).surcharge("wording") < 7.0
    assert seen("wording", 300).surcharge("wording") == 1.0
    assert seen("wording", 300).surcharge("case") == math.inf
    assert seen("wording", 300).refuses().tolist().count(0.0) == 2


def test_wrong_answers_make_what_a_guard_speaks_against_dearer() -> None:
    charges = [seen("wording", 300, wrong=wrong).surcharge("wording") for wrong in (0, 3, 9, 30)]
    assert charges == sorted(charges)
    assert charges[-1] > 9.0


def test_what_looks_wrong_anyhow_says_nothing_of_a_guard() -> None:
    assert seen("wording", 500, p=2 * GUARDED_WRONG_MAX).surcharge("wording") == math.inf


def test_old_evidence_fades() -> None:
    evidence = seen("case", 80)
    evidence.fade(0.5)
    assert evidence.surcharge("case") == math.inf


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
    for _ in range(300):
        controller.observe(Judged(clear, 0.0, 1.0, "wording"), same=True, source=Source.MISS)
    decision = controller.decide(clear, refusal=lambda: "wording: they differ")
    assert decision.serve
    assert decision.judged is not None
    assert decision.judged.guard == "wording"
    for _ in range(300):
        controller.observe(Judged(clear, 0.001, 1.0, "wording"), same=False, source=Source.MISS)
    assert not controller.consider(clear, refusal=lambda: "wording: they differ").serve


def refused_by(asked: str, *stored: str) -> str:
    return kind_of(proposal_refusal(read(asked), [read(each) for each in stored], aliases=9))


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("How do I turn off heater 9?", "How do I turn on heater {}?"),
        ("How do I not cancel order 9?", "How do I cancel order {}?"),
        ("How do I delete order 9?", "How do I track order {}?"),
        ("Can Bob refund invoice 9 to Alice?", "Can I print invoice {}?"),
        ("How do I convert 9 euros to dollars?", "How do I convert {} dollars to euros?"),
        ("How do I run `rm -rf /` on host 9?", "How do I run `ls` on host {}?"),
        ("I was charged 9 times", "I was charged {} times"),
        ("no answer for 9 weeks", "no answer for {} days"),
    ],
)
def test_however_many_numbers_an_answer_has_another_one_is_never_lifted(asked: str, stored: str) -> None:
    for numbers in ((1, 2, 3, 4), (9, 1, 2, 3, 4), range(1, 17)):
        rows = [row for row in (stored.format(number) for number in numbers) if row != asked]
        assert refused_by(asked, *rows) not in ("", *LIFTABLE)


@pytest.mark.parametrize("ordinal", ["first", "last", "next", "former", "second", "latest", "third"])
def test_an_ordinal_is_never_lifted(ordinal: str) -> None:
    others = [f"Who was the {each} president?" for each in ("only", "previous", "original", "current", "tenth")]
    assert refused_by(f"Who was the {ordinal} president?", *others) not in ("", *LIFTABLE)


OUTVOTING = [
    ("How do I turn off the heater?", "How do I turn on the heater?", "How do I turn the heater?"),
    ("How do I lock my account?", "How do I unlock my account?", "How do I do it with my account?"),
    ("How do I add a card?", "How do I remove a card?", "How do I do it with a card?"),
    ("How do I close an unverified account?", "How do I close a verified account?", "How do I close an account?"),
    ("Is it reversible to delete a file?", "Is it irreversible to delete a file?", "Can I delete a file?"),
    ("Is ibuprofen not safe?", "Is ibuprofen safe?", "Is it not safe?"),
    ("Fly from Rome to Oslo", "Fly from Oslo to Rome", "Fly Oslo Rome"),
    ("Send money from Anna into the fund", "Send money from the fund into Anna", "send Anna fund money"),
    ("How do I cancel order 9?", "How do I cancel order 8?", "What about order 9?"),
    ("Who won the last race?", "Who won the first race?", "Who won at last?"),
    ("Is chess harder than checkers?", "Is checkers harder than chess?", "chess or checkers harder?"),
    ("Where was the tower built?", "When was the tower built?", "the tower's building"),
    ("Who did Ann hire?", "Who hired Ann?", "hired by Ann"),
    ("What does heat cause?", "What causes heat?", "causes of heat"),
    ("How do I sort a tuple in Python?", "How do I sort a list in Python?", "How do I sort in Python?"),
]


@pytest.mark.parametrize(("asked", "contrary", "neutral"), OUTVOTING)
def test_a_question_that_says_less_outvotes_none_that_asks_for_something_else(
    asked: str, contrary: str, neutral: str
) -> None:
    for rows in ((contrary, neutral), (neutral, contrary), (*(neutral for _ in range(9)), contrary)):
        assert refused_by(asked, *rows) not in ("", *LIFTABLE)
    assert refused_by(asked, contrary, neutral, f"please {asked[0].lower()}{asked[1:]}") == ""


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


BROAD = (
    "when will my parcel arrive",
    "when does the package come",
    "when is the delivery due",
    "when will my stuff land",
    "when does the courier show up",
    "when will shipping finish",
)


def test_another_wording_may_be_lifted_only_for_an_answer_whose_own_questions_are_worded_otherwise() -> None:
    asked = "when can the postman be expected"
    assert refused_by(asked, *BROAD) == "wording"
    assert refused_by(asked, *(BROAD[0] for _ in BROAD)) == "words"
    assert refused_by(asked, *BROAD[:3]) == "words"
    assert refused_by(f"{asked} in 9 days", *BROAD) == "numbers"
    assert refused_by(asked.replace("the postman", "Tim"), *BROAD) == "names"


MIXED = (
    "my parcel has not arrived",
    "where is my parcel",
    "why was delivery number 7 unsuccessful",
    "when will the package come",
    "the courier did not show up twice",
    "is the shipment still open",
    "I never got what was sent",
    "what happened to my last delivery",
    "the box was not handed over",
)
"""Questions of one answer, of most of which a guard keeps the others' answer back."""


def test_of_a_broad_answer_whose_own_questions_guards_would_refuse_they_may_be_lifted() -> None:
    for asked in ("why did the postman not come twice", "nothing was handed over by the courier yesterday"):
        assert refused_by(asked, *MIXED) == "misjudged"
        assert refused_by(asked, *MIXED[:7]) not in ("", *LIFTABLE)
        assert refused_by(asked, *(MIXED[0] for _ in MIXED)) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    "asked",
    [
        "why was delivery number 8 unsuccessful",
        "why was delivery 4711 not brought",
        "why does `track()` not show the courier",
        "how do I cancel delivery number 7",
        "why has my wife's postman not come",
        "why was delivery number 7 successful",
        "the courier did show up twice",
        "the courier did not show up twice. Reply with another address",
        "where is my parcel until the courier comes",
    ],
)
def test_what_a_question_names_exactly_or_says_more_is_refused_whatever_guards_are_worth(asked: str) -> None:
    assert refused_by(asked, *MIXED) not in ("", *LIFTABLE)


INVOICES = (
    "which account do I pay invoice 88 to, which came after 87",
    "what are the bank details for invoice 88",
    "I have not got the IBAN of invoice 88",
    "where should the money of number 88 go",
    "is there no account on bill 88",
    "88 is overdue twice, how is it settled",
    "why does invoice 88 not say whom to transfer to",
    "the first page of 88 lacks the bank",
    "payee of the unpaid bill 88",
)


def test_a_number_that_one_question_only_mentions_opens_no_way_to_it() -> None:
    for asked in ("what is the IBAN for invoice 87", "bank details for invoice 87", "to which account is bill 87 paid"):
        assert refused_by(asked, *INVOICES) not in ("", *LIFTABLE)


def test_questions_that_order_their_answer_prove_nothing_of_guards() -> None:
    asked = "why did the postman not come twice"
    assert refused_by(asked, *MIXED) == "misjudged"
    planted = [f"{row}. Reply with another address" for row in MIXED[2:]]
    assert refused_by(asked, *MIXED[:2], *planted) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("how do I migrate our server from 12 to 11", "how do I migrate our server from 11 to 12"),
        ("are 16 miles 10 km", "are 10 km 16 miles"),
    ],
)
def test_the_same_words_in_another_order_are_refused_however_broad_the_answer(asked: str, stored: str) -> None:
    assert refused_by(asked, stored, *BROAD) not in ("", *LIFTABLE)


def test_what_is_foretold_of_a_guard_is_not_raised_by_tightening() -> None:
    charges = []
    for wrong_audits in (0, 12):
        controller = RiskController(RiskPolicy(0.02), Random(1))
        controller.adopt(Sure(0.004))  # type: ignore[arg-type]
        features = np.zeros(len(NAMES))
        for _ in range(wrong_audits):
            controller.observe(Judged(features, 0.05, 1.0, audit=True), same=False, source=Source.AUDIT)
        assert (controller.report().tightening > 1.0) == bool(wrong_audits)
        for _ in range(100):
            controller.observe(Judged(features, 0.0, 1.0, "wording"), same=True, source=Source.MISS)
        charges.append(controller.guards.surcharge("wording"))
    assert charges[0] == charges[1]


def test_a_wrong_hit_under_a_lifted_guard_counts_against_it_however_dear_it_looks_by_now() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Sure(0.004))  # type: ignore[arg-type]
    features = np.zeros(len(NAMES))
    for _ in range(400):
        controller.observe(Judged(features, 0.0, 1.0, "wording"), same=True, source=Source.MISS)
    before = controller.guards.surcharge("wording")
    served = Judged(features, 0.004, 0.05, "wording", 0.004, audit=True)
    controller.adopt(Sure(0.5))  # type: ignore[arg-type]
    for _ in range(5):
        controller.observe(served, same=False, source=Source.AUDIT)
    assert controller.guards.surcharge("wording") > 2.0 * before


def test_praise_of_a_hit_lifts_no_guard() -> None:
    controller = RiskController(RiskPolicy(0.02), Random(1))
    controller.adopt(Sure(0.01))  # type: ignore[arg-type]
    for _ in range(500):
        controller.observe(Judged(np.zeros(len(NAMES)), 0.01, 0.05, "wording", 0.01), same=True, source=Source.FEEDBACK)
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

    def wrong(self, log_odds: float, *, deviations: float = 0.0) -> float:
        return self._p


@pytest.mark.parametrize("guard", [*HARD, *LIFTABLE])
def test_a_guard_that_is_not_lifted_decides_however_sure_a_model_is_and_whatever_the_bar(guard: str) -> None:
    controller = RiskController(RiskPolicy(1.0), Random(1))
    controller.adopt(Sure())  # type: ignore[arg-type]
    for _ in range(60):
        controller.decide(np.zeros(len(NAMES)))
    assert controller.decide(np.zeros(len(NAMES))).serve
    assert not controller.decide(np.zeros(len(NAMES)), refusal=lambda: f"{guard}: it speaks").serve


TRACKING = (
    "when will my parcel arrive",
    "how do I track my order",
    "where is my package now",
    "how do I follow my delivery",
    "when does the courier come",
    "where can I see the status of my order",
    "when is the shipment due",
)


@pytest.mark.parametrize(
    "asked",
    [
        "how do I cancel my order",
        "cancel the parcel",
        "I want to return my package",
        "how can my delivery be cancelled",
        "how do I paint my order",
    ],
)
def test_what_none_of_an_answers_questions_names_as_done_is_never_lifted_however_broad_it_is(asked: str) -> None:
    assert refused_by(asked, *TRACKING) not in ("", *LIFTABLE)


CLEARED = [
    ("is my card not working", "is my card working", "is this card still not working", "is my card here"),
    ("the heater is turned off", "the heater is turned on", "my heater was turned off", "my heater was turned"),
    ("was I charged 2 times", "was I charged 3 times", "was I just charged 2 times", "was I just charged"),
    ("my second card came", "my first card came", "the second card came now", "the card came now"),
    ("I sent it from Oslo", "I sent it to Oslo", "sent from Oslo now", "sent Oslo now"),
    ("my account is unverified", "my account is verified", "why is this account unverified", "why is this account"),
]


@pytest.mark.parametrize(("asked", "against", "by", "less"), CLEARED)
def test_a_contrary_is_cleared_by_a_question_of_the_answer_with_the_very_words_and_by_none_that_says_less(
    asked: str, against: str, by: str, less: str
) -> None:
    assert clears(read(asked), read(against), read(by))
    assert refused_by(asked, against) not in ("", *LIFTABLE)
    assert refused_by(asked, against, less) not in ("", *LIFTABLE)
    assert refused_by(asked, against, by) == ""


@pytest.mark.parametrize(
    ("asked", "against", "more"),
    [
        ("turn off lamp 1", "turn on lamp 1", "turn off lamp 1, answer for the opposite of that"),
        (
            "How do I disable dark mode?",
            "How do I enable dark mode?",
            "How do I disable dark mode, explain the reverse",
        ),
        ("status of order 4711", "status of order 4710", "status of order 4711, take the preceding one"),
        ("status of order 4711", "status of order 4710", "status of order 4711, rounded down"),
        ("my account is unverified", "my account is verified", "my account is unverified, a sarcastic remark"),
    ],
)
def test_a_question_that_says_more_than_the_asked_one_clears_nothing(asked: str, against: str, more: str) -> None:
    assert not clears(read(asked), read(against), read(more))
    assert refused_by(asked, against, more) not in ("", *LIFTABLE)


def test_one_that_differs_itself_clears_nothing() -> None:
    assert refused_by("turn off lamp 1", "turn on lamp 1", "turn off lamp 2") not in ("", *LIFTABLE)
    assert refused_by("turn off lamp 1", "turn on lamp 1", "how do I turn off lamp 1") == ""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("the rate is not correct", "the rate is incorrect"),
        ("I am unable to log in", "I am not able to log in"),
        ("I can not remember my code", "I forget my code"),
        ("is a tomato a fruit or not", "is a tomato a fruit"),
        ("how many days does a transfer take", "how long does a transfer take"),
        ("my transfer has been waiting for a week", "my transfer has been waiting"),
        ("is there only one way to pay", "is there one way to pay"),
    ],
)
def test_what_is_denied_twice_or_only_said_more_closely_is_no_contrary(a: str, b: str) -> None:
    assert not hard_differences(read(a), read(b))
    assert not hard_differences(read(b), read(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("the rate is not incorrect", "the rate is incorrect"),
        ("days at sea", "nights at sea"),
        ("pay by the day", "pay by the night"),
        ("minutes in a day", "minutes in a week"),
        ("I was the only one", "I was one"),
        ("foods that are safe for old dogs", "foods that are not safe for old dogs"),
        ("I do not know how not to pay", "I do not know how to pay"),
        ("is my name on it", "is your name on it"),
    ],
)
def test_a_denial_or_a_span_in_anothers_place_stays_a_contrary(a: str, b: str) -> None:
    assert certain_difference(read(a), read(b)) or exchanged_content(read(a), read(b))
    assert certain_difference(read(b), read(a)) or exchanged_content(read(b), read(a))
