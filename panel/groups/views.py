"""A tenant's pages on its ring groups."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.groups import service
from panel.groups.forms import Filter, GroupInput, values_of
from panel.models import Group
from panel.paging import page_number
from panel.scope import TenantScope

bp = Blueprint("groups", __name__)
PAGE, ROWS, EDIT, EXTENSION = (
    "panel/groups/page.html",
    "panel/groups/_rows.html",
    "panel/groups/edit.html",
    "panel/users/_extension.html",
)


@bp.get("/t/<slug>/groups")
@tenant_page()
def listing(scope: TenantScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    return htmx.page(PAGE, ROWS, page=found, wanted=wanted, members=service.members_of(scope, found.rows))


@bp.get("/t/<slug>/groups/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    """The form; or for HTMX the verdict on the extension that is being typed."""
    if htmx.wants_fragment() and "extension" in request.args:
        return _verdict(scope, "")
    return htmx.page(EDIT, **_context(scope, None, Form.blank(GroupInput)))


@bp.post("/t/<slug>/groups/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(GroupInput, request.form)
    try:
        group = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, None, form))
    return htmx.see_other(url_for("groups.listing", slug=scope.slug), f"{group.extension} is saved.")


@bp.get("/t/<slug>/groups/<group_id>")
@tenant_page()
def edit(scope: TenantScope, group_id: str) -> str:
    group = scope.get(Group, group_id)
    if htmx.wants_fragment() and "extension" in request.args:
        return _verdict(scope, group.id)
    form = Form.blank(GroupInput, **values_of(group, service.extensions_of(scope, group)))
    return htmx.page(EDIT, **_context(scope, group, form))


@bp.post("/t/<slug>/groups/<group_id>")
@tenant_page()
def save(scope: TenantScope, group_id: str) -> Response:
    group, form = scope.get(Group, group_id), Form.submitted(GroupInput, request.form)
    try:
        service.update(scope, group, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, scope.get(Group, group_id), form))
    return htmx.see_other(url_for("groups.listing", slug=scope.slug), f"{group.extension} is saved.")


@bp.post("/t/<slug>/groups/<group_id>/remove")
@tenant_page()
def remove(scope: TenantScope, group_id: str) -> Response:
    group = scope.get(Group, group_id)
    extension = group.extension
    try:
        service.remove(scope, group)
    except Invalid as error:
        form = Form.blank(GroupInput, **values_of(group, service.extensions_of(scope, group)))
        form.errors[""] = str(error)
        return htmx.invalid(EDIT, **_context(scope, group, form))
    return htmx.see_other(url_for("groups.listing", slug=scope.slug), f"{extension} is removed.")


def _verdict(scope: TenantScope, group_id: str) -> str:
    extension = request.args["extension"].strip()
    problem = service.extension_problem(scope, extension, group_id) if extension else ""
    return htmx.page(EXTENSION, EXTENSION, extension=extension, problem=problem)


def _context(scope: TenantScope, group: Group | None, form: Form[GroupInput]) -> dict[str, object]:
    return {
        "form": form,
        "group": group,
        "users": service.users(scope),
        "schedules": service.schedules(scope),
        "problems": service.warnings(scope, group) if group else [],
    }
