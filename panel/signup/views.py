"""The sign-up page with its live check, "look into your mail", and the link from the mail."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, request, session, url_for
from werkzeug.wrappers import Response

from panel import htmx, limits
from panel.access import public_page
from panel.auth.entry import home, let_in
from panel.config import Config
from panel.db import get_session
from panel.errors import Invalid, NotFound
from panel.forms import Form
from panel.signedin import actor, is_signed_in
from panel.signup import names, service
from panel.signup.forms import Resend, SignUp

bp = Blueprint("signup", __name__)
PAGE, ADDRESS, SENT, VERIFY, EXPIRED = (
    f"panel/signup/{name}.html" for name in ("page", "_address", "sent", "verify", "expired")
)
PENDING = "signup_account"
"""In the browser's session: the account that signed up here and still waits for its link."""


def place() -> service.Place:
    config: Config = current_app.extensions["tenantry.config"]
    return service.Place(config.platform_domain, config.base_url)


@bp.get("/signup")
@public_page
@limits.limiter.limit(limits.CHECK)
def sign_up() -> str | Response:
    """The page; or for HTMX the verdict on the name that is being typed."""
    if htmx.wants_fragment():
        return htmx.page(PAGE, ADDRESS, **_address())
    if is_signed_in():
        return htmx.see_other(home())
    return htmx.page(PAGE, form=Form.blank(SignUp, organisation="", slug="", email=""), place=place())


@bp.post("/signup")
@public_page
@limits.limiter.limit(limits.SIGN_UP)
def sign_up_send() -> Response:
    form = Form.submitted(SignUp, request.form)
    try:
        account_id = service.sign_up(get_session(), actor(), form.valid(), place())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(PAGE, form=form, place=place())
    session.clear()
    if account_id is not None:
        session[PENDING] = account_id
    return htmx.see_other(url_for("signup.sent"))


@bp.get("/signup/sent")
@public_page
def sent() -> str:
    return htmx.page(SENT, form=Form.blank(Resend, email=""))


@bp.post("/signup/sent")
@public_page
@limits.limiter.limit(limits.SIGN_UP)
def sent_again() -> Response:
    form = Form.submitted(Resend, request.form)
    try:
        service.resend(get_session(), actor(), form.valid(), place())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(SENT, form=form)
    return htmx.see_other(url_for("signup.sent"), "If that address waits for a link, a new one is on its way.")


@bp.get("/verify/<token>")
@public_page
@limits.limiter.limit(limits.LINK)
def verify(token: str) -> str | tuple[str, int]:
    """Opening the link changes nothing yet: mail scanners open links too."""
    try:
        found = service.waiting(get_session(), token)
    except NotFound:
        return htmx.page(EXPIRED, form=Form.blank(Resend, email="")), 404
    return htmx.page(VERIFY, token=token, email=found.email)


@bp.post("/verify/<token>")
@public_page
@limits.limiter.limit(limits.LINK)
def verify_send(token: str) -> Response | tuple[str, int]:
    try:
        account = service.verify(get_session(), actor(), token)
    except NotFound:
        return htmx.page(EXPIRED, form=Form.blank(Resend, email="")), 404
    if session.get(PENDING) == account.id:
        let_in(account)
        return htmx.see_other(home(), "Your e-mail address is confirmed. Welcome!")
    return htmx.see_other(url_for("auth.sign_in"), "Your e-mail address is confirmed. You can sign in now.")


def _address() -> dict[str, Any]:
    """What the live check shows: the short name, proposed from the organisation's name until it is edited."""
    slug, proposed = request.args.get("slug", "").strip().lower(), request.args.get("proposed", "")
    if "organisation" in request.args and slug == proposed:
        organisation = request.args["organisation"]
        slug = proposed = service.proposal(get_session(), place(), organisation) or names.propose(organisation)
    verdict = service.availability(get_session(), place(), slug) if slug else None
    return {"form": Form.blank(SignUp, slug=slug), "verdict": verdict, "place": place(), "proposed": proposed}
