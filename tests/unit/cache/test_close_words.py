"""Where a close word stands for another, what is ordered instead of asked, and courtesies that are what is asked."""

from __future__ import annotations

import pytest

from services.cache.matching.close_words import closed_groups
from services.cache.matching.near_synonyms import FRAMES, NEAR_SYNONYMS
from services.cache.matching.proposal_guard import LIFTABLE, kind_of, proposal_refusal
from services.cache.matching.reading import read


def refusal(asked: str, stored: str) -> str:
    return kind_of(proposal_refusal(read(asked), [read(stored)], aliases=1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I get a diagnosis of asthma?", "How do I diagnose asthma?"),
        ("Do I need approval for a fence?", "Do I need to approve a fence?"),
        ("Who receives deliveries at night?", "Who delivers at night?"),
        ("I want authorization for a trip", "I authorize a trip"),
        ("Do I have a subscription?", "Do I have to subscribe?"),
        ("How big is the book?", "How big is the reserve?"),
        ("How long is the drive?", "How long is the disk?"),
        ("Where does the tea come from?", "Where does the tea arrive from?"),
        ("Do you include parking?", "Do you cover parking?"),
        ("How do I silence a call?", "How do I mute a call?"),
        ("How do I claim advantages?", "How do I claim benefits?"),
        ("Where do I publish papers?", "Where do I publish documents?"),
        ("Do I offer a receipt?", "Do I provide a receipt?"),
        ("Is travel insurance dear?", "Is trip insurance dear?"),
        ("What is the strength of the acid?", "What is the strong acid?"),
        ("Can I enrol my phone?", "Can I register my phone?"),
        ("How do I turn the dial?", "How do I enable the dial?"),
        ("How do I turn up the siren?", "How do I enable the siren?"),
        ("How do I turn down the siren?", "How do I disable the siren?"),
        ("How do I turn down the siren?", "How do I turn off the siren?"),
        ("How do I turn the siren down?", "How do I turn the siren off?"),
        ("How do I turn over the siren?", "How do I turn on the siren?"),
        ("Is the voucher valid?", "Is the coupon valid?"),
        ("Is the guarantee long?", "Is the warranty long?"),
        ("Can I end the lease?", "Can I terminate the lease?"),
    ],
)
def test_words_that_are_close_elsewhere_are_two_where_they_say_two_things(a: str, b: str) -> None:
    assert refusal(a, b) not in ("", *LIFTABLE)
    assert refusal(b, a) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("When will the renovation get approval?", "When does the renovation get its approval?"),
        ("How long does delivery take?", "How long does it take to deliver?"),
        ("How do I reserve a boat?", "How do I book a boat?"),
        ("How do I clone a hard disk?", "How do I clone a hard drive?"),
        ("When does the ferry come?", "When does the ferry arrive?"),
        ("Does the policy include theft?", "Does the policy cover theft?"),
        ("How do I mute a group?", "How do I silence a group?"),
        ("What are the advantages of copper?", "What are the benefits of copper?"),
        ("What papers do I need?", "What documents do I need?"),
        ("Do you provide towels?", "Do you offer towels?"),
        ("How do I enrol in a course?", "How do I register for a course?"),
        ("How tall is the mast?", "What is the height of the mast?"),
        ("How do I turn on the siren?", "How do I enable the siren?"),
    ],
)
def test_close_words_stand_for_each_other_in_their_frame(a: str, b: str) -> None:
    assert refusal(a, b) == ""
    assert refusal(b, a) == ""


def test_a_frame_is_of_groups_that_there_are_and_of_words_in_them() -> None:
    groups = {group for groups in NEAR_SYNONYMS.values() for group in groups}
    for frame in FRAMES:
        assert frame.groups <= groups
        assert frame.of <= NEAR_SYNONYMS.keys()
        assert all(not frame.of or frame.of & set(group.split("/")) for group in frame.groups)


def test_a_question_without_a_framed_word_closes_no_group() -> None:
    assert closed_groups(()) == frozenset()
    assert closed_groups(("how", "do", "i", "fold", "it")) == frozenset()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Show me the bill", "Explain the bill"),
        ("Could you give me the code for heapsort?", "Could you please describe the code for heapsort?"),
        ("Tell me a riddle about owls", "Explain a riddle about owls"),
        ("Help me with my essay", "Give me my essay"),
        ("Do you know Cobol?", "Explain Cobol"),
        ("Hello, show me a proof", "Hi, describe a proof"),
        ("What is the Greek word for please?", "What is the Greek word for thank you?"),
        ("How do you say thanks?", "How do you say please?"),
        ("How do I sign hello in class?", "How do I sign please in class?"),
        ("Translate hello into Greek", "Translate thanks into Greek"),
        ("Good morning in Greek?", "Good evening in Greek?"),
        ("Hello in Greek?", "Thanks in Greek?"),
        ("Can my niece send money to me?", "Can my niece send money?"),
        ("Who is the writer of Ivanhoe?", "Who wrote to Ivanhoe?"),
        ("Who is the author of Ivanhoe?", "Who wrote to Ivanhoe?"),
        ("Who is the painter of Anna?", "Who painted for Anna?"),
        ("How do I get an explanation of my bill?", "How do I explain my bill?"),
        ("What time does it close?", "When was it closed?"),
        ("How can I be contacted?", "How can I contact you?"),
        ("Must I sweep?", "Does he have to sweep?"),
        ("Is it possible to film the crew?", "Can the crew film?"),
        ("Will I be paid in May?", "Will I pay in May?"),
        ("When do I get paid?", "When do I pay?"),
        ("When can I be vaccinated?", "When can I vaccinate?"),
    ],
)
def test_what_is_ordered_or_said_otherwise_is_refused_both_ways_and_never_lifted(a: str, b: str) -> None:
    assert refusal(a, b) not in ("", *LIFTABLE)
    assert refusal(b, a) not in ("", *LIFTABLE)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Explain rainbows", "What are rainbows?"),
        ("Tell me the capital of Chad", "Give me the capital of Chad"),
        ("Describe the rules of chess", "Give me the rules of chess"),
        ("Explain inflation", "Tell me about inflation"),
        ("Show me how to fold a shirt", "Explain how to fold a shirt"),
        ("Do you know what a quark is?", "Can you explain what a quark is?"),
        ("Do you know the price of the pass?", "Tell me the price of the pass"),
        ("How do I fold a shirt? Thank you", "Good morning, how do I fold a shirt"),
        ("How do you say thanks in Greek?", "How do you say thank you in Greek?"),
        ("Who is the writer of Ivanhoe?", "Who wrote Ivanhoe?"),
        ("What time does it close?", "When does it close?"),
        ("Was I charged for the trial?", "Have I been charged for the trial?"),
    ],
)
def test_what_comes_to_the_same_answer_may_be_ordered_or_asked(a: str, b: str) -> None:
    assert refusal(a, b) == ""
    assert refusal(b, a) == ""
