"""The interval of a ratio of two paired means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from random import Random

import pytest

from services.ledger.quality import GradeSums, ratio_lower, t_quantile


def sums(pairs: Sequence[tuple[float, float]]) -> GradeSums:
    return GradeSums(
        len(pairs),
        math.fsum(score for score, _ in pairs),
        math.fsum(flagship for _, flagship in pairs),
        math.fsum(score**2 for score, _ in pairs),
        math.fsum(flagship**2 for _, flagship in pairs),
        math.fsum(score * flagship for score, flagship in pairs),
    )


# Tables of Student's distribution, e.g. Abramowitz and Stegun, table 26.10.
@pytest.mark.parametrize(("degrees", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (120, 1.980)])
def test_the_quantiles_of_t_are_those_of_the_tables(degrees: int, t: float) -> None:
    assert t_quantile(degrees) == pytest.approx(t, rel=2e-3)


def test_with_fewer_than_two_grades_nothing_is_said() -> None:
    assert ratio_lower(sums([])) == 0.0
    assert ratio_lower(sums([(1.0, 1.0)])) == 0.0


@pytest.mark.parametrize(("grades", "proven"), [(3, False), (10, False), (25, False), (40, True), (400, True)])
def test_a_few_equal_grades_do_not_prove_nine_tenths_of_the_flagship(grades: int, proven: bool) -> None:
    assert (ratio_lower(sums([(1.0, 1.0)] * grades)) >= 0.9) == proven


def test_a_flagship_without_any_merit_proves_nothing() -> None:
    assert ratio_lower(sums([(0.5, 0.0)] * 50)) < 1.0
    assert ratio_lower(sums([(0.0, 0.0)] * 50)) == 0.0


def test_it_is_never_below_0_nor_above_the_ratio_itself() -> None:
    random = Random(6)
    for _ in range(500):
        pairs = [(random.random(), random.random()) for _ in range(random.randrange(2, 30))]
        given = sums(pairs)
        assert 0.0 <= ratio_lower(given) <= given.mean / given.flagship_mean


def test_it_is_where_the_paired_t_test_begins_to_doubt_with_the_worst_pair_counted_in() -> None:
    random = Random(8)
    for _ in range(50):
        pairs = [(random.random(), 0.5 + random.random() / 2) for _ in range(random.randrange(8, 60))]
        lower = ratio_lower(sums(pairs))
        differences = [score - lower * flagship for score, flagship in [*pairs, (0.0, 1.0)]]
        t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(len(differences)))
        assert t == pytest.approx(t_quantile(len(pairs)), rel=1e-6)


def test_the_true_ratio_lies_below_it_in_no_more_than_the_stated_share_of_cases() -> None:
    random = Random(7)
    # Of 600 trials at a true rate of 2.5 %, 29 are exceeded once in a thousand times.
    for grades, right, flagship_right in ((12, 0.8, 0.9), (60, 0.85, 0.9), (300, 0.6, 0.7)):
        too_high = 0
        for _ in range(600):
            pairs = []
            for _ in range(grades):
                luck = 0.7 * random.random()  # hard questions are hard for both
                one, other = (luck + 0.3 * random.random() for _ in range(2))
                pairs.append((float(one < right), float(other < flagship_right)))
            too_high += ratio_lower(sums(pairs)) > _ratio(right, flagship_right)
        assert too_high <= 29, (grades, too_high)


def _ratio(right: float, flagship_right: float) -> float:
    """P(0.7 u + 0.3 v < x) for independent uniform u and v, of the two."""

    def share(x: float) -> float:
        # The area under 0.7 u + 0.3 v = x in the unit square.
        inside = x**2 / (2 * 0.7 * 0.3)
        for corner in (0.7, 0.3):
            inside -= max(0.0, x - corner) ** 2 / (2 * 0.7 * 0.3)
        return inside

    return share(right) / share(flagship_right)
