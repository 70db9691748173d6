"""What a tenant does with its users. Saving changes no call yet: publishing does."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any

from sqlmodel import col, or_, select

from panel import audit
from panel.errors import Invalid
from panel.models import Connection, Domain, Group, GroupMember, Number, Schedule, UpstreamAccount, User
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import checks
from panel.scope import TenantScope
from panel.secrets import vault
from panel.users.forms import AccountInput, Filter, UserInput, account_faults, account_field
from sipd.routing.checks_text import extension_fault
from sipd.routing.problem import Problem

PASSWORD_LENGTH = 20
PASSWORD_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # noqa: S105  an alphabet
"""Without what looks alike: people type these into phones."""
SORTS: dict[str, tuple[Any, ...]] = {
    "extension": (col(User.extension), col(User.id)),
    "-extension": (col(User.extension).desc(), col(User.id)),
    "name": (col(User.name), col(User.extension)),
    "-name": (col(User.name).desc(), col(User.extension)),
}
"""What an address may sort by."""
FIELDS = {"schedule": "schedule_id"}
"""Fields of the form, by the routing's names."""
ACCOUNT_PATH = re.compile(r"\.upstream\[([A-Za-z0-9_-]+)\]\.(\w+)$")


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[User]:
    """One page of users, found by extension or name."""
    statement = scope.select(User)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        found = (col(User.extension).ilike(pattern, escape="\\"), col(User.name).ilike(pattern, escape="\\"))
        statement = statement.where(or_(*found))
    return paged(scope.session, statement, number, SORTS.get(wanted.sort, SORTS["extension"]))


def connections(scope: TenantScope) -> list[Connection]:
    return scope.all(scope.select(Connection).order_by(Connection.name))


def schedules(scope: TenantScope) -> list[Schedule]:
    return scope.all(scope.select(Schedule).order_by(Schedule.name))


def accounts(scope: TenantScope, user: User) -> list[UpstreamAccount]:
    return scope.all(scope.select(UpstreamAccount).where(UpstreamAccount.user_id == user.id))


def relayed_account(scope: TenantScope, user: User) -> tuple[Connection, UpstreamAccount] | None:
    """The account that the user's phone has itself, where its REGISTER goes through to the PBX: as for the edge, the
    first in the order of the table."""
    places = {connection.id: connection for connection in connections(scope)}
    for account in sorted(accounts(scope, user), key=lambda account: account.connection_id):
        connection = places[account.connection_id]
        if connection.enabled and connection.strategy == "relay":
            return connection, account
    return None


def primary_domain(scope: TenantScope) -> str:
    domain = scope.first(scope.select(Domain).where(col(Domain.is_primary)))
    return domain.name if domain else ""


def extension_problem(scope: TenantScope, extension: str, user_id: str = "") -> str:
    """Why `extension` cannot be had, as a sentence; empty when it can."""
    if fault := extension_fault(extension):
        return fault
    other = scope.first(scope.select(User).where(User.extension == extension, User.id != user_id))
    if other is not None:
        whose = f" ({other.name})" if other.name else ""
        return f"{extension} is taken by another user of yours{whose}. Choose one that is free."
    group = scope.first(scope.select(Group).where(Group.extension == extension))
    if group is not None:
        whose = f" ({group.name})" if group.name else ""
        return f"{extension} is taken by a ring group of yours{whose}. Choose one that is free."
    return ""


def warnings(scope: TenantScope, user: User) -> list[Problem]:
    """What publishing would say of this user."""
    return checks.of_item(checks.problems_of(scope), "users", user.id)


def create(scope: TenantScope, data: UserInput, given: Iterable[AccountInput]) -> User:
    """Add a user with a new SIP password. Raises `Invalid`."""
    _require_free(scope, data, "")
    user = User(tenant_id=scope.tenant_id, sip_password="", **data.row)
    user.sip_password = _sealed_password(user)
    scope.session.add(user)
    scope.session.flush()
    audit.record(scope.session, scope.actor, "user.created", user, after=audit.snapshot(user))
    _write_accounts(scope, user, given)
    _require_good(scope, user)
    scope.session.commit()
    return user


