"""Checks of a tenant's business hours, and of what refers to them."""

from __future__ import annotations

from typing import Protocol

from sipd.routing.checks_scope import Problems, Scope, TextChecks, check_ids, check_list, check_texts
from sipd.routing.checks_text import control_fault, id_fault, name_fault
from sipd.routing.hours import DAYS, date_of, minute_of, zone_of
from sipd.routing.model import MAX_HOLIDAYS, MAX_OPENINGS, Opening, Schedule
from sipd.routing.problem import Spot, show


class Scheduled(Protocol):
    """What may have business hours: a user, a group, a number."""

    @property
    def schedule(self) -> str: ...

    @property
    def forward_closed(self) -> str: ...


def zone_fault(text: str) -> str:
    """The IANA name of a time zone."""
    if zone_of(text) is not None:
        return ""
    return control_fault(text) or (
        f"{show(text)} is no time zone that is known here; write an IANA name, such as Europe/Berlin or UTC."
    )


def time_fault(text: str) -> str:
    """A time of day."""
    try:
        minute_of(text)
    except ValueError:
        return control_fault(text) or f"{show(text)} is no time of day; write it like 08:30, from 00:00 to 24:00."
    return ""


def date_fault(text: str) -> str:
    """A date."""
    try:
        date_of(text)
    except ValueError:
        return control_fault(text) or f"{show(text)} is no date of the calendar; write it like 2026-12-25."
    return ""


SCHEDULE_TEXTS: TextChecks = (("id", id_fault), ("name", name_fault), ("time_zone", zone_fault))


def check_schedules(scope: Scope) -> Problems:
    yield from check_ids(scope, "schedules", scope.tenant.schedules, "id")
    for index, schedule in enumerate(scope.tenant.schedules):
        spot = scope.spot.of_item("schedules", schedule.id, index, schedule.id)
        yield from check_texts(spot, schedule, SCHEDULE_TEXTS)
        yield from _check_openings(spot, schedule)
        yield from _check_holidays(spot, schedule)


def _check_openings(spot: Spot, schedule: Schedule) -> Problems:
    count = len(schedule.openings)
    if count > MAX_OPENINGS:
        yield spot.at("openings").error(f"There are {count} openings; the limit is {MAX_OPENINGS}. Join neighbours.")
    if not count:
        yield spot.at("openings").warning("There are no openings, so this schedule is closed always. Add some.")
    good: list[tuple[int, int, int, int]] = []
    for index, opening in enumerate(schedule.openings):
        problems = list(_opening_problems(spot.entry("openings", None, index), opening))
        yield from problems
        if not problems:
            good.append((opening.day, minute_of(opening.opens), minute_of(opening.closes), index))
    yield from _check_overlaps(spot, schedule, sorted(good))


def _opening_problems(spot: Spot, opening: Opening) -> Problems:
    if not 0 <= opening.day < len(DAYS):
        yield spot.at("day").error(f"{show(opening.day)} is no day of the week; 0 is Monday, 6 is Sunday.")
    faults = [(name, time_fault(getattr(opening, name))) for name in ("opens", "closes")]
    for name, fault in faults:
        if fault:
            yield spot.at(name).error(fault)
    if not any(fault for _, fault in faults) and minute_of(opening.opens) >= minute_of(opening.closes):
        yield spot.at("closes").error(
            f"{show(opening.closes)} is not later than {show(opening.opens)}, when it opens. Hours past midnight take "
            "two openings: one up to 24:00, and one from 00:00 on the next day."
        )


def _check_overlaps(spot: Spot, schedule: Schedule, good: list[tuple[int, int, int, int]]) -> Problems:
    """`good` holds day, opening and closing minute, and place, in order of time."""
    day, until, before = -1, 0, 0
    for weekday, opens, closes, index in good:
        if weekday == day and opens < until:
            other = schedule.openings[before]
            yield (
                spot.entry("openings", None, index)
                .at("opens")
                .warning(
                    f"This opening overlaps the one on {DAYS[day]} from {other.opens} to {other.closes}. Make them one."
                )
            )
        if weekday != day or closes > until:
            day, until, before = weekday, closes, index


def _check_holidays(spot: Spot, schedule: Schedule) -> Problems:
    count = len(schedule.holidays)
    if count > MAX_HOLIDAYS:
        yield spot.at("holidays").error(
            f"There are {count} holidays; the limit is {MAX_HOLIDAYS}. Remove those that are past."
        )
    yield from check_list(spot, "holidays", schedule.holidays, date_fault)


def check_schedule_of(spot: Spot, item: Scheduled, scope: Scope) -> Problems:
    """The schedule that a user, group or number names."""
    if item.schedule and item.schedule not in scope.schedules:
        yield spot.at("schedule").error(
            f"{show(item.schedule)} is no schedule of this tenant; choose one that is, or remove this."
        )
    if item.forward_closed and not item.schedule:
        yield spot.at("forward_closed").warning(
            f"Calls never go to {show(item.forward_closed)}, as there is no schedule here and so it is always open. "
            "Set a schedule, or remove this."
        )
