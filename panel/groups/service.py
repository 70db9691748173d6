"""What a tenant does with its ring groups. Saving changes no call yet: publishing does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlmodel import col, or_

from panel import audit
from panel.errors import Invalid
from panel.groups.forms import Filter, GroupInput
from panel.models import Group, GroupMember, Number, Schedule, User
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import checks
from panel.scope import TenantScope
from sipd.routing.checks_text import extension_fault
from sipd.routing.problem import Problem

MAX_GROUPS = 1000
"""Of one tenant."""
FIELDS = {"schedule": "schedule_id"}
"""Fields of the form, by the routing's names."""


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[Group]:
    """One page of groups, found by extension or name."""
    statement = scope.select(Group)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        found = (col(Group.extension).ilike(pattern, escape="\\"), col(Group.name).ilike(pattern, escape="\\"))
        statement = statement.where(or_(*found))
    return paged(scope.session, statement, number, (col(Group.extension), col(Group.id)))


def members_of(scope: TenantScope, groups: Iterable[Group]) -> dict[str, list[User]]:
    """The users of each group, in their turn, by the group's id."""
    ids = [group.id for group in groups]
    rows = scope.all(scope.select(GroupMember).where(col(GroupMember.group_id).in_(ids)))
    wanted = {row.user_id for row in rows}
    users = {user.id: user for user in scope.all(scope.select(User).where(col(User.id).in_(wanted)))}
    found: dict[str, list[User]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.position, row.user_id)):
        found[row.group_id].append(users[row.user_id])
    return found


def extensions_of(scope: TenantScope, group: Group) -> list[str]:
    return [user.extension for user in members_of(scope, [group])[group.id]]


def users(scope: TenantScope) -> list[User]:
    """Whom the form proposes as members."""
    return scope.all(scope.select(User).order_by(User.extension))


def schedules(scope: TenantScope) -> list[Schedule]:
    return scope.all(scope.select(Schedule).order_by(Schedule.name))


def extension_problem(scope: TenantScope, extension: str, group_id: str = "") -> str:
    """Why `extension` cannot be had, as a sentence; empty when it can."""
    if fault := extension_fault(extension):
        return fault
    user = scope.first(scope.select(User).where(User.extension == extension))
    group = scope.first(scope.select(Group).where(Group.extension == extension, Group.id != group_id))
    if user is None and group is None:
        return ""
    whose = f"user of yours{f' ({user.name})' if user.name else ''}" if user is not None else "group of yours"
    return f"{extension} is taken by another {whose}. Choose one that is free."


def warnings(scope: TenantScope, group: Group) -> list[Problem]:
    """What publishing would say of this group."""
    return checks.of_item(checks.problems_of(scope), "groups", group.id)


def create(scope: TenantScope, data: GroupInput) -> Group:
    """Add a group. Raises `Invalid`."""
    if scope.count(Group) >= MAX_GROUPS:
        raise Invalid(extension=f"There are {MAX_GROUPS} groups already, and no more can be had. Remove one.")
    members = _checked(scope, data, "")
    group = Group(tenant_id=scope.tenant_id, **data.row)
    scope.session.add(group)
    scope.session.flush()
    _write_members(scope, group, members)
    audit.record(scope.session, scope.actor, "group.created", group, after=_told(scope, group))
    checks.require_good(scope, "groups", group.id, FIELDS)
    scope.session.commit()
    return group


def update(scope: TenantScope, group: Group, data: GroupInput) -> Group:
    """Change a group. Raises `Invalid`."""
    members = _checked(scope, data, group.id)
    before = _told(scope, group)
    for name, value in data.row.items():
        setattr(group, name, value)
    _write_members(scope, group, members)
    after = _told(scope, group)
    if before != after:
        audit.record(scope.session, scope.actor, "group.updated", group, before, after)
    checks.require_good(scope, "groups", group.id, FIELDS)
    scope.session.commit()
    return group


def remove(scope: TenantScope, group: Group) -> None:
    """Remove a group. Raises `Invalid` while a number rings it."""
    numbers = scope.all(scope.select(Number).where(Number.group_id == group.id).order_by(Number.number))
    if numbers:
        named = ", ".join(number.number for number in numbers[:3]) + (" and more" if len(numbers) > 3 else "")
        raise Invalid(remove=f"{named} still rings {group.extension}. Give the number to somebody else first.")
    audit.record(scope.session, scope.actor, "group.removed", group, before=_told(scope, group))
    for member in _rows(scope, group):
        scope.session.delete(member)
    scope.session.flush()
    scope.session.delete(group)
    scope.session.commit()


def _checked(scope: TenantScope, data: GroupInput, group_id: str) -> list[User]:
    """The members in their order; a foreign schedule is answered like one that does not exist."""
    found: dict[str, str] = {}
    if problem := extension_problem(scope, data.extension, group_id):
        found["extension"] = problem
    if data.schedule_id and scope.first(scope.select(Schedule).where(Schedule.id == data.schedule_id)) is None:
        found["schedule_id"] = "These business hours are not there any more. Choose others."
    statement = scope.select(User).where(col(User.extension).in_(set(data.members)))
    known = {user.extension: user for user in scope.all(statement)}
    if unknown := [extension for extension in data.members if extension not in known]:
        found["members"] = f"{unknown[0]} is no user of yours. Members are given by their extension."
    elif len(set(data.members)) < len(data.members):
        twice = next(each for each in data.members if data.members.count(each) > 1)
        found["members"] = f"{twice} is in this group twice. Remove one."
    if found:
        raise Invalid(**found)
    return [known[extension] for extension in data.members]


def _rows(scope: TenantScope, group: Group) -> list[GroupMember]:
    return scope.all(scope.select(GroupMember).where(GroupMember.group_id == group.id))


def _write_members(scope: TenantScope, group: Group, members: list[User]) -> None:
    there = {row.user_id: row for row in _rows(scope, group)}
    for user_id in there.keys() - {user.id for user in members}:
        scope.session.delete(there[user_id])
    for position, user in enumerate(members):
        row = there.get(user.id) or GroupMember(
            tenant_id=scope.tenant_id, group_id=group.id, user_id=user.id, position=position
        )
        row.position = position
        scope.session.add(row)
    scope.session.flush()


def _told(scope: TenantScope, group: Group) -> dict[str, Any]:
    """As the audit keeps it: with its members."""
    return {**audit.snapshot(group), "members": extensions_of(scope, group)}
