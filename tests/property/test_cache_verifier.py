"""The verifier on any text: it never fails, is symmetric, quotes nobody, and no guard is talked out of its refusal."""

from __future__ import annotations

import math

from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.cache.lexicon import ANTONYMS
from services.cache.verifier import TEXT_CHARS_MAX, Verification, verify

SENTENCE = (
    "how do i turn the heater on off what is capital of France Germany price 5 10 not never before after my your "
    "reset password 'a' \"b\" foo() x.y who when why don't can't 3kg 3 kg €5 WHO Ünder наш 東京 ?? ! I'm"
)
sentences = st.lists(st.sampled_from(SENTENCE.split(" ")), max_size=10).map(" ".join)
texts = st.text(max_size=60) | sentences


def judge(a: str, b: str, similarity: float = 0.99) -> Verification:
    return verify(a, b, similarity=similarity, similarity_min=0.9)


@given(texts, texts)
def test_any_two_texts_get_a_verdict_and_the_same_one_both_ways(a: str, b: str) -> None:
    there, back = judge(a, b), judge(b, a)
    assert there == back
    assert there.hit == (there.guard == "")
    assert there.reason


@given(texts)
def test_a_text_answers_itself(text: str) -> None:
    assert judge(text, text).hit


@given(texts, texts, st.floats(allow_nan=True))
def test_nothing_below_the_least_similarity_is_a_hit(a: str, b: str, similarity: float) -> None:
    assume(math.isnan(similarity) or similarity < 0.9)
    assert judge(a, b, similarity).guard == "similarity"


@given(st.text(alphabet="qzjxw", min_size=6, max_size=12), sentences)
def test_a_reason_never_quotes_a_question(secret: str, text: str) -> None:
    assert secret not in judge(f"{text} {secret}", text).reason
    assert secret not in judge(f"{text} {secret} 7", f"{text} {secret} 8").reason
    assert secret not in judge(f"{text} '{secret}'", f"{text} 'b'").reason


@given(sentences, st.integers(0, 10**6), st.integers(0, 10**6))
def test_another_number_is_never_a_hit(text: str, a: int, b: int) -> None:
    assume(a != b)
    assert not judge(f"{text} {a}", f"{text} {b}").hit


@given(st.sampled_from(ANTONYMS), st.sampled_from(["the light", "my account", "a large file"]))
@example(("on", "off"), "the light")
def test_an_exchanged_antonym_is_never_a_hit(pair: tuple[str, str], thing: str) -> None:
    assert not judge(f"please {pair[0]} {thing}", f"please {pair[1]} {thing}").hit


THINGS = ("frogs", "Obama", "the liver", "a large bank", "Tim Cook", "my neighbours", "inflation", "x")
VERBS = ("acquire", "invade", "kill", "hire", "produce", "block", "chase", "need", "want", "help", "like", "play")
things, verbs = st.sampled_from(THINGS), st.sampled_from(VERBS)


@given(st.sampled_from(["who", "What", "which company", "How many people"]), verbs, things, st.sampled_from(["", "?"]))
def test_who_does_it_is_never_taken_for_whom_it_is_done_to(asked: str, verb: str, thing: str, end: str) -> None:
    done = f"{verb.removesuffix('e')}ed"
    acts = (f"{asked} {verb}s {thing}{end}", f"{asked} {done} {thing}{end}", f"{asked} will {verb} {thing}{end}")
    suffers = (
        f"{asked} does {thing} {verb}{end}",
        f"{asked} did {thing} {verb}{end}",
        f"{asked} is {done} by {thing}{end}",
        f"{asked} will {thing} {verb}{end}",
    )
    for one in acts:
        for other in suffers:
            assert not judge(one, other).hit, (one, other)


@given(verbs, things, things)
def test_exchanged_parts_are_never_a_hit(verb: str, a: str, b: str) -> None:
    assume(a != b)
    for text in ("does {a} {verb} {b}?", "Why did {a} {verb} {b}", "is {a} better than {b}", "from {a} to {b}"):
        assert not judge(text.format(a=a, b=b, verb=verb), text.format(a=b, b=a, verb=verb)).hit


@given(sentences)
def test_a_negation_more_is_never_a_hit(text: str) -> None:
    assert not judge(f"{text} work", f"{text} not work").hit


@given(
    st.text(alphabet="東京大阪日本は首都", min_size=1, max_size=8),
    st.text(alphabet="東京大阪日本は首都", min_size=1, max_size=8),
)
def test_a_script_that_the_guards_cannot_read_must_be_the_same_word_for_word(a: str, b: str) -> None:
    assume(a != b)
    assert not judge(a, b).hit


@given(st.integers(TEXT_CHARS_MAX + 1, TEXT_CHARS_MAX + 50))
def test_long_texts_are_not_compared(length: int) -> None:
    assert judge("a" * length, "a").guard == "length"
