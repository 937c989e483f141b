"""Parts of the week, in any time zone and over changes of the clock."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from spillway.settings import WeekTime
from spillway.settings.week import WEEK_MINUTES, holds_at, minute_of_week, minutes, zone

BERLIN = dt.timezone(dt.timedelta(hours=1))


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("part", "moment", "holds"),
    [
        ({}, "2026-03-04T00:00+00:00", True),
        ({"start": "09:00", "end": "17:00"}, "2026-03-04T09:00+00:00", True),
        ({"start": "09:00", "end": "17:00"}, "2026-03-04T08:59+00:00", False),
        ({"start": "09:00", "end": "17:00"}, "2026-03-04T17:00+00:00", False),
        ({"days": ["wed"]}, "2026-03-04T23:59+00:00", True),
        ({"days": ["wed"]}, "2026-03-05T00:00+00:00", False),
        ({"start": "22:00", "end": "06:00"}, "2026-03-04T23:00+00:00", True),
        ({"start": "22:00", "end": "06:00"}, "2026-03-04T05:59+00:00", True),
        ({"start": "22:00", "end": "06:00"}, "2026-03-04T06:00+00:00", False),
        ({"days": ["fri"], "start": "22:00", "end": "06:00"}, "2026-03-07T05:00+00:00", True),
        ({"days": ["fri"], "start": "22:00", "end": "06:00"}, "2026-03-06T05:00+00:00", False),
        ({"days": ["sun"], "start": "22:00", "end": "06:00"}, "2026-03-09T05:00+00:00", True),
        ({"start": "09:00", "end": "09:00"}, "2026-03-04T09:00+00:00", False),
        ({"start": "00:00", "end": "24:00"}, "2026-03-04T23:59+00:00", True),
    ],
)
def test_a_part_of_the_week_holds_at_its_minutes(part: dict[str, Any], moment: str, holds: bool) -> None:
    week_time = WeekTime.model_validate(part)
    assert holds_at(week_time, minute_of_week(at(moment), dt.UTC)) is holds
    assert frozenset(filter(lambda minute: holds_at(week_time, minute), range(WEEK_MINUTES))) == minutes(week_time)


def test_the_wall_clock_of_the_zone_counts() -> None:
    assert minute_of_week(at("2026-03-01T23:30+00:00"), BERLIN) == 30
    assert minute_of_week(at("2026-03-01T23:30+00:00"), zone("UTC")) == WEEK_MINUTES - 30


def test_hours_stay_when_the_clocks_change() -> None:
    try:
        berlin = zone("Europe/Berlin")
    except ValueError:
        pytest.skip("no time zone database")
    office = minutes(WeekTime(start="09:00", end="17:00"))
    for moment, holds in (("2026-01-05T08:30", True), ("2026-07-06T08:30", True), ("2026-07-06T07:30", True)):
        assert (minute_of_week(at(f"{moment}+00:00"), berlin) in office) is holds
    assert minute_of_week(at("2026-01-05T07:30+00:00"), berlin) not in office


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "\x00"])
def test_a_zone_that_the_machine_does_not_know_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        zone(name)
