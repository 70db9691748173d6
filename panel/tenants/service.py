"""What the provider does with tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, SQLModel, col, or_, select

from panel import audit
from panel.actor import Actor
from panel.errors import Invalid, NotFound
from panel.models import Account, AuditEntry, Connection, Domain, Membership, SupportSession, Tenant, User
from panel.models.base import utc_now
from panel.models.tenancy import TENANT_STATES
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.tenants.forms import Enter, Filter, Suspend

SORTS: dict[str, tuple[Any, ...]] = {
    "name": (func.lower(Tenant.name), col(Tenant.id)),
    "-name": (func.lower(Tenant.name).desc(), col(Tenant.id)),
    "created": (col(Tenant.created_at), col(Tenant.id)),
    "-created": (col(Tenant.created_at).desc(), col(Tenant.id)),
}
"""What an address may sort by."""
RECENT_ENTRIES = 8


@dataclass(frozen=True, slots=True)
class TenantLine:
    """One line of the list."""

    tenant: Tenant
    domain: str
    users: int
    connections: int
    multi_tenant: int
    """Connections with the mode switched on."""


@dataclass(frozen=True, slots=True)
class TenantDetail:
    tenant: Tenant
    domains: Sequence[Domain]
    connections: Sequence[Connection]
    members: Sequence[tuple[Account, str]]
    users: int
    entries: Sequence[AuditEntry]


def listing(session: Session, wanted: Filter, number: int) -> Page[TenantLine]:
    """One page of tenants, found by name, short name or domain."""
    statement = select(Tenant)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        by_domain = select(Domain.tenant_id).where(col(Domain.name).ilike(pattern, escape="\\"))
        statement = statement.where(
            or_(
                col(Tenant.name).ilike(pattern, escape="\\"),
                col(Tenant.slug).ilike(pattern, escape="\\"),
                col(Tenant.id).in_(by_domain),
            )
        )
    if wanted.status in TENANT_STATES:
        statement = statement.where(Tenant.status == wanted.status)
    found = paged(session, statement, number, SORTS.get(wanted.sort, SORTS["name"]))
    return Page(_lines(session, found.rows), found.number, found.total)


def find(session: Session, tenant_id: str) -> Tenant:
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFound("no such tenant")
    return tenant


def detail(session: Session, tenant: Tenant) -> TenantDetail:
    def of_tenant(model: type[SQLModel]) -> Any:
        return select(model).where(model.tenant_id == tenant.id)  # type: ignore[attr-defined]

    members = select(Account, Membership.role).join(Membership).where(Membership.tenant_id == tenant.id)
    entries = of_tenant(AuditEntry).order_by(col(AuditEntry.at).desc()).limit(RECENT_ENTRIES)
    return TenantDetail(
        tenant=tenant,
        domains=session.exec(of_tenant(Domain).order_by(col(Domain.is_primary).desc(), Domain.name)).all(),
        connections=session.exec(of_tenant(Connection).order_by(Connection.name)).all(),
        members=[(account, role) for account, role in session.exec(members.order_by(Account.email)).all()],
        users=session.exec(select(func.count()).select_from(User).where(User.tenant_id == tenant.id)).one(),
        entries=session.exec(entries).all(),
    )


def suspend(session: Session, actor: Actor, data: Suspend, tenant: Tenant) -> Tenant:
    """Refuse all calls of the tenant once that is published, which the page does at once."""
    if tenant.status == "suspended":
        raise Invalid(reason=f"{tenant.name} is suspended already.")
    return _set_status(session, actor, tenant, "suspended", data.reason)


def resume(session: Session, actor: Actor, tenant: Tenant) -> Tenant:
    if tenant.status == "active":
        raise Invalid(status=f"{tenant.name} is not suspended.")
    return _set_status(session, actor, tenant, "active", "")


def enter(session: Session, actor: Actor, data: Enter, tenant: Tenant) -> SupportSession:
    """Open the tenant to the actor, for a time; the tenant sees it, and why, in its activity log."""
    if actor.account_id is None:
        raise ValueError("only a person can enter as support")
    until = utc_now() + timedelta(minutes=int(data.minutes))
    visit = SupportSession(tenant_id=tenant.id, account_id=actor.account_id, reason=data.reason, expires_at=until)
    session.add(visit)
    entered = {"reason": data.reason, "until": until.isoformat(timespec="minutes")}
    audit.record(session, _as_support(actor), "support.entered", tenant, after=entered)
    session.commit()
    return visit


def leave(session: Session, actor: Actor, visit: SupportSession) -> None:
    visit.ended_at = utc_now()
    session.add(visit)
    audit.record(session, actor, "support.left", after={"reason": visit.reason})
    session.commit()


def _as_support(actor: Actor) -> Actor:
    return Actor(actor.account_id, actor.label, actor.ip, support=True)


def _set_status(session: Session, actor: Actor, tenant: Tenant, status: str, reason: str) -> Tenant:
    before = audit.snapshot(tenant)
    tenant.status, tenant.suspended_reason = status, reason
    action = "tenant.suspended" if status == "suspended" else "tenant.resumed"
    audit.record(session, actor, action, tenant, before, audit.snapshot(tenant))
    session.commit()
    return tenant


def _lines(session: Session, tenants: list[Tenant]) -> list[TenantLine]:
    """Three queries for a page, however many tenants are on it."""
    ids = [tenant.id for tenant in tenants]
    domains = dict(
        session.exec(
            select(Domain.tenant_id, Domain.name).where(col(Domain.tenant_id).in_(ids), col(Domain.is_primary))
        ).all()
    )
    users = _count(session, User, ids)
    connections = _count(session, Connection, ids)
    switched = _count(session, Connection, ids, col(Connection.multi_tenant))
    return [
        TenantLine(
            tenant,
            domains.get(tenant.id, ""),
            users.get(tenant.id, 0),
            connections.get(tenant.id, 0),
            switched.get(tenant.id, 0),
        )
        for tenant in tenants
    ]


def _count(session: Session, model: type[User] | type[Connection], ids: list[str], *where: Any) -> dict[str, int]:
    owner = col(model.tenant_id)
    rows = session.exec(select(owner, func.count()).where(owner.in_(ids), *where).group_by(owner)).all()
    return dict(rows)
