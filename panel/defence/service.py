"""What the provider does for the protection of all nodes. The pages publish each change at once."""

from __future__ import annotations

from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from panel import audit
from panel.actor import Actor
from panel.defence.forms import Filter, GuardInput, NetworkInput
from panel.errors import Invalid, NotFound
from panel.models import InstallationGuard, SourceRule, Tenant
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.publishing import store
from sipd.routing.checks_network import KINDS, blocking
from sipd.routing.model import MAX_GUARDS, MAX_NETWORKS

MAX_NAMED = 3
"""Tenants that are named as having a PBX in a blocked network; the others are counted."""


def networks(session: Session, wanted: Filter, number: int) -> Page[SourceRule]:
    """One page of networks, found by network or note."""
    statement = select(SourceRule)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        found = (col(SourceRule.network).ilike(pattern, escape="\\"), col(SourceRule.note).ilike(pattern, escape="\\"))
        statement = statement.where(or_(*found))
    order = (col(SourceRule.kind).desc(), col(SourceRule.network))
    return paged(session, statement, number, order)


def pbxs_in(session: Session, rules: list[SourceRule]) -> dict[str, str]:
    """Whose PBX sends from each of the blocked networks, in words, by network; those of none are left out."""
    shown = {rule.network for rule in rules if rule.kind == "blocked"}
    live = store.live(session) if shown else None
    if live is None:
        return {}
    allowed, blocked = (_every(session, kind) for kind in KINDS)
    found: dict[str, dict[str, None]] = {}
    for tenant_id, each in store.contributions(session, live.tenants).items():
        for claim in each.claims:
            for network in shown.intersection(blocking(claim.source, allowed, blocked)):
                found.setdefault(network, {})[tenant_id] = None
    return {network: _named(session, list(tenants)) for network, tenants in found.items()}


def _every(session: Session, kind: str) -> tuple[str, ...]:
    found = select(SourceRule.network).where(SourceRule.kind == kind).order_by(SourceRule.network)
    return tuple(session.exec(found))


def _named(session: Session, tenant_ids: list[str]) -> str:
    shown = select(Tenant.name).where(col(Tenant.id).in_(tenant_ids[:MAX_NAMED])).order_by(Tenant.name)
    names = ", ".join(session.exec(shown))
    return f"{names} and {len(tenant_ids) - MAX_NAMED} more" if len(tenant_ids) > MAX_NAMED else names


def add_network(session: Session, actor: Actor, data: NetworkInput) -> SourceRule:
    """Allow or block a network. Raises `Invalid`."""
    there = session.exec(select(SourceRule).where(SourceRule.network == data.network)).first()
    if there is not None:
        again = "already" if there.kind == data.kind else f"already {there.kind}; remove it there first"
        raise Invalid(network=f"{data.network} is in the list {again}.")
    count = session.exec(select(func.count()).select_from(SourceRule).where(SourceRule.kind == data.kind)).one()
    if count >= MAX_NETWORKS:
        raise Invalid(network=f"{MAX_NETWORKS} networks are {data.kind}, and no more can be. Join some, or remove one.")
    rule = SourceRule(**data.model_dump())
    session.add(rule)
    audit.record(session, actor, f"network.{rule.kind}", rule, after=audit.snapshot(rule))
    session.commit()
    return rule


def remove_network(session: Session, actor: Actor, source_id: str) -> tuple[str, str]:
    """Neither allow nor block it any more; its kind, and itself."""
    rule = session.get(SourceRule, source_id)
    if rule is None:
        raise NotFound("no such network")
    removed = rule.kind, rule.network
    audit.record(session, actor, "network.removed", rule, before=audit.snapshot(rule))
    session.delete(rule)
    session.commit()
    return removed


def guards(session: Session) -> list[InstallationGuard]:
    """All of them; there are at most `MAX_GUARDS`."""
    return list(session.exec(select(InstallationGuard).order_by(InstallationGuard.prefix)))


def guard(session: Session, guard_id: str) -> InstallationGuard:
    found = session.get(InstallationGuard, guard_id)
    if found is None:
        raise NotFound("no such guard")
    return found


def add_guard(session: Session, actor: Actor, data: GuardInput) -> InstallationGuard:
    """Add a guard for all tenants. Raises `Invalid`."""
    if session.exec(select(func.count()).select_from(InstallationGuard)).one() >= MAX_GUARDS:
        raise Invalid(prefix=f"There are {MAX_GUARDS} guards already, and no more can be had. Remove one.")
    _require_free(session, data.prefix, "")
    made = InstallationGuard(**data.model_dump())
    session.add(made)
    audit.record(session, actor, "guard_for_all.created", made, after=audit.snapshot(made))
    session.commit()
    return made


def update_guard(session: Session, actor: Actor, found: InstallationGuard, data: GuardInput) -> InstallationGuard:
    """Change a guard. Raises `Invalid`."""
    _require_free(session, data.prefix, found.id)
    before = audit.snapshot(found)
    for name, value in data.model_dump().items():
        setattr(found, name, value)
    audit.record(session, actor, "guard_for_all.updated", found, before, audit.snapshot(found))
    session.commit()
    return found


def remove_guard(session: Session, actor: Actor, found: InstallationGuard) -> None:
    audit.record(session, actor, "guard_for_all.removed", found, before=audit.snapshot(found))
    session.delete(found)
    session.commit()


def _require_free(session: Session, prefix: str, guard_id: str) -> None:
    others = select(InstallationGuard.id).where(InstallationGuard.prefix == prefix, InstallationGuard.id != guard_id)
    if session.exec(others).first() is not None:
        raise Invalid(prefix=f"There is a guard for {prefix} already. Change it there.")
