"""Business hours: whether a schedule is open at a time, by the clock on its wall.

The wall clock decides, so that daylight saving needs no rule of its own: an opening from 02:00 to 03:00
does not happen in the night that skips that hour, and lasts two hours in the night that repeats it.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from sipd.routing.model import Schedule

MAX_ZONES = 1024
"""Time zones that are remembered; there are about 600."""
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LAST_MINUTE = 24 * 60
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}", re.ASCII)
MAX_ZONE = 64
"""Characters of a zone's name."""


@lru_cache(maxsize=MAX_ZONES)
def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this IANA name; None if this machine knows none. Zones are files, so they are remembered."""
    if len(name) > MAX_ZONE or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a folder of zones, or no such file
        return None


def minute_of(text: str) -> int:
    """Minutes after midnight of `HH:MM`, up to `24:00`. Raises ValueError."""
    if text == "24:00":
        return LAST_MINUTE
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * 60 + int(found[2])


def date_of(text: str) -> date:
    """The date of `YYYY-MM-DD`. Raises ValueError."""
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


class Hours:
    """One schedule, compiled."""

    __slots__ = ("_days", "_holidays", "schedule", "zone")

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.zone = zone_of(schedule.time_zone)
        self._holidays = frozenset(date_of(text) for text in schedule.holidays)
        days: list[list[tuple[int, int]]] = [[] for _ in DAYS]
        for opening in schedule.openings:
            days[opening.day].append((minute_of(opening.opens), minute_of(opening.closes)))
        self._days = tuple(map(tuple, days))

    def local(self, at: float) -> datetime | None:
        """The wall clock at epoch second `at`; None where there is none."""
        try:
            return datetime.fromtimestamp(at, self.zone) if self.zone is not None else None
        except (ValueError, OverflowError, OSError):  # beyond the years 1 to 9999
            return None

    def open(self, at: float) -> bool:
        """Whether epoch second `at` is in business hours. Without a wall clock to go by, calls are let through:
        a node whose time zones are older than the table must not turn callers away."""
        local = self.local(at)
        if local is None:
            return True
        if local.date() in self._holidays:
            return False
        minute = local.hour * 60 + local.minute
        return any(opens <= minute < closes for opens, closes in self._days[local.weekday()])

    def told(self, at: float) -> str:
        """The wall clock in words."""
        local = self.local(at)
        if local is None:
            return f"a time that {self.schedule.time_zone} does not tell"
        holiday = ", a holiday" if local.date() in self._holidays else ""
        return f"{DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M} in {self.schedule.time_zone}{holiday}"
