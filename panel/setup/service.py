"""Making the one-time link, and using it."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import Session, col, select, update

from panel import audit
from panel.actor import Actor
from panel.errors import Invalid, NotFound
from panel.models import Account, SetupToken
from panel.models.base import utc_now
from panel.passwords import hash_password
from panel.setup.forms import SetUp
from panel.tokens import hash_token, new_token

LINK_AGE = timedelta(days=1)


def is_needed(session: Session) -> bool:
    """Whether the installation still lacks an account of the provider."""
    admin = select(Account.id).where(Account.provider_role == "admin")
    return session.exec(admin).first() is None


def new_link(session: Session, actor: Actor) -> str | None:
    """The token of a fresh link, the ones before it being void; None when it is not needed any more."""
    if not is_needed(session):
        return None
    now = utc_now()
    session.exec(update(SetupToken).where(col(SetupToken.used_at).is_(None)).values(used_at=now))
    token, token_hash = new_token()
    session.add(SetupToken(token_hash=token_hash, expires_at=now + LINK_AGE))
    audit.record(session, actor, "setup.link_made")
    session.commit()
    return token


def waiting(session: Session, token: str) -> SetupToken:
    """The link, while it is good, else `NotFound`."""
    found = session.exec(
        select(SetupToken).where(
            SetupToken.token_hash == hash_token(token),
            col(SetupToken.used_at).is_(None),
            SetupToken.expires_at > utc_now(),
        )
    ).first()
    if found is None or not is_needed(session):
        raise NotFound("no such link")
    return found


def set_up(session: Session, actor: Actor, data: SetUp, token: str) -> Account:
    """Create the provider's first account. Whoever holds the link is at the machine, so the address
    needs no further proof. An account that has the address already is not taken over."""
    found = waiting(session, token)
    if session.exec(select(Account.id).where(Account.email == data.email)).first() is not None:
        raise Invalid(email="This address has an account already; choose another one for the provider's.")
    now = utc_now()
    used = session.exec(
        update(SetupToken).where(col(SetupToken.id) == found.id, col(SetupToken.used_at).is_(None)).values(used_at=now)
    )
    if used.rowcount != 1:
        raise NotFound("no such link")
    account = Account(
        email=data.email,
        name=data.name,
        password_hash=hash_password(data.password),
        email_verified_at=now,
        provider_role="admin",
    )
    session.add(account)
    audit.record(session, Actor(account.id, account.email, actor.ip), "setup.done", account)
    session.commit()
    return account
