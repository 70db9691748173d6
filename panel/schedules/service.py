"""What a tenant does with its business hours. Saving changes no call yet: publishing does."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from sqlmodel import col

from panel import audit
from panel.errors import Invalid
from panel.models import Group, Guard, Number, Schedule, User
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import checks
from panel.publishing.snapshot import schedule_of
from panel.schedules import words
from panel.schedules.forms import DAY_FIELDS, Filter, ScheduleInput
from panel.scope import TenantScope
from sipd.routing.hours import zone_of
from sipd.routing.problem import Problem

MAX_SCHEDULES = 100
"""Of one tenant."""
OPENING_PATH = re.compile(r"\.openings\[(\d+)\]")
FALLBACK_ZONES = ("UTC",)


@dataclass(frozen=True, slots=True)
class Standing:
    """How business hours stand at this moment, and what they are."""

    open: bool
    sentence: str
    week: str


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[Schedule]:
    """One page of business hours, found by name."""
    statement = scope.select(Schedule)
    if wanted.q:
        statement = statement.where(col(Schedule.name).ilike(like(wanted.q[:MAX_SEARCH]), escape="\\"))
    return paged(scope.session, statement, number, (col(Schedule.name), col(Schedule.id)))


def every(scope: TenantScope) -> list[Schedule]:
    """All of them, by name: what users, groups and numbers choose from."""
    return scope.all(scope.select(Schedule).order_by(Schedule.name))


def standing(schedule: Schedule) -> Standing:
    made = schedule_of(schedule)
    return Standing(*words.standing(made, time.time()), words.week(made.openings))


@cache
def zones() -> tuple[str, ...]:
    """Names of time zones, for the form to propose."""
    found = tuple(sorted(name for name in available_timezones() if "/" in name and zone_of(name) is not None))
    return (*FALLBACK_ZONES, *found)


def usual_zone(scope: TenantScope) -> str:
    """The zone of the newest business hours; empty: the browser proposes its own."""
    newest = scope.first(scope.select(Schedule).order_by(col(Schedule.created_at).desc()))
    return newest.time_zone if newest else ""


def warnings(scope: TenantScope, schedule: Schedule) -> list[Problem]:
    """What publishing would say of them."""
    return checks.of_item(checks.problems_of(scope), "schedules", schedule.id)


def create(scope: TenantScope, data: ScheduleInput) -> Schedule:
    """Add business hours. Raises `Invalid`."""
    if scope.count(Schedule) >= MAX_SCHEDULES:
        raise Invalid(name=f"There are {MAX_SCHEDULES} already, and no more can be had. Remove one.")
    _require_free(scope, data.name, "")
    schedule = Schedule(tenant_id=scope.tenant_id, **data.row)
    scope.session.add(schedule)
    audit.record(scope.session, scope.actor, "schedule.created", schedule, after=_told(schedule))
    _require_good(scope, schedule)
    scope.session.commit()
    return schedule


def update(scope: TenantScope, schedule: Schedule, data: ScheduleInput) -> Schedule:
    """Change business hours. Raises `Invalid`."""
    _require_free(scope, data.name, schedule.id)
    before = _told(schedule)
    for name, value in data.row.items():
        setattr(schedule, name, value)
    audit.record(scope.session, scope.actor, "schedule.updated", schedule, before, _told(schedule))
    _require_good(scope, schedule)
    scope.session.commit()
    return schedule


def remove(scope: TenantScope, schedule: Schedule) -> None:
    """Remove business hours. Raises `Invalid` while somebody goes by them."""
    used = users_of(scope, schedule)
    if used:
        named = ", ".join(used[:3]) + (" and more" if len(used) > 3 else "")
        raise Invalid(remove=f"{schedule.name} cannot be removed: {named} still goes by it. Change that first.")
    audit.record(scope.session, scope.actor, "schedule.removed", schedule, before=_told(schedule))
    scope.session.delete(schedule)
    scope.session.commit()


def users_of(scope: TenantScope, schedule: Schedule) -> list[str]:
    """What goes by these hours: users and groups by extension, numbers, and guards."""
    users = scope.all(scope.select(User).where(User.schedule_id == schedule.id).order_by(User.extension))
    groups = scope.all(scope.select(Group).where(Group.schedule_id == schedule.id).order_by(Group.extension))
    numbers = scope.all(scope.select(Number).where(Number.schedule_id == schedule.id).order_by(Number.number))
    guards = scope.all(scope.select(Guard).where(Guard.schedule_id == schedule.id).order_by(Guard.prefix))
    return [
        *(f"user {user.extension}" for user in users),
        *(f"group {group.extension}" for group in groups),
        *(f"number {number.number}" for number in numbers),
        *(f"the guard for {guard.prefix}" for guard in guards),
    ]


def _require_free(scope: TenantScope, name: str, schedule_id: str) -> None:
    if scope.first(scope.select(Schedule).where(Schedule.name == name, Schedule.id != schedule_id)) is not None:
        raise Invalid(name=f"You have business hours named {name} already. Choose another name.")


def _require_good(scope: TenantScope, schedule: Schedule) -> None:
    """Errors of an opening get the name of the form's field for its day."""
    found: dict[str, str] = {}
    openings = schedule_of(schedule).openings
    for problem in warnings(scope, schedule):
        if problem.is_error:
            place = OPENING_PATH.search(problem.path)
            name = DAY_FIELDS[openings[int(place[1])].day] if place else checks.form_field(problem.where[3], FIELDS)
            found.setdefault(name, problem.message)
    if found:
        scope.session.rollback()
        raise Invalid(**found)


FIELDS = {"openings": DAY_FIELDS[0]}


def _told(schedule: Schedule) -> dict[str, Any]:
    """As the audit keeps it: the hours in words."""
    return {**audit.snapshot(schedule), "openings": words.week(schedule_of(schedule).openings)}
