"""Business hours against a naive oracle: the wall clock, minute by minute, as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd.routing.hours import Hours, zone_of
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Opening, Schedule
from tests import strategies
from tests.unit.routing.cast import ACME, schedule

START = datetime(2026, 1, 1, tzinfo=UTC)


def epoch(local: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def naive(given_: Schedule, at: float) -> bool:
    """As by hand, on text: `HH:MM` sorts like the time of day."""
    local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(given_.time_zone))
    clock = local.strftime("%H:%M")
    today = [each for each in given_.openings if each.day == local.weekday()]
    return local.strftime("%Y-%m-%d") not in given_.holidays and any(e.opens <= clock < e.closes for e in today)


@given(strategies.schedules(0, 0), st.integers(0, 2 * 365 * 24 * 3600))
def test_open_is_as_by_hand(given_: Schedule, second: int) -> None:
    at = START.timestamp() + second
    assert Hours(given_).open(at) == naive(given_, at)


@given(
    strategies.schedules(0, 0), st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05"])
)
def test_open_is_as_by_hand_on_the_days_when_clocks_change(given_: Schedule, day: str) -> None:
    first = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=14)
    hours = Hours(given_)
    for quarter in range(52 * 4):
        at = first.timestamp() + quarter * 900
        assert hours.open(at) == naive(given_, at)


@pytest.mark.parametrize(
    ("local", "open_"),
    [
        ("2026-11-23T08:00", True),
        ("2026-11-23T07:59:59", False),
        ("2026-11-23T11:59:59.9", True),
        ("2026-11-23T12:00", False),
        ("2026-11-23T13:00", True),
        ("2026-11-24T09:00", False),  # a Tuesday
        ("2026-12-21T09:00", False),  # the day off
        ("2026-07-06T08:00", True),  # two hours from UTC then
        ("2026-07-06T07:59", False),
    ],
)
def test_office_hours(local: str, open_: bool) -> None:
    index = TenantIndex(replace(ACME, schedules=(schedule(),)))
    assert index.open("hours", epoch(local)) is open_


def test_the_hour_that_is_skipped_does_not_happen() -> None:
    hours = Hours(schedule(openings=(Opening(6, "02:00", "03:00"),)))
    start = epoch("2026-03-29T00:00")
    assert not any(hours.open(start + minute * 60) for minute in range(24 * 60))


def test_the_hour_that_is_repeated_is_open_twice() -> None:
    hours = Hours(schedule(openings=(Opening(6, "02:00", "03:00"),)))
    start = epoch("2026-10-25T00:00")
    assert sum(hours.open(start + minute * 60) for minute in range(25 * 60)) == 120


def test_a_day_is_open_to_its_end() -> None:
    hours = Hours(schedule(openings=(Opening(0, "00:00", "24:00"),), holidays=()))
    start = epoch("2026-11-23T00:00")
    assert [hours.open(start + second) for second in (-1, 0, 86_399, 86_400)] == [False, True, True, False]


def test_a_schedule_that_is_not_there_is_open() -> None:
    index = TenantIndex(ACME)
    assert index.open("", 0.0)
    assert index.open("gone", 0.0)


def test_without_a_clock_to_go_by_calls_are_let_through() -> None:
    assert Hours(schedule(time_zone="Europe/Atlantis")).open(epoch("2026-11-24T00:00"))
    assert Hours(schedule()).open(1e20)
    assert Hours(schedule()).open(float("nan"))


@pytest.mark.parametrize(
    "name", ["", ".", "../UTC", "/etc/passwd", "Europe", "UTC\x00", "é", "a" * 65, "Europe//Berlin"]
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert zone_of(name) is None


def test_zones_are_loaded_once() -> None:
    assert zone_of("Europe/Berlin") is zone_of("Europe/Berlin")
