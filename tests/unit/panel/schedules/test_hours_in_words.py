"""Business hours as people write them, and as a page says how they stand."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from panel.schedules.forms import hours
from panel.schedules.words import standing, week
from sipd.routing.model import Opening, Schedule

pytestmark = pytest.mark.unit

ZONE = "Europe/Berlin"
OFFICE = Schedule(
    id="s",
    name="Office",
    time_zone=ZONE,
    openings=(
        *(Opening(day, "09:00", "12:30") for day in range(5)),
        *(Opening(day, "13:30", "17:00") for day in range(5)),
        Opening(5, "10:00", "12:00"),
        Opening(5, "12:00", "24:00"),
    ),
    holidays=("2026-12-25",),
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp()


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("2026-11-23 09:00", (True, "Open now, until 12:30")),
        ("2026-11-23 12:30", (False, "Closed now, opens today at 13:30")),
        ("2026-11-23 18:00", (False, "Closed now, opens tomorrow at 09:00")),
        ("2026-11-28 11:00", (True, "Open now, until midnight")),
        ("2026-11-29 11:00", (False, "Closed now, opens tomorrow at 09:00")),
        ("2026-12-24 20:00", (False, "Closed now, opens Saturday at 10:00")),
        ("2026-12-25 10:00", (False, "Closed now, for a holiday, opens tomorrow at 10:00")),
    ],
)
def test_how_it_stands(when: str, told: tuple[bool, str]) -> None:
    assert standing(OFFICE, at(when)) == told


def test_a_week_ahead_has_its_date() -> None:
    holidays = tuple(f"2026-11-{day}" for day in range(23, 31))
    monday = Schedule("s", "Rare", ZONE, (Opening(0, "09:00", "10:00"),), holidays)
    assert standing(monday, at("2026-11-23 08:00"))[1].endswith("opens on Monday, 2026-12-07 at 09:00")


def test_never_open() -> None:
    assert standing(Schedule("s", "None", ZONE), 0.0) == (False, "Closed always: there are no opening hours yet")


def test_days_that_are_alike_are_told_together() -> None:
    assert week(OFFICE.openings) == ("Monday to Friday 09:00-12:30, 13:30-17:00; Saturday 10:00-12:00, 12:00-24:00")
    assert week(()) == "never open"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", []),
        ("09:00-17:00", ["09:00-17:00"]),
        ("9-12:30, 13.30 – 17", ["09:00-12:30", "13:30-17:00"]),
        ("8:00-12:00 and 13:00-24:00", ["08:00-12:00", "13:00-24:00"]),
    ],
)
def test_hours_as_people_write_them(written: str, read: list[str]) -> None:
    assert hours(written) == read


@pytest.mark.parametrize(
    "written", ["morning", "9", "17:00-09:00", "9-9", "25-26", "09:00-24:30", "-", "9-17-18", "١-٢"]
)
def test_what_are_no_hours(written: str) -> None:
    with pytest.raises(ValueError, match=r"\."):
        hours(written)
