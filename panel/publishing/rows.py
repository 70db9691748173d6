"""All rows of some tenants, in one query per table, as the snapshot wants them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import TypeVar

from sqlmodel import Session, col, select

from panel.config import Config
from panel.models import (
    Connection,
    Domain,
    Group,
    GroupMember,
    Guard,
    InstallationGuard,
    Number,
    OutboundRule,
    Schedule,
    SourceRule,
    Tenant,
    UpstreamAccount,
    User,
)
from panel.models.base import TenantRow
from panel.publishing.snapshot import TenantRows, installation_part
from sipd.routing import model

R = TypeVar("R", bound=TenantRow)

CHUNK = 500
"""Tenants per query: databases bound the number of parameters."""


def installation_of(session: Session, config: Config) -> model.Installation:
    """The part that belongs to no tenant, as it is saved now."""
    guards = session.exec(select(InstallationGuard)).all()
    rules = session.exec(select(SourceRule)).all()
    return installation_part(config.platform_domain, config.edge_hosts, guards, rules)


def tenant_rows(session: Session, tenant_ids: Collection[str]) -> Iterator[TenantRows]:
    """The rows of each tenant that exists; in a system scope, or the tenant's own."""
    ordered = sorted(tenant_ids)
    for start in range(0, len(ordered), CHUNK):
        yield from _chunk(session, ordered[start : start + CHUNK])


def _chunk(session: Session, ids: list[str]) -> Iterator[TenantRows]:
    tenants = session.exec(select(Tenant).where(col(Tenant.id).in_(ids)).order_by(Tenant.id)).all()
    domains, users = _by_tenant(session, Domain, ids), _by_tenant(session, User, ids)
    connections, accounts = _by_tenant(session, Connection, ids), _by_tenant(session, UpstreamAccount, ids)
    numbers, rules = _by_tenant(session, Number, ids), _by_tenant(session, OutboundRule, ids)
    groups, members = _by_tenant(session, Group, ids), _by_tenant(session, GroupMember, ids)
    schedules, guards = _by_tenant(session, Schedule, ids), _by_tenant(session, Guard, ids)
    for tenant in tenants:
        key = tenant.id
        yield TenantRows(
            tenant=tenant,
            domains=domains[key],
            users=users[key],
            connections=connections[key],
            accounts=accounts[key],
            numbers=numbers[key],
            rules=rules[key],
            groups=groups[key],
            members=members[key],
            schedules=schedules[key],
            guards=guards[key],
        )


def _by_tenant(session: Session, kind: type[R], ids: list[str]) -> dict[str, list[R]]:
    found: dict[str, list[R]] = defaultdict(list)
    for row in session.exec(select(kind).where(col(kind.tenant_id).in_(ids))):
        found[row.tenant_id].append(row)
    return found
