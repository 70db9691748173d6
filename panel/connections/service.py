"""What a tenant does with its connections. Saving changes no call yet: publishing does."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlmodel import col, or_, select

from panel import audit
from panel.connections.forms import ConnectionInput
from panel.connections.wire import Wire, wire
from panel.errors import Invalid
from panel.models import Connection, Domain, OutboundRule, UpstreamAccount, User
from panel.publishing import at_hand, checks
from panel.scope import TenantScope
from sipd.routing.problem import Problem

MAX_CONNECTIONS = 100
"""Of one tenant."""
EXAMPLE_EXTENSION = "101"


@dataclass(frozen=True, slots=True)
class Shown:
    """A connection with what its page says of it."""

    connection: Connection
    on: Wire
    off: Wire
    problems: list[Problem] = field(default_factory=list)


def listing(scope: TenantScope) -> list[Connection]:
    return scope.all(scope.select(Connection).order_by(Connection.name))


def shown(scope: TenantScope, connection: Connection) -> Shown:
    """The connection, its wire lines with the mode on and off, and what publishing would say of it."""
    problems = checks.of_item(checks.problems_of(scope), "connections", connection.id)
    return Shown(connection, *both(scope, connection.registrar_domain, connection.transport), problems)


def both(scope: TenantScope, registrar: str, transport: str) -> tuple[Wire, Wire]:
    """The wire lines with the mode on and with it off, in the tenant's own values."""
    config = at_hand.config()
    user = scope.first(scope.select(User).order_by(User.extension))
    domain = scope.first(scope.select(Domain).where(col(Domain.is_primary)))
    extension = user.extension if user else EXAMPLE_EXTENSION
    name = domain.name if domain else ""
    edge = config.edge_hosts[0] if config.edge_hosts else config.platform_domain
    on, off = (wire(extension, name, registrar, edge, config.sip_port, transport, mode) for mode in (True, False))
    return on, off


def problems_of_draft(scope: TenantScope, data: ConnectionInput, connection_id: str) -> list[Problem]:
    """What publishing would say of a connection with these values; nothing is saved. No id: a new one."""
    saved = scope.get(Connection, connection_id) if connection_id else None
    mode = saved.multi_tenant if saved else False
    draft = Connection(tenant_id=scope.tenant_id, multi_tenant=mode, **data.row)
    draft.id = saved.id if saved else draft.id
    return checks.of_item(checks.problems_with(scope, draft), "connections", draft.id)


def users_by_id(scope: TenantScope) -> dict[str, str]:
    """What people call each user."""
    return {user.id: user.extension for user in scope.all(scope.select(User))}


def create(scope: TenantScope, data: ConnectionInput) -> Connection:
    """Add a connection, with the mode off; the first one also takes all calls out. Raises `Invalid`."""
    if scope.count(Connection) >= MAX_CONNECTIONS:
        raise Invalid(name=f"There are {MAX_CONNECTIONS} connections already, and no more can be had. Remove one.")
    _require_free(scope, data.name, "")
    connection = Connection(tenant_id=scope.tenant_id, **data.row)
    scope.session.add(connection)
    audit.record(scope.session, scope.actor, "connection.created", connection, after=audit.snapshot(connection))
    tenant = scope.tenant
    if tenant.default_connection_id is None:
        tenant.default_connection_id = connection.id
    checks.require_good(scope, "connections", connection.id, {})
    scope.session.commit()
    return connection


def update(scope: TenantScope, connection: Connection, data: ConnectionInput) -> Connection:
    """Change everything but the mode. Raises `Invalid`."""
    _require_free(scope, data.name, connection.id)
    before = audit.snapshot(connection)
    for name, value in data.row.items():
        setattr(connection, name, value)
    audit.record(scope.session, scope.actor, "connection.updated", connection, before, audit.snapshot(connection))
    checks.require_good(scope, "connections", connection.id, {})
    scope.session.commit()
    return connection


def set_mode(scope: TenantScope, connection: Connection, on: bool) -> Connection:
    """The multi-tenant mode switch. Conflicts do not keep it from being saved: publishing names and refuses them."""
    if connection.multi_tenant != on:
        before = audit.snapshot(connection)
        connection.multi_tenant = on
        deed = "connection.mode_switched_on" if on else "connection.mode_switched_off"
        audit.record(scope.session, scope.actor, deed, connection, before, audit.snapshot(connection))
        scope.session.commit()
    return connection


def remove(scope: TenantScope, connection: Connection) -> None:
    """Remove a connection and its accounts. Raises `Invalid` while an outbound rule leads there."""
    leads = or_(OutboundRule.connection_id == connection.id, OutboundRule.fallback_id == connection.id)
    rules = scope.count(OutboundRule, leads)
    if rules:
        named = "an outbound rule leads" if rules == 1 else f"{rules} outbound rules lead"
        raise Invalid(remove=f"{connection.name} cannot be removed: {named} there. Change that first.")
    for account in scope.all(scope.select(UpstreamAccount).where(UpstreamAccount.connection_id == connection.id)):
        scope.session.delete(account)
    tenant = scope.tenant
    if tenant.default_connection_id == connection.id:
        others = scope.select(Connection).where(Connection.id != connection.id).order_by(Connection.name)
        heir = scope.first(others)
        tenant.default_connection_id = heir.id if heir else None
    before = audit.snapshot(connection)
    audit.record(scope.session, scope.actor, "connection.removed", connection, before=before)
    scope.session.flush()
    scope.session.delete(connection)
    scope.session.commit()


def name_taken(scope: TenantScope, name: str, connection_id: str) -> bool:
    statement = select(Connection.id).where(
        Connection.tenant_id == scope.tenant_id, Connection.name == name, Connection.id != connection_id
    )
    return scope.session.exec(statement).first() is not None


def _require_free(scope: TenantScope, name: str, connection_id: str) -> None:
    if name_taken(scope, name, connection_id):
        raise Invalid(name=f"You have a connection named {name} already. Choose another name.")
