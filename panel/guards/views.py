"""A tenant's pages on its guards against toll fraud."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.guards import service
from panel.guards.forms import Filter, GuardInput, values_of
from panel.models import Guard
from panel.paging import page_number
from panel.scope import TenantScope

bp = Blueprint("guards", __name__)
PAGE, ROWS, EDIT = (f"panel/guards/{name}.html" for name in ("page", "_rows", "edit"))


@bp.get("/t/<slug>/guards")
@tenant_page()
def listing(scope: TenantScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    hours = {schedule.id: schedule.name for schedule in service.schedules(scope)}
    return htmx.page(PAGE, ROWS, page=found, wanted=wanted, hours=hours, provided=service.of_provider(scope))


@bp.get("/t/<slug>/guards/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    return htmx.page(EDIT, **_context(scope, None, Form.blank(GuardInput)))


@bp.post("/t/<slug>/guards/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(GuardInput, request.form)
    try:
        guard = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, None, form))
    return _to_list(scope, f"The guard for {guard.prefix} is saved.")


@bp.get("/t/<slug>/guards/<guard_id>")
@tenant_page()
def edit(scope: TenantScope, guard_id: str) -> str:
    guard = scope.get(Guard, guard_id)
    return htmx.page(EDIT, **_context(scope, guard, Form.blank(GuardInput, **values_of(guard))))


@bp.post("/t/<slug>/guards/<guard_id>")
@tenant_page()
def save(scope: TenantScope, guard_id: str) -> Response:
    guard, form = scope.get(Guard, guard_id), Form.submitted(GuardInput, request.form)
    try:
        service.update(scope, guard, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, scope.get(Guard, guard_id), form))
    return _to_list(scope, f"The guard for {guard.prefix} is saved.")


@bp.post("/t/<slug>/guards/<guard_id>/remove")
@tenant_page()
def remove(scope: TenantScope, guard_id: str) -> Response:
    guard = scope.get(Guard, guard_id)
    prefix = guard.prefix
    service.remove(scope, guard)
    return _to_list(scope, f"The guard for {prefix} is removed.")


def _context(scope: TenantScope, guard: Guard | None, form: Form[GuardInput]) -> dict[str, object]:
    return {
        "form": form,
        "guard": guard,
        "schedules": service.schedules(scope),
        "problems": service.warnings(scope, guard) if guard else [],
    }


def _to_list(scope: TenantScope, message: str) -> Response:
    return htmx.see_other(url_for("guards.listing", slug=scope.slug), message)
