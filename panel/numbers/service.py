"""What a tenant does with its numbers and outbound rules. Saving changes no call yet: publishing does."""

from __future__ import annotations

from typing import Any

from sqlmodel import col, or_

from panel import audit
from panel.errors import Invalid, NotFound
from panel.models import Connection, Group, Number, OutboundRule, Schedule, User
from panel.numbers.forms import Filter, NumberInput, OutsideInput, RuleInput
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import checks
from panel.scope import TenantScope

Owned = User | Connection | Group | Schedule
MAX_RULES = 1000
FIELDS = {
    "user": "user_id",
    "group": "group_id",
    "schedule": "schedule_id",
    "connection": "connection_id",
    "fallback": "fallback_id",
    "default_connection": "default_connection_id",
}
"""Fields of the forms, by the routing's names."""


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[Number]:
    """One page of numbers, found by digits or by what they forward to."""
    statement = scope.select(Number)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        statement = statement.where(
            or_(col(Number.number).ilike(pattern, escape="\\"), col(Number.forward).ilike(pattern, escape="\\"))
        )
    return paged(scope.session, statement, number, (col(Number.number), col(Number.id)))


def users(scope: TenantScope) -> list[User]:
    return scope.all(scope.select(User).order_by(User.extension))


def groups(scope: TenantScope) -> list[Group]:
    return scope.all(scope.select(Group).order_by(Group.extension))


def schedules(scope: TenantScope) -> list[Schedule]:
    return scope.all(scope.select(Schedule).order_by(Schedule.name))


def rules(scope: TenantScope) -> list[OutboundRule]:
    return scope.all(scope.select(OutboundRule).order_by(col(OutboundRule.position)))


def connections(scope: TenantScope) -> list[Connection]:
    return scope.all(scope.select(Connection).order_by(Connection.name))


def create(scope: TenantScope, data: NumberInput) -> Number:
    """Add a number. Raises `Invalid`."""
    number = Number(tenant_id=scope.tenant_id, **_number(scope, data, ""))
    scope.session.add(number)
    audit.record(scope.session, scope.actor, "number.created", number, after=audit.snapshot(number))
    checks.require_good(scope, "numbers", number.id, FIELDS)
    scope.session.commit()
    return number


def update(scope: TenantScope, number: Number, data: NumberInput) -> Number:
    """Change a number. Raises `Invalid`."""
    before = audit.snapshot(number)
    for name, value in _number(scope, data, number.id).items():
        setattr(number, name, value)
    audit.record(scope.session, scope.actor, "number.updated", number, before, audit.snapshot(number))
    checks.require_good(scope, "numbers", number.id, FIELDS)
    scope.session.commit()
    return number


def remove(scope: TenantScope, number: Number) -> None:
    audit.record(scope.session, scope.actor, "number.removed", number, before=audit.snapshot(number))
    scope.session.delete(number)
    scope.session.commit()


def create_rule(scope: TenantScope, data: RuleInput) -> OutboundRule:
    """Add an outbound rule. Raises `Invalid`."""
    if scope.count(OutboundRule) >= MAX_RULES:
        raise Invalid(prefix=f"There are {MAX_RULES} rules already, and no more can be had. Remove one.")
    _require_own(scope, data, "")
    rule = OutboundRule(tenant_id=scope.tenant_id, **data.row)
    scope.session.add(rule)
    audit.record(scope.session, scope.actor, "outbound_rule.created", rule, after=audit.snapshot(rule))
    checks.require_good(scope, "outbound", rule.id, FIELDS)
    scope.session.commit()
    return rule


def update_rule(scope: TenantScope, rule: OutboundRule, data: RuleInput) -> OutboundRule:
    """Change an outbound rule. Raises `Invalid`."""
    _require_own(scope, data, rule.id)
    before = audit.snapshot(rule)
    for name, value in data.row.items():
        setattr(rule, name, value)
    audit.record(scope.session, scope.actor, "outbound_rule.updated", rule, before, audit.snapshot(rule))
    checks.require_good(scope, "outbound", rule.id, FIELDS)
    scope.session.commit()
    return rule


def remove_rule(scope: TenantScope, rule: OutboundRule) -> None:
    audit.record(scope.session, scope.actor, "outbound_rule.removed", rule, before=audit.snapshot(rule))
    scope.session.delete(rule)
    scope.session.commit()


def update_outside(scope: TenantScope, data: OutsideInput) -> None:
    """What holds for all calls to the outside. Raises `Invalid`."""
    if data.default_connection_id:
        _own(scope, Connection, data.default_connection_id, "default_connection_id", "connection")
    tenant = scope.tenant
    before = audit.snapshot(tenant)
    tenant.default_connection_id = data.default_connection_id or None
    tenant.caller_id = data.caller_id
    after = audit.snapshot(tenant)
    if before != after:
        audit.record(scope.session, scope.actor, "tenant.updated", tenant, before, after)
    checks.require_good(scope, "", "", FIELDS)
    scope.session.commit()


def next_position(scope: TenantScope) -> int:
    """Behind the last rule, with room between."""
    last = scope.first(scope.select(OutboundRule).order_by(col(OutboundRule.position).desc()))
    return last.position + 10 if last else 10


def _number(scope: TenantScope, data: NumberInput, number_id: str) -> dict[str, Any]:
    """The row's values; exactly one target, and all that it names of this tenant."""
    targets = [name for name in ("user_id", "group_id", "forward") if getattr(data, name)]
    if len(targets) != 1:
        one = "Choose one only: a user, a ring group, or where to forward."
        raise Invalid(
            **{targets[0] if targets else "user_id": one if targets else "Choose who it rings, or give a forward."}
        )
    if data.user_id:
        _own(scope, User, data.user_id, "user_id", "user")
    if data.group_id:
        _own(scope, Group, data.group_id, "group_id", "ring group")
    if data.schedule_id:
        _own(scope, Schedule, data.schedule_id, "schedule_id", "schedule")
    taken = scope.first(scope.select(Number).where(Number.number == data.number, Number.id != number_id))
    if taken is not None:
        raise Invalid(number=f"{data.number} is in your list already. Change it there.")
    ids = {name: getattr(data, name) or None for name in ("user_id", "group_id", "schedule_id")}
    return {"number": data.number, "forward": data.forward, "forward_closed": data.forward_closed, **ids}


def _require_own(scope: TenantScope, data: RuleInput, rule_id: str) -> None:
    _own(scope, Connection, data.connection_id, "connection_id", "connection")
    if data.fallback_id:
        _own(scope, Connection, data.fallback_id, "fallback_id", "connection")
    at = scope.select(OutboundRule).where(OutboundRule.position == data.position, OutboundRule.id != rule_id)
    if scope.first(at) is not None:
        raise Invalid(position=f"Another rule stands at {data.position}. {next_position(scope)} is free.")


def _own(scope: TenantScope, model: type[Owned], row_id: str, field: str, word: str) -> None:
    """A foreign id is answered like one that does not exist."""
    try:
        scope.get(model, row_id)
    except NotFound as error:
        raise Invalid(**{field: f"This {word} is not there any more. Choose another."}) from error
