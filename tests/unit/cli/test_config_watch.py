"""What is said of a configuration file that changes under a running suite, and by `spillway status`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from services.runtime.health import places_text
from spillway.cli.config_watch import ASKS_MAX, follow_configuration, news
from spillway.cli.health import ServiceHealth, services_view
from spillway.configuration.document import Problem

PROBLEMS = (Problem(3, "tiers[0].name", "is given twice"), Problem(9, "flagship", "no target is called nobody"))
GOOD = tuple(ServiceHealth(name, f"{name}:1", serving=True, config_version="aaa") for name in ("cache", "executor"))
REFUSED = tuple(replace(one, config_refused=places_text(PROBLEMS)) for one in GOOD)
TAKEN = tuple(replace(one, config_version="bbb") for one in GOOD)


def said(lines: Sequence[Text]) -> list[str]:
    return [line.plain for line in lines]


def test_a_refusal_of_all_is_said_once_in_the_words_of_config_check() -> None:
    assert said(news(GOOD, REFUSED, PROBLEMS)) == [
        "cache, executor: the file is refused, the version in force stays",
        "  line 3: tiers[0].name: is given twice",
        "  line 9: flagship: no target is called nobody",
    ]
    assert news(REFUSED, REFUSED, PROBLEMS) == []


def test_a_file_that_is_wrong_elsewhere_lends_no_words() -> None:
    other = (Problem(1, "version", "is missing"),)
    assert said(news(GOOD, REFUSED, other))[1:] == ["  line 3: tiers[0].name", "  line 9: flagship"]


def test_what_is_taken_over_and_what_waits_for_a_restart_is_said() -> None:
    waits = (replace(TAKEN[0], needs_restart=("jobs.queued_max",)), TAKEN[1])
    assert said(news(GOOD, waits)) == [
        "the configuration is taken over: version bbb",
        "cache: needs a restart for jobs.queued_max",
    ]
    assert said(news(REFUSED, GOOD)) == ["the configuration is good again: version aaa"]
    assert news(GOOD, GOOD) == []


def test_status_says_a_refusal_once_for_all_who_refuse() -> None:
    console = Console(file=(out := io.StringIO()), width=200)
    console.print(services_view(REFUSED, PROBLEMS))
    assert out.getvalue().count("is refused") == out.getvalue().count("is given twice") == 1


class Suite:
    """Processes that are as the list says, one look after the other; the file changes at the looks that are named."""

    def __init__(self, file: Path, states: Sequence[Sequence[ServiceHealth]], changes: Sequence[int]) -> None:
        self.file, self.states, self.changes = file, list(states), changes
        self.looks = self.asked = 0
        self.lines: list[str] = []
        self.file.write_text("0")

    async def ask(self) -> Sequence[ServiceHealth]:
        self.asked += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def sleep(self, _: float) -> None:
        self.looks += 1
        if self.looks in self.changes:
            self.file.write_text(str(self.looks))
        if self.looks > 40:
            raise asyncio.CancelledError

    async def run(self) -> list[str]:
        with pytest.raises(asyncio.CancelledError):
            await follow_configuration(
                self.file, self.ask, lambda: PROBLEMS, lambda line: self.lines.append(line.plain), self.sleep
            )
        return self.lines


async def test_while_the_file_stays_as_it_is_nobody_is_asked(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "spillway.yaml", [GOOD], changes=())
    assert await suite.run() == []
    assert suite.asked == 1


async def test_a_change_is_said_when_all_have_come_to_the_same_end(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "spillway.yaml", [GOOD, GOOD, (TAKEN[0], GOOD[1]), TAKEN], changes=(5,))
    assert await suite.run() == ["the configuration is taken over: version bbb"]
    assert suite.asked == 4


async def test_where_they_do_not_agree_it_is_said_in_the_end_what_each_did(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "spillway.yaml", [GOOD, (TAKEN[0], GOOD[1])], changes=(5,))
    assert await suite.run() == ["the configuration is taken over: version aaa and bbb"]
    assert suite.asked == 1 + ASKS_MAX


async def test_a_file_that_was_changed_and_is_still_wrong_in_its_places_is_said_to_be(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "spillway.yaml", [GOOD, REFUSED], changes=(2, 8))
    lines = await suite.run()
    assert len(lines) == 2 * 3
    assert lines[:3] == lines[3:]
