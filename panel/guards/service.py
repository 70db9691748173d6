"""What a tenant does with its guards against toll fraud. Saving changes no call yet: publishing does."""

from __future__ import annotations

from sqlmodel import col, select

from panel import audit
from panel.errors import Invalid
from panel.guards.forms import Filter, GuardInput
from panel.models import Guard, InstallationGuard, Schedule
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import checks
from panel.scope import TenantScope
from sipd.routing.model import MAX_GUARDS
from sipd.routing.problem import Problem

FIELDS = {"schedule": "schedule_id"}
"""Fields of the form, by the routing's names."""


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[Guard]:
    """One page of guards, found by what the numbers begin with."""
    statement = scope.select(Guard)
    if wanted.q:
        statement = statement.where(col(Guard.prefix).ilike(like(wanted.q[:MAX_SEARCH]), escape="\\"))
    return paged(scope.session, statement, number, (col(Guard.prefix), col(Guard.id)))


def of_provider(scope: TenantScope) -> list[InstallationGuard]:
    """Those that hold for all tenants, and that no tenant changes."""
    return list(scope.session.exec(select(InstallationGuard).order_by(InstallationGuard.prefix)))


def schedules(scope: TenantScope) -> list[Schedule]:
    return scope.all(scope.select(Schedule).order_by(Schedule.name))


def warnings(scope: TenantScope, guard: Guard) -> list[Problem]:
    """What publishing would say of it."""
    return checks.of_item(checks.problems_of(scope), "guards", guard.id)


def create(scope: TenantScope, data: GuardInput) -> Guard:
    """Add a guard. Raises `Invalid`."""
    if scope.count(Guard) >= MAX_GUARDS:
        raise Invalid(prefix=f"There are {MAX_GUARDS} guards already, and no more can be had. Remove one.")
    _require_own(scope, data, "")
    guard = Guard(tenant_id=scope.tenant_id, **data.row)
    scope.session.add(guard)
    audit.record(scope.session, scope.actor, "guard.created", guard, after=audit.snapshot(guard))
    checks.require_good(scope, "guards", guard.id, FIELDS)
    scope.session.commit()
    return guard


def update(scope: TenantScope, guard: Guard, data: GuardInput) -> Guard:
    """Change a guard. Raises `Invalid`."""
    _require_own(scope, data, guard.id)
    before = audit.snapshot(guard)
    for name, value in data.row.items():
        setattr(guard, name, value)
    audit.record(scope.session, scope.actor, "guard.updated", guard, before, audit.snapshot(guard))
    checks.require_good(scope, "guards", guard.id, FIELDS)
    scope.session.commit()
    return guard


def remove(scope: TenantScope, guard: Guard) -> None:
    audit.record(scope.session, scope.actor, "guard.removed", guard, before=audit.snapshot(guard))
    scope.session.delete(guard)
    scope.session.commit()


def _require_own(scope: TenantScope, data: GuardInput, guard_id: str) -> None:
    """Business hours of this tenant, and a prefix that has no guard yet."""
    if data.schedule_id and scope.first(scope.select(Schedule).where(Schedule.id == data.schedule_id)) is None:
        raise Invalid(schedule_id="These business hours are not there any more. Choose others.")
    if scope.first(scope.select(Guard).where(Guard.prefix == data.prefix, Guard.id != guard_id)) is not None:
        raise Invalid(prefix=f"There is a guard for {data.prefix} already. Change it there.")
