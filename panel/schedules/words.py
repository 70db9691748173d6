"""What business hours say to a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from sipd.routing.hours import DAYS, Hours, date_of, minute_of
from sipd.routing.model import MAX_HOLIDAYS, Opening, Schedule

WEEK = len(DAYS)
MAX_DAYS_AHEAD = MAX_HOLIDAYS + WEEK
"""So far ahead an opening is looked for: as many holidays as there can be, and a week."""
MIDNIGHT = "24:00"


def standing(schedule: Schedule, at: float) -> tuple[bool, str]:
    """Whether it is open at epoch second `at`, and a sentence such as `Closed now, opens Monday at 09:00`."""
    hours = Hours(schedule)
    local = hours.local(at)
    if local is None:
        return True, f"Open always: nothing here tells the time of {schedule.time_zone}"
    if hours.open(at):
        return True, f"Open now, until {_until(schedule, local)}"
    return False, _closed(schedule, local)


def week(openings: Iterable[Opening]) -> str:
    """`Monday to Friday 09:00-17:00; Saturday 10:00-12:00`, or `never open`."""
    days: list[list[str]] = [[] for _ in DAYS]
    for opening in sorted(openings, key=lambda each: (each.day, each.opens)):
        days[opening.day].append(f"{opening.opens}-{opening.closes}")
    found: list[str] = []
    day = 0
    while day < WEEK:
        last = day
        while last + 1 < WEEK and days[last + 1] == days[day]:
            last += 1
        if days[day]:
            name = DAYS[day] if last == day else f"{DAYS[day]} to {DAYS[last]}"
            found.append(f"{name} {', '.join(days[day])}")
        day = last + 1
    return "; ".join(found) or "never open"


def _until(schedule: Schedule, local: datetime) -> str:
    """The end of the stretch that is open now; those that meet are one."""
    minute = local.hour * 60 + local.minute
    end, text = minute, ""
    for opening in sorted(schedule.openings, key=lambda each: each.opens):
        if opening.day == local.weekday() and minute_of(opening.opens) <= end < minute_of(opening.closes):
            end, text = minute_of(opening.closes), opening.closes
    return "midnight" if text == MIDNIGHT else text


def _closed(schedule: Schedule, local: datetime) -> str:
    today = local.date()
    holidays = {date_of(text) for text in schedule.holidays}
    why = "Closed now, for a holiday" if today in holidays else "Closed now"
    if not schedule.openings:
        return "Closed always: there are no opening hours yet"
    for ahead in range(MAX_DAYS_AHEAD + 1):
        day = today + timedelta(days=ahead)
        opens = [] if day in holidays else _opening_times(schedule, day, f"{local:%H:%M}" if not ahead else "")
        if opens:
            return f"{why}, opens {_day(day, ahead)} at {opens[0]}"
    return why


def _opening_times(schedule: Schedule, day: date, after: str) -> list[str]:
    return sorted(each.opens for each in schedule.openings if each.day == day.weekday() and each.opens > after)


def _day(day: date, ahead: int) -> str:
    if ahead < 2:
        return ("today", "tomorrow")[ahead]
    return DAYS[day.weekday()] if ahead < WEEK else f"on {DAYS[day.weekday()]}, {day:%Y-%m-%d}"
