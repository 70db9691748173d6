"""root (provider), alice (owner of acme), bob (read-only member of acme), carol (owner of globex); both tenants
have users 101 and 102, and if wanted examples of the rest: business hours, a ring group, a number, connections of
each kind, guards and networks.
What is there already stays as it is."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlmodel import Session, select

from panel import audit
from panel.actor import Actor
from panel.config import Config
from panel.models import (
    Account,
    Connection,
    Group,
    GroupMember,
    Guard,
    InstallationGuard,
    Membership,
    Number,
    Schedule,
    SourceRule,
    Tenant,
    UpstreamAccount,
    User,
)
from panel.models.base import new_id, utc_now
from panel.passwords import hash_password
from panel.scope import system_scope
from panel.secrets import vault
from panel.signup.service import Place, create_tenant

TENANTS = {"acme": "Acme Ltd", "globex": "Globex Corporation"}
MEMBERS = {"alice": ("acme", "owner"), "bob": ("acme", "read_only"), "carol": ("globex", "owner")}
USERS = {"101": "Front desk", "102": "Workshop"}
OFFICE_HOURS, RECEPTION = "Office hours", "200"
NUMBERS = {"acme": "+493055500100", "globex": "+493055500200"}
PASSWORD_BYTES = 12


@dataclass(frozen=True, slots=True)
class CastLine:
    """How one of the cast signs in; `password` is None where the account was there before."""

    email: str
    password: str | None
    part: str


def seed(
    session: Session, actor: Actor, config: Config, password: str | None = None, examples: bool = False
) -> list[CastLine]:
    """Create the cast; without `password` each account gets one of its own."""
    place = Place(config.platform_domain, config.base_url)
    with system_scope(session, "seed the example cast"):
        tenants = {slug: _tenant(session, place, slug, name) for slug, name in TENANTS.items()}
        root, line = _account(session, "root", place, password, "provider, admin")
        root.provider_role = "admin"
        cast = [line]
        for name, (slug, role) in MEMBERS.items():
            part = f"{slug}, {role.replace('_', '-')}"
            account, line = _account(session, name, place, password, part)
            _member(session, account, tenants[slug], role)
            cast.append(line)
        for tenant in tenants.values():
            _users(session, tenant)
            if examples:
                _examples(session, tenant)
        if examples:
            _protection(session)
        audit.record(session, actor, "installation.seeded")
        session.commit()
    return cast


def _tenant(session: Session, place: Place, slug: str, name: str) -> Tenant:
    found = session.exec(select(Tenant).where(Tenant.slug == slug)).first()
    return found or create_tenant(session, name, slug, place)


def _account(session: Session, name: str, place: Place, password: str | None, part: str) -> tuple[Account, CastLine]:
    email = f"{name}@{place.platform_domain}"
    found = session.exec(select(Account).where(Account.email == email)).first()
    if found is not None:
        return found, CastLine(email, None, part)
    password = password or secrets.token_urlsafe(PASSWORD_BYTES)
    account = Account(
        email=email, name=name.title(), password_hash=hash_password(password), email_verified_at=utc_now()
    )
    session.add(account)
    session.flush()
    return account, CastLine(email, password, part)


def _member(session: Session, account: Account, tenant: Tenant, role: str) -> None:
    held = select(Membership).where(Membership.account_id == account.id, Membership.tenant_id == tenant.id)
    if session.exec(held).first() is None:
        session.add(Membership(account_id=account.id, tenant_id=tenant.id, role=role))


def _users(session: Session, tenant: Tenant) -> None:
    for extension, name in USERS.items():
        if session.exec(select(User).where(User.tenant_id == tenant.id, User.extension == extension)).first() is None:
            user_id = new_id()
            place = (tenant.id, user_id, "sip_password")
            sealed = vault().seal(place, secrets.token_urlsafe(PASSWORD_BYTES))
            session.add(User(id=user_id, tenant_id=tenant.id, extension=extension, name=name, sip_password=sealed))


def _examples(session: Session, tenant: Tenant) -> None:
    """A number that rings a group of both users in office hours, and the first of them at other times."""
    if session.exec(select(Group).where(Group.tenant_id == tenant.id)).first() is not None:
        return
    if session.exec(select(Schedule).where(Schedule.tenant_id == tenant.id)).first() is not None:
        return
    week = [f"{day} 09:00-17:00" for day in range(5)]
    hours = Schedule(tenant_id=tenant.id, name=OFFICE_HOURS, time_zone="Europe/Berlin", openings=week)
    hours.holidays = ["2026-12-25", "2026-12-26"]
    group = Group(tenant_id=tenant.id, extension=RECEPTION, name="Reception")
    session.add_all([hours, group])
    session.flush()
    users = session.exec(select(User).where(User.tenant_id == tenant.id).order_by(User.extension)).all()
    for position, user in enumerate(users):
        session.add(GroupMember(tenant_id=tenant.id, group_id=group.id, user_id=user.id, position=position))
    number = Number(tenant_id=tenant.id, number=NUMBERS[tenant.slug], group_id=group.id, schedule_id=hours.id)
    number.forward_closed = users[0].extension
    session.add(number)
    session.add(Guard(tenant_id=tenant.id, prefix="00882", calls_per_hour=2, schedule_id=hours.id))
    _connection(session, tenant, users[0])


def _connection(session: Session, tenant: Tenant, user: User) -> None:
    """A PBX with a second address, at which the first user's phone registers itself; switched off, as it is nowhere."""
    if session.exec(select(Connection).where(Connection.tenant_id == tenant.id)).first() is not None:
        return
    pbx = Connection(tenant_id=tenant.id, name="Example PBX", host="192.0.2.10", registrar_domain="pbx.example")
    pbx.enabled, pbx.multi_tenant, pbx.strategy, pbx.media = False, True, "relay", "relay"
    pbx.sources, pbx.alternates = ["192.0.2.10", "192.0.2.11"], ["192.0.2.11:5070"]
    session.add(pbx)
    session.flush()
    account = {"user_id": user.id, "connection_id": pbx.id, "username": user.extension}
    session.add(UpstreamAccount(tenant_id=tenant.id, **account))


def _protection(session: Session) -> None:
    """Nobody calls 00881, and a network of documentation (RFC 5737) gets no answer."""
    if session.exec(select(InstallationGuard)).first() is None:
        session.add(InstallationGuard(prefix="00881", calls_per_hour=0, note="Satellite telephones"))
    if session.exec(select(SourceRule)).first() is None:
        session.add(SourceRule(kind="blocked", network="203.0.113.0/24", note="An example"))
