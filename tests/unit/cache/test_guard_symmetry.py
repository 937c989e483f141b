"""Which of two questions is stored changes nothing of what the guards that promise so see between them."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.cache.matching import lexicon
from services.cache.matching.contraries import hard_differences, opposes, reverses
from services.cache.matching.differences import content_differences, hardly_differs, otherwise_worded, reordered
from services.cache.matching.grammar import grammar_differences
from services.cache.matching.near_synonyms import NEAR_SYNONYMS
from services.cache.matching.reading import read

FORMAL = sorted(lexicon.FUNCTION_WORDS | lexicon.AUXILIARIES.keys() | lexicon.NEGATIONS | lexicon.DIRECTIONAL_WORDS)
OPPOSED = sorted({word for pair in lexicon.ANTONYMS for word in pair})
OTHERS = sorted(
    lexicon.ACTIONS
    | lexicon.SYNONYMS.keys()
    | lexicon.IRREGULAR.keys()
    | lexicon.UNITS.keys()
    | lexicon.NUMBER_WORDS.keys()
    | NEAR_SYNONYMS.keys()
)
WORDS = st.one_of(st.sampled_from(FORMAL), st.sampled_from(OPPOSED), st.sampled_from(OTHERS))
QUESTIONS = st.lists(WORDS, min_size=1, max_size=8)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """A question, and the same with words exchanged, added or in another order."""
    words = draw(QUESTIONS)
    other = draw(st.one_of(st.just(words), st.permutations(words)))
    for place in draw(st.lists(st.integers(0, len(other) - 1), max_size=3)):
        other = [*other[:place], *draw(st.lists(WORDS, max_size=2)), *other[place + draw(st.integers(0, 1)) :]]
        if not other:
            return " ".join(words), "how"
        if place >= len(other):
            break
    return " ".join(words), " ".join(other)


def differences(a: str, b: str) -> tuple[object, ...]:
    x, y = read(a), read(b)
    return (
        sorted(hard_differences(x, y)),
        sorted(grammar_differences(x, y)),
        sorted(content_differences(x, y)),
        opposes(x, y),
        reverses(x, y),
        reordered(x, y),
        hardly_differs(x, y),
        otherwise_worded(x, y),
    )


@settings(max_examples=400)
@given(pairs())
@example(("log in to the portal", "log out of the portal"))
@example(("when can I move in", "when can I move out"))
@example(("author of my able wrote 3", "of I 3 author my bitten able"))
@example(("pay pay to what a which wrote age", "a age what pay author pay wrote was which"))
def test_two_questions_differ_as_much_whichever_is_stored(pair: tuple[str, str]) -> None:
    a, b = pair
    assert differences(a, b) == differences(b, a)
