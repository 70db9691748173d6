"""Signing in and out: a row for each signed-in browser, so that leaving really ends it."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlmodel import Session, col, delete, select

from panel import audit
from panel.actor import Actor
from panel.auth.forms import SignIn
from panel.errors import Invalid
from panel.models import Account, AccountSession, Membership, Tenant
from panel.models.base import utc_now
from panel.passwords import hash_password, is_outdated, matches
from panel.scope import system_scope
from panel.signedin import hash_token

SESSION_AGE = timedelta(days=7)
MAX_SESSIONS = 20
"""Signed-in browsers of one account; the oldest beyond that are signed out."""
TOKEN_BYTES = 32
WRONG = "This e-mail address and password do not belong together."


class UnverifiedError(Invalid):
    """The password is right, but the e-mail address was never confirmed."""


def check_password(session: Session, actor: Actor, data: SignIn) -> Account:
    """The account, if the password is right; `Invalid` says nothing about which of the two was wrong."""
    account = session.exec(select(Account).where(Account.email == data.email.lower())).first()
    if not matches(account.password_hash if account else None, data.password) or account is None:
        guest = Actor(account.id if account else None, data.email, actor.ip)
        audit.record(session, guest, "account.sign_in_failed", account)
        session.commit()  # for an address without account as well, so that both take as long
        raise Invalid(password=WRONG)
    if account.email_verified_at is None:
        raise UnverifiedError(email="Please confirm your e-mail address first: open the link in our mail to you.")
    if is_outdated(account.password_hash):
        account.password_hash = hash_password(data.password)
    return account


def open_session(session: Session, actor: Actor, account: Account, user_agent: str = "") -> str:
    """Sign in; returns the token for the cookie."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    now = utc_now()
    session.add(
        AccountSession(
            account_id=account.id,
            token_hash=hash_token(token),
            ip=actor.ip,
            user_agent=user_agent[:200],
            expires_at=now + SESSION_AGE,
        )
    )
    session.flush()
    _drop_old_sessions(session, account)
    audit.record(session, Actor(account.id, account.email, actor.ip), "account.signed_in", account)
    session.commit()
    return token


def close_session(session: Session, actor: Actor, token: str) -> None:
    """Sign out: the token is worth nothing from here on."""
    session.exec(delete(AccountSession).where(col(AccountSession.token_hash) == hash_token(token)))
    audit.record(session, actor, "account.signed_out")
    session.commit()


def tenants_of(session: Session, account: Account) -> list[tuple[Tenant, str]]:
    """The tenants that the account is a member of, with its role there, by name."""
    with system_scope(session, "list the tenants of an account"):
        rows = session.exec(
            select(Tenant, Membership.role)
            .join(Membership)
            .where(Membership.account_id == account.id)
            .order_by(Tenant.name)
        ).all()
        found = [(tenant, role) for tenant, role in rows]
        for tenant, _ in found:
            session.expunge(tenant)
    return found


def _drop_old_sessions(session: Session, account: Account) -> None:
    own = select(AccountSession).where(AccountSession.account_id == account.id)
    newest_first = session.exec(own.order_by(col(AccountSession.created_at).desc())).all()
    for number, row in enumerate(newest_first):
        if number >= MAX_SESSIONS or row.expires_at <= utc_now():
            session.delete(row)
