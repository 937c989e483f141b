"""What the configuration says beyond its fields."""

from __future__ import annotations

import pytest

from spillway.routing import Complexity
from tests.unit.orchestrator.ladder import settings_of, tier


@pytest.mark.parametrize(
    ("names", "start_tier", "tiers"),
    [
        (["only"], {}, [0, 0, 0]),
        (["cheap", "dear"], {}, [0, 0, 1]),
        (["a", "b", "c", "d"], {}, [0, 1, 3]),
        (["tiny", "simple", "complex"], {}, [1, 1, 2]),
        (["a", "b", "c"], {"simple": "b", "complex": "a"}, [1, 1, 0]),
        (["simple", "medium", "complex"], {"medium": "simple"}, [0, 0, 2]),
    ],
)
def test_a_complexity_has_the_configured_tier_or_that_of_its_name_or_the_nearest(
    names: list[str], start_tier: dict[str, str], tiers: list[int]
) -> None:
    settings = settings_of(*(tier(name) for name in names), policy={"start_tier": start_tier})
    assert [settings.tier_of_complexity(complexity) for complexity in Complexity] == tiers


def test_a_complexity_that_is_to_start_at_an_unknown_tier_is_an_error() -> None:
    settings = settings_of(policy={"start_tier": {"simple": "galactic"}})
    with pytest.raises(ValueError, match=r"policy\.start_tier\.simple: there is no tier 'galactic'"):
        settings.tier_of_complexity(Complexity.SIMPLE)
