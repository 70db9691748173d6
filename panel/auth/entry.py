"""Letting a person in, and where its own pages begin; for the pages that sign people in."""

from __future__ import annotations

from flask import request, session, url_for
from flask_login import login_user

from panel.auth import service
from panel.db import get_session
from panel.models import Account
from panel.signedin import Visitor, account, actor


def let_in(person: Account) -> None:
    """Start a fresh session for the browser: nothing of the one before it, CSRF token included, is kept."""
    token = service.open_session(get_session(), actor(), person, request.headers.get("User-Agent", ""))
    session.clear()
    login_user(Visitor(token, person))


def home() -> str:
    """Where the account's work begins."""
    tenants = service.tenants_of(get_session(), account())
    if account().provider_role is not None and not tenants:
        return url_for("tenants.listing")
    if len(tenants) == 1:
        return url_for("overview.page", slug=tenants[0][0].slug)
    return url_for("auth.organisations")
