"""What the pages on business hours take. What a time, a date and a zone may be is the routing's to say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.models import Schedule
from sipd.routing.checks_schedule import date_fault, time_fault, zone_fault
from sipd.routing.checks_text import control_fault, name_fault
from sipd.routing.hours import DAYS, MAX_ZONE
from sipd.routing.model import MAX_HOLIDAYS, MAX_NAME

MAX_DAY_TEXT = 200
MAX_HOLIDAYS_TEXT = MAX_HOLIDAYS * 16
DAY_FIELDS = tuple(day.lower() for day in DAYS)
"""One field for each day, Monday first."""
DASHES = str.maketrans({"–": "-", "—": "-", "−": "-"})


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def checked_name(text: str) -> str:
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


def checked_zone(text: str) -> str:
    if fault := zone_fault(text):
        raise ValueError(fault)
    return text


def hours(text: str) -> list[str]:
    """`9-12:30, 13.30 - 17`, as people write it, becomes `09:00-12:30` and `13:30-17:00`. Raises ValueError."""
    parts = (part.strip() for part in re.split("[,;]|\\band\\b", checked(text).translate(DASHES)))
    return [_stretch(part) for part in parts if part]


def _stretch(part: str) -> str:
    opens, dash, closes = (each.strip() for each in part.partition("-"))
    if not dash:
        raise ValueError(f"“{part}” has no end; write it like 09:00-17:00, with commas between several.")
    times = [_time(each) for each in (opens, closes)]
    for time in times:
        if fault := time_fault(time):
            raise ValueError(fault)
    if times[0] >= times[1]:
        raise ValueError(
            f"{times[1]} is not later than {times[0]}. Hours past midnight go up to 24:00, and on from 00:00 on the "
            "next day."
        )
    return "-".join(times)


def _time(text: str) -> str:
    """`9`, `9:30` and `09.30` as `09:00` and `09:30`."""
    hour, _, minute = text.replace(".", ":").partition(":")
    return f"{hour:0>2}:{minute or '00'}" if hour else text


def checked_hours(text: str) -> str:
    return ", ".join(hours(text))


def checked_dates(text: str) -> str:
    checked(" ".join(text.split()))
    found = dates(text)
    if len(found) > MAX_HOLIDAYS:
        raise ValueError(f"There are {len(found)} dates; the limit is {MAX_HOLIDAYS}. Remove those that are past.")
    for date in found:
        if fault := date_fault(date):
            raise ValueError(fault)
    return text


def dates(text: str) -> list[str]:
    return sorted(set(text.replace(",", " ").split()))


Hours = Annotated[str, Field(max_length=MAX_DAY_TEXT), AfterValidator(checked_hours)]


class ScheduleInput(Input):
    """Business hours as the form gives them; a day without hours is closed."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(checked_name)]
    time_zone: Annotated[str, Field(min_length=1, max_length=MAX_ZONE), AfterValidator(checked_zone)]
    monday: Hours = ""
    tuesday: Hours = ""
    wednesday: Hours = ""
    thursday: Hours = ""
    friday: Hours = ""
    saturday: Hours = ""
    sunday: Hours = ""
    holidays: Annotated[str, Field(max_length=MAX_HOLIDAYS_TEXT), AfterValidator(checked_dates)] = ""

    @property
    def row(self) -> dict[str, Any]:
        """The values as the row takes them."""
        openings = [
            f"{day} {stretch}" for day, name in enumerate(DAY_FIELDS) for stretch in sorted(hours(getattr(self, name)))
        ]
        return {
            "name": self.name,
            "time_zone": self.time_zone,
            "openings": openings,
            "holidays": dates(self.holidays),
        }


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""


def values_of(schedule: Schedule) -> dict[str, Any]:
    """Saved business hours as the form shows them."""
    days = {name: ", ".join(stretches_of(schedule.openings, day)) for day, name in enumerate(DAY_FIELDS)}
    return {
        "name": schedule.name,
        "time_zone": schedule.time_zone,
        "holidays": "\n".join(schedule.holidays),
        **days,
    }


def stretches_of(openings: Iterable[str], day: int) -> list[str]:
    """The hours of one day, `09:00-12:30`."""
    return [hours for number, _, hours in (each.partition(" ") for each in sorted(openings)) if number == str(day)]
