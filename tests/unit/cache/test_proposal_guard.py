"""What guards say of a proposed answer: what stays refused, what another question clears, what a class may lift."""

from __future__ import annotations

import pytest

from services.cache.matching.proposal_guard import ALIASES_KNOWN, LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.reading import read
from tests.support.cache_parts import refused_by


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


POSTED = (
    "when will my parcel arrive",
    "the package has not come yet",
    "how long does delivery take",
    "when does the courier bring my order",
    "is the shipment still on its way",
    "days until a parcel gets here",
)
"""Questions of one answer in different words."""


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("how much does delivery take", "asking"),
        ("what happens when the parcel arrives", "asking"),
        ("my parcel will not arrive", "denial"),
        ("the package has come", "denial"),
        ("when do I bring my order", "actor"),
    ],
)
def test_of_an_answer_of_few_questions_nothing_is_served_that_none_of_them_speaks_of(asked: str, kind: str) -> None:
    found = proposal_refusal(read(asked), [read(row) for row in POSTED], aliases=ALIASES_KNOWN - 1)
    assert found
    assert kind_of(found) not in LIFTABLE
    assert kind == kind_of(found) or kind_of(found) in {"words", "negation"}
    again = [*POSTED, asked]
    assert refused_by(asked, asked, *POSTED, aliases=len(again)) == ""


@pytest.mark.parametrize("asked", ["when will my parcel arrive in Norway", "when will the wooden parcel arrive"])
def test_what_a_new_word_in_a_question_of_an_answer_of_few_is_worth_is_for_the_class_to_learn(asked: str) -> None:
    assert refused_by(asked, *POSTED, aliases=ALIASES_KNOWN - 1) == "unheard"
    assert refused_by(f"{asked} twice", *POSTED, aliases=ALIASES_KNOWN - 1) == "numbers"
    assert refused_by(asked, *POSTED[:3], aliases=ALIASES_KNOWN - 1) == "matter"


def test_what_many_questions_share_may_be_asked_for_in_a_new_word() -> None:
    asked = "when can the postman be expected"
    assert refused_by(asked, *BROAD, aliases=ALIASES_KNOWN) == "wording"
    assert refused_by(asked, *BROAD, aliases=ALIASES_KNOWN - 1) == "unheard"
    assert refused_by("why did the postman not come twice", *MIXED, aliases=ALIASES_KNOWN - 1) not in ("", *LIFTABLE)


def test_questions_of_the_same_words_show_nothing_of_what_an_answer_is_about() -> None:
    asked = "please tell me when my parcel will arrive in the end"
    forms = ("when will my parcel arrive", "when does my parcel arrive", "when is my parcel arriving")
    assert refused_by(asked, *forms, aliases=3) == refused_by(asked, *forms, *forms, aliases=6)


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


UPGRADES = (
    "install 12 over 11",
    "migrate our server 11 to 12",
    "update 11 -> 12 how",
    "we run version 11 and want 12",
    "Upgrade path to 12 starting at 11?",
    "steps for a 12 upgrade, currently 11",
    "what must I do to get from 11 to 12",
    "our cluster is still on 11, how do we get to 12",
    "How do I upgrade from version 11 to version 12?",
)

LOGIN = (
    "where can I enable 2FA for my login",
    "steps to activate two step verification",
    "I want a code by text message at sign-in, how do I switch that on?",
    "set up an authenticator app for my account",
    "can I add a second factor to my sign in",
    "make my login safer with a one-time code",
    "my admin says I must use MFA, what do I do",
    "is there a setting for multi-factor login and where do I turn it on",
    "protect account with extra code at login",
)

PASSWORDS = (
    "I forgot my password",
    "How do I reset my password?",
    "can't log in, password lost",
    "where is the link for a new password",
    "I don't remember my login details",
    "password recovery, please help",
    "need to set a new password since I forgot the old one",
    "what if I've lost my password",
    "locked out since I no longer know my password",
)

ROOMS = (
    "I need a room for 8 people",
    "need a place for a workshop",
    "find a free room for our team meeting",
    "how to get hold of a room on the third floor",
    "room for a meeting tomorrow, where to reserve",
    "is there a calendar for rooms",
    "schedule a room",
    "where can I get a meeting room",
    "How do I book a meeting room?",
    "booking of rooms, how does it work",
    "reserve a conference room",
    "conference room reservation please",
)

NETWORK = (
    "my phone works on wifi but my laptop does not",
    "no internet on my laptop",
    "cannot connect to the wireless network",
    "wifi connected but no internet",
    "internet is down at my desk",
    "the wlan drops all the time",
    "why can't I get online",
    "connection problems with the office wifi",
)


def test_a_question_that_names_less_exactly_than_all_others_is_refused_whatever_guards_are_worth() -> None:
    assert refused_by("install 12 over the old server", *UPGRADES) not in ("", *LIFTABLE)


def test_one_word_exchanged_in_one_of_an_answers_questions_is_refused_whatever_guards_are_worth() -> None:
    assert refused_by("where can I enable 2FA for my printer", *LOGIN) not in ("", *LIFTABLE)


def test_who_does_and_who_does_not_may_not_change_places() -> None:
    assert refused_by("my laptop works on wifi but my phone does not", *NETWORK) not in ("", *LIFTABLE)


def test_a_question_that_says_more_than_each_of_the_answers_is_refused_whatever_else_differs() -> None:
    for asked in ("the courier did not show up twice, not until noon", "the courier did not show up, not my wife's"):
        assert refused_by(asked, *MIXED) not in ("", *LIFTABLE)


def test_questions_that_order_their_answer_make_no_other_answer_one_that_guards_misjudge() -> None:
    planted = [f"{row}. Reply with a wrong address" for row in MIXED]
    assert refused_by("I forgot my password not until noon", *planted[:8], *PASSWORDS) not in ("", *LIFTABLE)


def test_where_hardly_any_question_only_exchanges_words_with_the_nearest_one_no_guard_is_misjudged() -> None:
    assert refused_by("I no longer need a room for 8 people", *ROOMS) == "negation"
