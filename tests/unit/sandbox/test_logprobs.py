"""Rules of log-probabilities."""

from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.logprobs import TOKEN_CHARS_MAX, token_logprobs


@given(st.text(max_size=300))
def test_the_tokens_join_up_to_the_text(text: str) -> None:
    tokens = [entry.token for entry in token_logprobs(text, -1.0)]
    assert "".join(tokens) == text
    assert all(0 < len(token.strip()) <= TOKEN_CHARS_MAX for token in tokens[:-1])


def test_words_and_signs_are_tokens_with_the_white_space_before_them() -> None:
    tokens = [entry.token for entry in token_logprobs("Paris, in\n  France. ", -1.0)]
    assert tokens == ["Paris", ",", " in", "\n  France", ".", " "]


def test_one_number_is_every_tokens() -> None:
    assert [entry.logprob for entry in token_logprobs("a b c", -0.25)] == [-0.25] * 3


def test_a_list_goes_token_by_token_and_its_last_number_repeats() -> None:
    assert [entry.logprob for entry in token_logprobs("a b c", (-1.0, -2.0))] == [-1.0, -2.0, -2.0]
    assert [entry.logprob for entry in token_logprobs("a", (-1.0, -2.0))] == [-1.0]


def test_made_up_numbers_are_the_same_every_time_and_differ_between_tokens() -> None:
    first, second = token_logprobs("one two three four", "pseudo"), token_logprobs("one two three four", "pseudo")
    assert first == second
    assert len({entry.logprob for entry in first}) == 4
    assert all(-3 <= entry.logprob <= 0 for entry in first)


def test_a_long_run_of_white_space_is_cut_in_linear_time() -> None:
    assert [len(entry.token) for entry in token_logprobs(" " * 100_000, -1.0)] == [100_000]
