"""Signing up and proving the e-mail address. Nothing here tells whether an e-mail address has an account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select, update

from panel import audit
from panel.actor import Actor
from panel.errors import Invalid, NotFound
from panel.models import Account, Domain, EmailToken, Membership, OutboxMail, Tenant
from panel.models.base import utc_now
from panel.outbox import service as outbox
from panel.passwords import hash_password
from panel.scope import system_scope
from panel.signup import names
from panel.signup.forms import Resend, SignUp
from panel.tokens import hash_token, new_token

LINK_AGE = timedelta(days=2)
"""How long a mailed link is good."""
OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Place:
    """What sign-ups need to know of the installation."""

    platform_domain: str
    base_url: str

    def link(self, token: str) -> str:
        return f"{self.base_url}/verify/{token}"


@dataclass(frozen=True, slots=True)
class Availability:
    """Verdict on a short name; `suggestion` is a free one where this one is taken."""

    slug: str
    problem: str = ""
    suggestion: str = ""


def availability(session: Session, place: Place, slug: str) -> Availability:
    """Whether the short name can be had. Says that a name is taken, never by whom."""
    problem = names.fault(slug, place.platform_domain)
    if problem:
        return Availability(slug, problem)
    if not _is_taken(session, place, slug):
        return Availability(slug)
    free = next((name for name in names.alternatives(slug) if not _is_taken(session, place, name)), "")
    return Availability(slug, f"“{slug}” is taken by another organisation.", free)


def proposal(session: Session, place: Place, organisation: str) -> str:
    """A free short name made from the organisation's name; empty where none can be made."""
    slug = names.propose(organisation)
    verdict = availability(session, place, slug)
    return verdict.suggestion if verdict.problem else verdict.slug


def sign_up(session: Session, actor: Actor, data: SignUp, place: Place) -> str | None:
    """Create account, tenant, first domain and owner, and mail the link.

    Returns the new account's id; None where the address has an account already, which only its
    owner is told, by mail. `Invalid` for a short name that cannot be had.
    """
    verdict = availability(session, place, data.slug)
    if verdict.problem:
        raise Invalid(slug=verdict.problem + (f" “{verdict.suggestion}” is free." if verdict.suggestion else ""))
    password_hash = hash_password(data.password)  # in both cases, so that both take as long
    known = session.exec(select(Account).where(Account.email == data.email)).first()
    if known is not None and known.email_verified_at is not None:
        mail = outbox.write(session, data.email, "You already have an account", _known_text(place))
        session.commit()
        outbox.post(session, mail)
        return None
    if known is not None:
        _forget(session, known)
    account = Account(email=data.email, password_hash=password_hash)
    try:
        mail = _create(session, actor, data, place, account)
        session.commit()
    except IntegrityError as error:
        session.rollback()
        raise Invalid(slug=f"“{data.slug}” has just been taken. Please choose another one.") from error
    account_id = account.id
    outbox.post(session, mail)
    return account_id


def resend(session: Session, actor: Actor, data: Resend, place: Place) -> None:
    """Mail a fresh link, if the address waits for one; says nothing about that."""
    account = session.exec(select(Account).where(Account.email == data.email)).first()
    if account is None or account.email_verified_at is not None:
        return
    mail = _mail_link(session, account, place)
    audit.record(session, actor, "account.link_resent", account)
    session.commit()
    outbox.post(session, mail)


def waiting(session: Session, token: str) -> EmailToken:
    """The link, while it is good; `NotFound` when it is used, too old, or never was."""
    found = session.exec(
        select(EmailToken).where(
            EmailToken.token_hash == hash_token(token),
            EmailToken.purpose == "verify",
            col(EmailToken.used_at).is_(None),
            EmailToken.expires_at > utc_now(),
        )
    ).first()
    if found is None:
        raise NotFound("no such link")
    return found


def verify(session: Session, actor: Actor, token: str) -> Account:
    """Use the link: the address is proved. A link works once, also for two that come at the same time."""
    found = waiting(session, token)
    now = utc_now()
    used = session.exec(
        update(EmailToken).where(col(EmailToken.id) == found.id, col(EmailToken.used_at).is_(None)).values(used_at=now)
    )
    account = session.get(Account, found.account_id)
    if used.rowcount != 1 or account is None or account.email != found.email:
        raise NotFound("no such link")
    account.email_verified_at = now
    audit.record(session, Actor(account.id, account.email, actor.ip), "account.verified", account)
    session.commit()
    return account


def _is_taken(session: Session, place: Place, slug: str) -> bool:
    with system_scope(session, "see whether a short name is taken"):
        tenant = session.exec(select(Tenant.id).where(Tenant.slug == slug)).first()
        domain = session.exec(select(Domain.id).where(Domain.name == f"{slug}.{place.platform_domain}")).first()
    return tenant is not None or domain is not None


def _create(session: Session, actor: Actor, data: SignUp, place: Place, account: Account) -> OutboxMail:
    with system_scope(session, "create a tenant at sign-up"):
        session.add(account)
        tenant = create_tenant(session, data.organisation, data.slug, place)
        session.flush()
        session.add(Membership(tenant_id=tenant.id, account_id=account.id, role=OWNER))
        owner = Actor(account.id, account.email, actor.ip)
        audit.record(session, owner, "tenant.signed_up", tenant, after=audit.snapshot(tenant))
    return _mail_link(session, account, place)


def create_tenant(session: Session, name: str, slug: str, place: Place) -> Tenant:
    """A tenant and its first domain, in the caller's transaction and scope."""
    tenant = Tenant(name=name, slug=slug)
    session.add(tenant)
    session.flush()
    session.add(Domain(tenant_id=tenant.id, name=f"{slug}.{place.platform_domain}", is_primary=True))
    return tenant


def _mail_link(session: Session, account: Account, place: Place) -> OutboxMail:
    """A new link; the ones before it are worth nothing any more."""
    now = utc_now()
    session.exec(
        update(EmailToken)
        .where(col(EmailToken.account_id) == account.id, col(EmailToken.used_at).is_(None))
        .values(used_at=now)
    )
    token, token_hash = new_token()
    session.add(
        EmailToken(
            account_id=account.id,
            token_hash=token_hash,
            purpose="verify",
            email=account.email,
            expires_at=now + LINK_AGE,
        )
    )
    return outbox.write(session, account.email, "Confirm your e-mail address", _link_text(place, token))


def _forget(session: Session, account: Account) -> None:
    """A sign-up that was never confirmed gives way to a new one with the same address."""
    with system_scope(session, "replace a sign-up that was never confirmed"):
        owned = select(Membership.tenant_id).where(Membership.account_id == account.id)
        for tenant_id in session.exec(owned).all():
            others = select(Membership.id).where(Membership.tenant_id == tenant_id, Membership.account_id != account.id)
            if session.exec(others).first() is None:
                session.exec(delete(Tenant).where(col(Tenant.id) == tenant_id))
        session.delete(account)


def _link_text(place: Place, token: str) -> str:
    return (
        "Welcome!\n\n"
        "Please confirm your e-mail address by opening this link:\n\n"
        f"{place.link(token)}\n\n"
        f"The link works once, for {LINK_AGE.days} days. If you did not sign up, ignore this mail.\n"
    )


def _known_text(place: Place) -> str:
    return (
        "Somebody, most likely you, signed up with this e-mail address. It already has an account:\n\n"
        f"{place.base_url}/sign-in\n\n"
        "If that was not you, there is nothing to do.\n"
    )
