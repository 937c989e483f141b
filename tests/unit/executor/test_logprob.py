"""How sure the model was of its words."""

from __future__ import annotations

import math

import pytest

from services.executor.gates import logprob
from spillway.routing import LogprobSpec, Verdict

TOKENS = (("The", -0.1), (" sum", -0.2), (",", -5.0), (" so", -0.1), ("\n####", -0.1), (" 4", -0.5), ("2", -1.5))


def test_the_three_figures() -> None:
    found = logprob.figures(TOKENS)
    assert found is not None
    assert found.mean == pytest.approx(-7.5 / 7)
    assert found.least == -1.5  # a comma's does not count
    assert found.span_mean == pytest.approx(-1.0)


def test_the_span_is_where_the_final_answer_stands_last() -> None:
    found = logprob.figures((("42", -9.0), (" is a guess.\n####", -0.1), (" 42", -1.0)))
    assert found is not None
    assert found.span_mean == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (LogprobSpec(), Verdict.PASS),
        (LogprobSpec(mean_min=-1.1), Verdict.PASS),
        (LogprobSpec(mean_min=-1.0), Verdict.FAIL),
        (LogprobSpec(least_min=-1.5), Verdict.PASS),
        (LogprobSpec(least_min=-1.4), Verdict.FAIL),
        (LogprobSpec(span_mean_min=-1.0), Verdict.PASS),
        (LogprobSpec(span_mean_min=-0.9), Verdict.FAIL),
    ],
)
def test_every_figure_that_has_a_least_value_must_reach_it(spec: LogprobSpec, expected: Verdict) -> None:
    verdict = logprob.check(TOKENS, spec)
    assert verdict.verdict is expected
    assert verdict.score == pytest.approx(math.exp(-1.0))


def test_without_log_probabilities_it_abstains() -> None:
    assert logprob.check((), LogprobSpec(mean_min=-1)).verdict is Verdict.ABSTAIN


def test_without_a_final_answer_its_span_proves_nothing() -> None:
    tokens = (("Well", -0.1), (" then", -0.1))
    assert logprob.check(tokens, LogprobSpec(span_mean_min=-1)).verdict is Verdict.ABSTAIN
    assert logprob.check(tokens, LogprobSpec(mean_min=-0.05, span_mean_min=-1)).verdict is Verdict.FAIL


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf"), -1e308])
def test_strange_numbers_stay_within_bounds(value: float) -> None:
    verdict = logprob.check((("x", value),), LogprobSpec(mean_min=-1))
    assert verdict.score is not None
    assert 0 <= verdict.score <= 1
