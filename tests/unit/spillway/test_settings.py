"""What the configuration says beyond its fields."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from spillway.routing import Complexity
from spillway.settings import Settings
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


def sections(kind: Any, known: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Every part of the file that can stand below `kind`, itself included; rules hold rules."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in known:
        known.add(kind)
        for field in kind.model_fields.values():
            sections(field.annotation, known)
    for argument in get_args(kind):
        sections(argument, known)
    return known


NAMES_OF_VARIABLES = sorted(
    {
        (section, name)
        for section in sections(Settings, set())
        for name in section.model_fields
        if name.endswith("_env")
    },
    key=lambda found: (found[0].__name__, found[1]),
)


def test_there_are_fields_that_name_variables() -> None:
    assert {"api_key_env", "webhook_secret_env", "redis_password_env"} <= {name for _, name in NAMES_OF_VARIABLES}


@pytest.mark.parametrize("secret", ["sk-abcdef123", "p4ss word", "a/b+c=", "1abc", "KEY\n", "K" * 129])
@pytest.mark.parametrize(("section", "name"), NAMES_OF_VARIABLES)
def test_a_secret_where_its_variables_name_belongs_is_an_error_that_does_not_repeat_it(
    section: type[BaseModel], name: str, secret: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: secret})
    (found,) = [wrong for wrong in caught.value.errors(include_input=False) if wrong["loc"] == (name,)]
    assert "the name of an environment variable" in found["msg"]
    assert secret not in str(found)


@pytest.mark.parametrize(("section", "name"), NAMES_OF_VARIABLES)
def test_a_name_of_a_variable_and_none_are_fine(section: type[BaseModel], name: str) -> None:
    for variable in ("OPENAI_API_KEY", "_x", ""):
        with pytest.raises(ValidationError) as caught:
            section.model_validate({name: variable, "": "an unknown key, so that every section fails"})
        assert (name,) not in [wrong["loc"] for wrong in caught.value.errors()]
