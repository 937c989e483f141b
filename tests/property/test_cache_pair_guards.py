"""The hard guards and the features on any text: total, symmetric, finite, and never talked out of a refusal."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.cache.matching.differences import certain_difference, exchanged_content
from services.cache.matching.lexicon import ANTONYMS
from services.cache.matching.neighbourhood import Near, evidence, propose
from services.cache.matching.pair_features import IDF_BUCKETS, pair_features, sketch
from services.cache.matching.proposal_guard import proposal_refusal
from services.cache.matching.reading import read

IDF = np.full(IDF_BUCKETS, 3.0, np.float32)
SENTENCE = (
    "how do i turn the heater on off what is capital of France 5 10 not my your 'a' foo() x.y who why 3kg 東京 ?? I'm"
)
sentences = st.lists(st.sampled_from(SENTENCE.split(" ")), max_size=10).map(" ".join)
texts = st.text(max_size=60) | sentences


@given(texts, texts)
def test_guards_are_total_symmetric_and_quote_nothing(a: str, b: str) -> None:
    x, y = read(a), read(b)
    assert certain_difference(x, y) == certain_difference(y, x)
    assert exchanged_content(x, y) == exchanged_content(y, x)
    assert certain_difference(x, x) == exchanged_content(x, x) == ""


@given(texts, texts, st.floats(allow_nan=True))
def test_features_are_finite_and_the_same_both_ways(a: str, b: str, similarity: float) -> None:
    x, y = sketch(a, IDF), sketch(b, IDF)
    there = pair_features(x, y, min(max(similarity, -1.0), 1.0))
    assert np.isfinite(there).all()
    np.testing.assert_array_equal(there, pair_features(y, x, min(max(similarity, -1.0), 1.0)))


@given(sentences, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10_000))
def test_another_number_is_refused_however_well_proven_the_answer(text: str, a: int, b: int, aliases: int) -> None:
    assume(a != b)
    assert proposal_refusal(read(f"{text} {a}"), [read(f"{text} {b}")], aliases=aliases)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1, 1)), min_size=1, max_size=40), st.randoms())
def test_a_proposal_does_not_depend_on_the_order_of_what_is_near(rows: list[tuple[str, float]], random: Random) -> None:
    near = [Near(group, similarity) for group, similarity in rows]
    shuffled = near.copy()
    random.shuffle(shuffled)
    first, second = propose(near), propose(shuffled)
    assert first is not None
    assert second is not None
    assert first.group == second.group
    np.testing.assert_allclose(evidence(first, 0.0), evidence(second, 0.0))


def refused(a: str, b: str) -> bool:
    """Whether a guard keeps the answer to the one from the other, while nothing but the texts is known."""
    return bool(certain_difference(read(a), read(b)) or exchanged_content(read(a), read(b)))


# Tenses and owners are left to what is learned: "who was" and "who is" often have one answer.
LEARNED = {"is", "was", "are", "were", "do", "does", "did", "has", "had", "my", "your", "his", "her", "their"}
OPPOSED = [pair for pair in ANTONYMS if not LEARNED.intersection(pair)]


@given(st.sampled_from(OPPOSED), st.sampled_from(["the door", "an account", "a file"]))
@example(("on", "off"), "the light")
def test_an_exchanged_antonym_is_refused(pair: tuple[str, str], thing: str) -> None:
    assume(not {"light", "lights"}.intersection(pair) or thing != "the light")
    assert refused(f"please {pair[0]} {thing}", f"please {pair[1]} {thing}")


THINGS = ("frogs", "Obama", "the liver", "a large bank", "Tim Cook", "my neighbours", "inflation", "x")
VERBS = ("acquire", "invade", "kill", "hire", "produce", "block", "chase", "play", "help", "need", "like")
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
            assert refused(one, other), (one, other)


@given(verbs, things, things)
def test_exchanged_parts_are_never_a_hit(verb: str, a: str, b: str) -> None:
    assume(a != b)
    for text in ("does {a} {verb} {b}?", "Why did {a} {verb} {b}", "is {a} better than {b}", "from {a} to {b}"):
        assert refused(text.format(a=a, b=b, verb=verb), text.format(a=b, b=a, verb=verb))


@given(sentences)
def test_a_negation_more_is_never_a_hit(text: str) -> None:
    assert refused(f"{text} work", f"{text} not work")


@given(
    st.text(alphabet="東京大阪日本は首都", min_size=1, max_size=8),
    st.text(alphabet="東京大阪日本は首都", min_size=1, max_size=8),
)
def test_a_script_that_the_guards_cannot_read_must_be_the_same_word_for_word(a: str, b: str) -> None:
    assume(a != b)
    assert refused(a, b)
