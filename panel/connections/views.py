"""A tenant's pages on its connections."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.connections import service
from panel.connections.forms import ConnectionInput, Switch, values_of
from panel.errors import Invalid
from panel.forms import Form
from panel.models import Connection
from panel.publishing import live
from panel.scope import TenantScope
from sipd.routing.model import TRANSPORTS

bp = Blueprint("connections", __name__)
PAGE, ROWS, NEW, EDIT, MODE, PREVIEW, STATE = (
    f"panel/connections/{name}.html" for name in ("page", "_rows", "new", "edit", "_mode", "_preview", "_state")
)
UNNAMED = "New connection"
"""Until it has a name."""


@bp.get("/t/<slug>/connections")
@tenant_page()
def listing(scope: TenantScope) -> str:
    return htmx.page(PAGE, ROWS, connections=service.listing(scope), state=live.registrations(scope))


@bp.get("/t/<slug>/connections/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    """The form; or for HTMX what the values that are being typed mean on the wire."""
    if htmx.wants_fragment():
        return _preview(scope)
    form = Form.blank(ConnectionInput, name="" if service.listing(scope) else "Main PBX")
    return htmx.page(NEW, form=form, wires=_wires(scope, form))


@bp.post("/t/<slug>/connections/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(ConnectionInput, request.form)
    try:
        connection = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(NEW, form=form, wires=_wires(scope, form))
    return _to(scope, connection, f"{connection.name} is saved. Now decide on multi-tenant mode.")


@bp.get("/t/<slug>/connections/<connection_id>")
@tenant_page()
def edit(scope: TenantScope, connection_id: str) -> str:
    """The form; HTMX asks for the registrations, or (with values) for what they mean on the wire."""
    connection = scope.get(Connection, connection_id)
    if htmx.wants_fragment() and "host" in request.args:
        return _preview(scope, connection.id)
    if htmx.wants_fragment():
        return htmx.page(EDIT, STATE, connection=connection, **_state(scope, connection))
    form = Form.blank(ConnectionInput, **values_of(connection))
    return htmx.page(EDIT, **_edit_context(scope, connection, form))


@bp.post("/t/<slug>/connections/<connection_id>")
@tenant_page()
def save(scope: TenantScope, connection_id: str) -> Response:
    connection, form = scope.get(Connection, connection_id), Form.submitted(ConnectionInput, request.form)
    try:
        service.update(scope, connection, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_edit_context(scope, connection, form))
    return _to(scope, connection, f"{connection.name} is saved.")


@bp.post("/t/<slug>/connections/<connection_id>/mode")
@tenant_page()
def mode(scope: TenantScope, connection_id: str) -> ResponseReturnValue:
    """The switch: for HTMX its card comes back, and with it the mark of what is not yet live."""
    wanted = Form.submitted(Switch, request.form).valid()
    connection = service.set_mode(scope, scope.get(Connection, connection_id), wanted.on)
    said = f"Multi-tenant mode is {'on' if wanted.on else 'off'} for {connection.name}. It is not live yet."
    if htmx.wants_fragment():
        return htmx.page(MODE, MODE, shown=service.shown(scope, connection), swapped=True)
    return _to(scope, connection, said)


@bp.post("/t/<slug>/connections/<connection_id>/renew")
@tenant_page()
def renew(scope: TenantScope, connection_id: str) -> Response:
    connection = scope.get(Connection, connection_id)
    try:
        count = live.renew(scope, connection.id)
    except Invalid as error:
        return _to(scope, connection, str(error), "danger")
    return _to(scope, connection, f"{count} registration{'' if count == 1 else 's'} will be sent again now.")


@bp.post("/t/<slug>/connections/<connection_id>/remove")
@tenant_page()
def remove(scope: TenantScope, connection_id: str) -> Response:
    connection = scope.get(Connection, connection_id)
    name = connection.name
    try:
        service.remove(scope, connection)
    except Invalid as error:
        form = Form.blank(ConnectionInput, **values_of(connection))
        form.errors[""] = str(error)
        return htmx.invalid(EDIT, **_edit_context(scope, connection, form))
    return htmx.see_other(url_for("connections.listing", slug=scope.slug), f"{name} is removed.")


def _to(scope: TenantScope, connection: Connection, message: str, kind: str = "success") -> Response:
    address = url_for("connections.edit", slug=scope.slug, connection_id=connection.id)
    return htmx.see_other(address, message, kind)


def _preview(scope: TenantScope, connection_id: str = "") -> str:
    """The same checks as saving and publishing, on what is being typed."""
    given = {**request.args, "name": request.args.get("name", "").strip() or UNNAMED}
    form = Form.submitted(ConnectionInput, MultiDict(given))
    problems = service.problems_of_draft(scope, form.data, connection_id) if form.data else []
    return htmx.page(PREVIEW, PREVIEW, form=form, wires=_wires(scope, form), problems=problems)


def _wires(scope: TenantScope, form: Form[ConnectionInput]) -> tuple[object, object]:
    registrar = str(form.values.get("registrar_domain") or form.values.get("host") or "pbx.example")
    transport = str(form.values.get("transport"))
    return service.both(scope, registrar[:253], transport if transport in TRANSPORTS else "udp")


def _state(scope: TenantScope, connection: Connection) -> dict[str, object]:
    state = live.registrations(scope).of_connection(connection.id)
    extensions = service.users_by_id(scope)
    rows = sorted(state.upstream, key=lambda row: extensions.get(row.user, ""))
    return {"state": state, "rows": rows, "extensions": extensions}


def _edit_context(scope: TenantScope, connection: Connection, form: Form[ConnectionInput]) -> dict[str, object]:
    return {
        "form": form,
        "connection": connection,
        "shown": service.shown(scope, connection),
        **_state(scope, connection),
    }
