"""Who is signed in: the cookie carries a random token, the database decides what it is worth."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from flask import Flask, request, url_for
from flask_login import LoginManager, UserMixin, current_user
from sqlmodel import select
from werkzeug.wrappers import Response

from panel import htmx
from panel.actor import Actor
from panel.db import get_session
from panel.models import Account, AccountSession
from panel.models.base import utc_now


class Visitor(UserMixin):  # type: ignore[misc]
    """A signed-in person, for flask-login: `id` is the session's token, never the account's id."""

    def __init__(self, token: str, account: Account) -> None:
        self.id = token
        self.account = account


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def account() -> Account:
    """The account that is signed in; only where a page requires one."""
    found: Account = current_user.account
    return found


def is_signed_in() -> bool:
    return bool(current_user.is_authenticated)


def actor(support: bool = False) -> Actor:
    """The one who makes this request."""
    address = request.remote_addr or ""
    if not is_signed_in():
        return Actor(None, "nobody", address)
    return Actor(account().id, account().email, address, support)


def to_sign_in() -> Response:
    """Send to the sign-in page, and back here afterwards where that makes sense."""
    here = request.full_path.rstrip("?") if request.method == "GET" and not htmx.wants_fragment() else None
    return htmx.see_other(url_for("auth.sign_in", next=None if here == "/" else here))


def safe_target(target: str | None) -> str | None:
    """`target` if it is a path of ours, never another site."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
        return None
    parts = urlsplit(target)
    return None if parts.scheme or parts.netloc else target


def init_app(app: Flask) -> None:
    login = LoginManager()
    login.session_protection = None  # the token in the database decides
    login.user_loader(_load)
    login.unauthorized_handler(to_sign_in)
    login.init_app(app)


def _load(token: str) -> Visitor | None:
    found = (
        get_session()
        .exec(
            select(Account)
            .join(AccountSession)
            .where(AccountSession.token_hash == hash_token(token), AccountSession.expires_at > utc_now())
        )
        .first()
    )
    return Visitor(token, found) if found else None