def update(scope: TenantScope, user: User, data: UserInput, given: Iterable[AccountInput]) -> User:
    """Change a user. Raises `Invalid`."""
    _require_free(scope, data, user.id)
    before = audit.snapshot(user)
    for name, value in data.row.items():
        setattr(user, name, value)
    after = audit.snapshot(user)
    if before != after:
        audit.record(scope.session, scope.actor, "user.updated", user, before, after)
    _write_accounts(scope, user, given)
    _require_good(scope, user)
    scope.session.commit()
    return user


def new_password(scope: TenantScope, user: User) -> User:
    """Replace the SIP password; phones with the old one are refused from the next publication on."""
    before = audit.snapshot(user)
    user.sip_password = _sealed_password(user)
    audit.record(scope.session, scope.actor, "user.password_renewed", user, before, audit.snapshot(user))
    scope.session.commit()
    return user


def password_of(user: User) -> str:
    """In plain; for the one page that shows it once."""
    return vault().unseal(_password_place(user), user.sip_password)


def remove(scope: TenantScope, user: User) -> None:
    """Remove a user, its accounts at PBXs and its places in groups. Raises `Invalid` while a number rings it."""
    numbers = scope.all(scope.select(Number).where(Number.user_id == user.id).order_by(Number.number))
    if numbers:
        named = ", ".join(number.number for number in numbers[:3]) + (" and more" if len(numbers) > 3 else "")
        raise Invalid(remove=f"{named} still rings {user.extension}. Give the number to somebody else first.")
    for account in accounts(scope, user):
        scope.session.delete(account)
    for member in scope.all(scope.select(GroupMember).where(GroupMember.user_id == user.id)):
        scope.session.delete(member)
    audit.record(scope.session, scope.actor, "user.removed", user, before=audit.snapshot(user))
    scope.session.flush()
    scope.session.delete(user)
    scope.session.commit()


def _require_free(scope: TenantScope, data: UserInput, user_id: str) -> None:
    """A free extension, and business hours of this tenant: foreign ones are answered like those that do not exist."""
    if problem := extension_problem(scope, data.extension, user_id):
        raise Invalid(extension=problem)
    if data.schedule_id and scope.first(scope.select(Schedule).where(Schedule.id == data.schedule_id)) is None:
        raise Invalid(schedule_id="These business hours are not there any more. Choose others.")


def _require_good(scope: TenantScope, user: User) -> None:
    """Errors of the user's accounts get the name of the form's field for that connection."""
    found: dict[str, str] = {}
    for problem in checks.of_item(checks.problems_of(scope), "users", user.id):
        if problem.is_error:
            account = ACCOUNT_PATH.search(problem.path)
            name = account_field(*account.groups()) if account else checks.form_field(problem.where[3], FIELDS)
            found.setdefault(name, problem.message)
    if found:
        scope.session.rollback()
        raise Invalid(**found)


def _password_place(user: User) -> tuple[str, ...]:
    return (user.tenant_id, user.id, "sip_password")


def _sealed_password(user: User) -> str:
    password = "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))
    return vault().seal(_password_place(user), password)


def _write_accounts(scope: TenantScope, user: User, given: Iterable[AccountInput]) -> None:
    given = list(given)
    if faults := account_faults(given):
        scope.session.rollback()
        raise Invalid(**faults)
    existing = {account.connection_id: account for account in accounts(scope, user)}
    own = set(scope.session.exec(select(Connection.id).where(Connection.tenant_id == scope.tenant_id)))
    for account in given:
        if account.connection_id in own:
            _write_account(scope, user, existing.get(account.connection_id), account)


def _write_account(scope: TenantScope, user: User, row: UpstreamAccount | None, given: AccountInput) -> None:
    if not given.username:
        if row is not None:
            audit.record(scope.session, scope.actor, "account.removed", row, before=audit.snapshot(row))
            scope.session.delete(row)
        return
    before = audit.snapshot(row) if row else {}
    kept = row or UpstreamAccount(
        tenant_id=scope.tenant_id, user_id=user.id, connection_id=given.connection_id, username=given.username
    )
    kept.username, kept.auth_username = given.username, given.auth_username
    if given.password:
        place = (scope.tenant_id, user.id, given.connection_id, "upstream_password")
        kept.password = vault().seal(place, given.password)
    scope.session.add(kept)
    after = audit.snapshot(kept)
    if before != after:
        action = "account.updated" if row else "account.created"
        audit.record(scope.session, scope.actor, action, kept, before, after)
