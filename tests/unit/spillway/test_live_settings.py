"""What a running process takes over from a changed file: the table, the rule, and the page that tells of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from spillway.configuration.live_settings import EVERYONE, NEEDS_RESTART, change, differences, needs_restart
from spillway.settings import Settings
from tests.support.smallest import SMALLEST

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({**SMALLEST, **sections})


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting that stands in the file under a name of its own; what is in lists and mappings is one setting."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        sections = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if sections and field.annotation is sections[0]:
            yield from leaves(sections[0], f"{path}.")
        else:
            yield path


LEAVES = tuple(leaves(Settings))


def test_every_entry_of_the_table_is_in_the_schema_and_names_processes_that_there_are() -> None:
    for path, services in NEEDS_RESTART.items():
        assert any(leaf == path or leaf.startswith(f"{path}.") for leaf in LEAVES), path
        assert services, path
        assert set(services) <= set(EVERYONE), path


def told(page: str) -> dict[str, str]:
    """The rows of the page's table: what it says of each path."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| (live|restart: [^|]+) \|", page, flags=re.MULTILINE)
    return {path: said.strip() for path, said in rows}


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_page_says_of_every_setting_what_a_running_process_does_with_it(leaf: str) -> None:
    rows = told(PAGE.read_text(encoding="utf-8"))
    names = [".".join(leaf.split(".")[:length]) for length in range(leaf.count(".") + 1, 0, -1)]
    said = next((rows[name] for name in names if name in rows), None)
    services = needs_restart(leaf)
    assert said == (f"restart: {', '.join(services)}" if services else "live")


def test_the_page_tells_of_nothing_that_there_is_not() -> None:
    for path in told(PAGE.read_text(encoding="utf-8")):
        assert any(leaf == path or leaf.startswith(f"{path}.") for leaf in LEAVES), path


def test_what_needs_a_restart_stays_and_is_named_while_the_rest_is_taken_over() -> None:
    running = settings()
    wanted = settings(
        cache={"store": "file", "ttl_s": {"static": 60.0}},
        limits={"grace_s": 1.0, "drain_s": 0.0},
        policy={"escalations_max": 0},
    )
    made = change("cache", running, wanted)
    assert made.kept == ("cache.store", "limits.drain_s", "limits.grace_s")
    assert (made.settings.cache.store, made.settings.limits) == ("memory", running.limits)
    assert (made.settings.cache.ttl_s.static, made.settings.policy.escalations_max) == (60.0, 0)


def test_what_only_another_process_reads_needs_no_restart_of_this_one() -> None:
    wanted = settings(cache={"store": "file"}, services={"cache": {"listen": "127.0.0.1:1", "target": "x:1"}})
    assert change("executor", settings(), wanted).kept == ()
    assert change("orchestrator", settings(), wanted).kept == ("services.cache.target",)


def test_a_section_that_comes_or_goes_counts_as_a_whole() -> None:
    endpoint = {"base_url": "http://e/v1", "model": "m", "dimensions": 3}
    assert change("classifier", settings(), settings(classifier={"embedding_endpoint": endpoint})).kept == (
        "classifier.embedding_endpoint",
    )


def test_differences_never_hold_values() -> None:
    wanted = settings(orchestrator={"redis_url": "redis://:secret@host/0"})
    assert list(differences(settings(), wanted)) == ["orchestrator.redis_url"]


@pytest.mark.parametrize("service", EVERYONE)
def test_a_file_that_says_the_same_keeps_nothing(service: str) -> None:
    made = change(service, settings(), settings())
    assert (made.settings, made.kept) == (settings(), ())
