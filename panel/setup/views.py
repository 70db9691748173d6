"""The page behind the one-time link."""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.wrappers import Response

from panel import htmx, limits
from panel.access import public_page
from panel.auth.entry import home, let_in
from panel.db import get_session
from panel.errors import Invalid
from panel.forms import Form
from panel.setup import service
from panel.setup.forms import SetUp
from panel.signedin import actor

bp = Blueprint("setup", __name__)
PAGE = "panel/setup/page.html"


@bp.get("/setup/<token>")
@public_page
@limits.limiter.limit(limits.LINK)
def set_up(token: str) -> str:
    service.waiting(get_session(), token)
    return htmx.page(PAGE, form=Form.blank(SetUp, email=""), token=token)


@bp.post("/setup/<token>")
@public_page
@limits.limiter.limit(limits.LINK)
def set_up_send(token: str) -> Response:
    form = Form.submitted(SetUp, request.form)
    service.waiting(get_session(), token)
    try:
        account = service.set_up(get_session(), actor(), form.valid(), token)
    except Invalid as error:
        form.add(error)
        return htmx.invalid(PAGE, form=form, token=token)
    let_in(account)
    return htmx.see_other(home(), "Welcome! This installation is yours.")
