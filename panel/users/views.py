"""A tenant's pages on its users."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, request, session, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.models import User
from panel.paging import page_number
from panel.publishing import at_hand, live
from panel.scope import TenantScope
from panel.users import service
from panel.users.forms import Filter, UserInput, account_inputs, sent_values, values_of
from panel.users.phone import PhoneSettings, qr_code

bp = Blueprint("users", __name__)
PAGE, ROWS, FORM, EDIT, EXTENSION, PHONE, STATE = (
    f"panel/users/{name}.html" for name in ("page", "_rows", "new", "edit", "_extension", "phone", "_state")
)
ONCE = "sip_password_once"
"""In the browser's session: the user whose new password the next page shows, and no page after it."""


@bp.get("/t/<slug>/users")
@tenant_page()
def listing(scope: TenantScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    return htmx.page(PAGE, ROWS, page=found, wanted=wanted, state=live.registrations(scope))


@bp.get("/t/<slug>/users/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    """The form; or for HTMX the verdict on the extension that is being typed."""
    if htmx.wants_fragment() and "extension" in request.args:
        return _verdict(scope, "")
    return htmx.page(FORM, **_new_context(scope, Form.blank(UserInput)))


@bp.post("/t/<slug>/users/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form, connections = Form.submitted(UserInput, request.form), service.connections(scope)
    accounts = account_inputs(request.form, connections)
    try:
        user = service.create(scope, form.valid(), accounts)
    except Invalid as error:
        form.add(error)
        form.values.update(sent_values(accounts))
        return htmx.invalid(FORM, **_new_context(scope, form))
    session[ONCE] = user.id
    return htmx.see_other(url_for("users.phone", slug=scope.slug, user_id=user.id), f"{user.extension} is saved.")


@bp.get("/t/<slug>/users/<user_id>")
@tenant_page()
def edit(scope: TenantScope, user_id: str) -> str:
    user = scope.get(User, user_id)
    if htmx.wants_fragment() and "extension" in request.args:
        return _verdict(scope, user.id)
    form = Form.blank(UserInput, **values_of(user, service.accounts(scope, user)))
    return _edit_page(scope, user, form)


@bp.post("/t/<slug>/users/<user_id>")
@tenant_page()
def save(scope: TenantScope, user_id: str) -> Response:
    user = scope.get(User, user_id)
    form, accounts = Form.submitted(UserInput, request.form), account_inputs(request.form, service.connections(scope))
    try:
        service.update(scope, user, form.valid(), accounts)
    except Invalid as error:
        form.add(error)
        saved = values_of(user, service.accounts(scope, user))
        form.values = {**saved, **form.values, **sent_values(accounts)}
        return htmx.invalid(EDIT, **_edit_context(scope, user, form))
    return htmx.see_other(url_for("users.edit", slug=scope.slug, user_id=user.id), f"{user.extension} is saved.")


@bp.post("/t/<slug>/users/<user_id>/remove")
@tenant_page()
def remove(scope: TenantScope, user_id: str) -> Response:
    user = scope.get(User, user_id)
    extension = user.extension
    try:
        service.remove(scope, user)
    except Invalid as error:
        form = Form.blank(UserInput, **values_of(user, service.accounts(scope, user)))
        form.errors[""] = str(error)
        return htmx.invalid(EDIT, **_edit_context(scope, user, form))
    return htmx.see_other(url_for("users.listing", slug=scope.slug), f"{extension} is removed.")


@bp.post("/t/<slug>/users/<user_id>/password")
@tenant_page()
def password(scope: TenantScope, user_id: str) -> Response:
    user = service.new_password(scope, scope.get(User, user_id))
    session[ONCE] = user.id
    return htmx.see_other(url_for("users.phone", slug=scope.slug, user_id=user.id))


@bp.get("/t/<slug>/users/<user_id>/phone")
@tenant_page()
def phone(scope: TenantScope, user_id: str) -> str:
    """Phone settings; HTMX asks for the state of the user's phones and registrations alone."""
    user = scope.get(User, user_id)
    state = live.registrations(scope).of_user(user.id)
    names = {connection.id: connection.name for connection in service.connections(scope)}
    if htmx.wants_fragment():
        return htmx.page(PHONE, STATE, user=user, state=state, names=names)
    shown = session.pop(ONCE, "") == user.id and scope.may("admin")
    settings = _settings(scope, user, service.password_of(user) if shown else "")
    return htmx.page(PHONE, user=user, state=state, names=names, settings=settings, code=qr_code(settings.uri))


def _settings(scope: TenantScope, user: User, password: str) -> PhoneSettings:
    config = at_hand.config()
    server = config.edge_hosts[0] if config.edge_hosts else service.primary_domain(scope)
    ours = PhoneSettings(server, config.sip_port, "udp", user.extension, service.primary_domain(scope), password)
    relayed = service.relayed_account(scope, user)
    if relayed is None:
        return ours
    connection, account = relayed
    sign_in = account.auth_username or account.username
    return replace(ours, sign_in=sign_in, password="", pbx=connection.name)


def _verdict(scope: TenantScope, user_id: str) -> str:
    extension = request.args["extension"].strip()
    problem = service.extension_problem(scope, extension, user_id) if extension else ""
    return htmx.page(EXTENSION, EXTENSION, extension=extension, problem=problem)


def _edit_page(scope: TenantScope, user: User, form: Form[UserInput]) -> str:
    return htmx.page(EDIT, **_edit_context(scope, user, form))


def _new_context(scope: TenantScope, form: Form[UserInput]) -> dict[str, object]:
    return {"form": form, "connections": service.connections(scope), "schedules": service.schedules(scope)}


def _edit_context(scope: TenantScope, user: User, form: Form[UserInput]) -> dict[str, object]:
    return {
        **_new_context(scope, form),
        "user": user,
        "problems": service.warnings(scope, user),
    }
