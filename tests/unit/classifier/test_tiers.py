"""P(tier suffices) names every tier, never falls, and ends at 1."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.classifier.tiers import DEFAULT_TIERS, Tiers
from services.runtime.config import load
from spillway.routing import Complexity

ROW = np.asarray([[0.5, 0.3, 0.2]])


def test_a_tier_suffices_when_the_complexity_starts_there_or_below() -> None:
    assert DEFAULT_TIERS.by_complexity(ROW)[0].tolist() == [0.5, 0.8, 1.0]
    # Two tiers, where medium starts at the cheap one.
    assert Tiers(("a", "b"), (0, 0, 1)).by_complexity(ROW)[0].tolist() == [0.8, 1.0]
    # Nothing starts below b: what is cheaper is trusted with nothing.
    assert Tiers(("a", "b", "c"), (1, 1, 2)).by_complexity(ROW)[0].tolist() == [0.0, 0.8, 1.0]
    assert Tiers(("only",), (0, 0, 0)).by_complexity(ROW)[0].tolist() == [1.0]


def test_the_tiers_are_those_of_the_configuration_with_the_policys_rule() -> None:
    settings = load(None).settings
    found = Tiers.of(settings)
    assert found.names == tuple(tier.name for tier in settings.tiers)
    assert found.starts == tuple(settings.tier_of_complexity(complexity) for complexity in Complexity)


def test_a_tier_that_a_head_does_not_know_is_trusted_no_more_than_the_next_cheaper_one() -> None:
    ladder = Tiers(("nano", "simple", "medium", "complex"), (0, 2, 3))
    said = np.asarray([[0.6, 1.0]])
    assert ladder.by_tier(("simple", "complex"), said)[0].tolist() == [0.0, 0.6, 0.6, 1.0]
    assert ladder.learned(("simple", "complex")) == ("simple",)
    assert ladder.learned(("complex", "other")) == ()


@given(
    probabilities=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda each: sum(each) > 0.1),
    starts=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    known=st.lists(st.sampled_from("abcdexyz"), min_size=1, max_size=6, unique=True),
)
def test_sufficiency_never_falls_and_the_dearest_always_suffices(
    probabilities: list[float], starts: tuple[int, int, int], known: list[str]
) -> None:
    ladder = Tiers(("a", "b", "c", "d", "e"), starts)
    row = np.asarray([probabilities]) / sum(probabilities)
    said = np.random.default_rng(len(known)).random((1, len(known)))
    for found in (ladder.by_complexity(row)[0], ladder.by_tier(known, said)[0]):
        assert found[-1] == 1.0
        assert (np.diff(found) >= 0.0).all()
        assert ((found >= 0.0) & (found <= 1.0)).all()
