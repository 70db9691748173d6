"""Sign-in, sign-out, and the way from the front door to one's own pages."""

from __future__ import annotations

from flask import Blueprint, request, session, url_for
from flask_login import current_user, logout_user
from werkzeug.wrappers import Response

from panel import htmx, limits
from panel.access import account_page, public_page
from panel.auth import service
from panel.auth.entry import home, let_in
from panel.auth.forms import SignIn
from panel.db import get_session
from panel.errors import Invalid
from panel.forms import Form
from panel.signedin import account, actor, is_signed_in, safe_target

bp = Blueprint("auth", __name__)
SIGN_IN_PAGE = "panel/auth/sign_in.html"


@bp.get("/")
@public_page
def front_door() -> Response:
    """Everybody's own first page."""
    return htmx.see_other(home() if is_signed_in() else url_for("auth.sign_in"))


@bp.get("/sign-in")
@public_page
def sign_in() -> str | Response:
    if is_signed_in():
        return htmx.see_other(home())
    return htmx.page(SIGN_IN_PAGE, form=Form.blank(SignIn), next=safe_target(request.args.get("next")))


@bp.post("/sign-in")
@public_page
@limits.limiter.limit(limits.SIGN_IN, key_func=limits.account_and_address, deduct_when=limits.failed)
@limits.limiter.limit(limits.SIGN_IN_ADDRESS, deduct_when=limits.failed)
def sign_in_send() -> Response:
    form = Form.submitted(SignIn, request.form)
    target = safe_target(request.form.get("next"))
    try:
        found = service.check_password(get_session(), actor(), form.valid())
    except Invalid as error:
        form.add(error)
        unverified = isinstance(error, service.UnverifiedError)
        return htmx.invalid(SIGN_IN_PAGE, form=form, next=target, unverified=unverified)
    let_in(found)
    return htmx.see_other(target or home())


@bp.post("/sign-out")
@account_page
def sign_out() -> Response:
    service.close_session(get_session(), actor(), current_user.id)
    logout_user()
    session.clear()
    return htmx.see_other(url_for("auth.sign_in"), "You are signed out.")


@bp.get("/organisations")
@account_page
def organisations() -> str:
    """All tenants of the account, where it has more than one or none."""
    return htmx.page("panel/auth/organisations.html", tenants=service.tenants_of(get_session(), account()))
