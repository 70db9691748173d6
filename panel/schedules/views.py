"""A tenant's pages on its business hours."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.models import Schedule
from panel.paging import page_number
from panel.schedules import service
from panel.schedules.forms import Filter, ScheduleInput, values_of
from panel.scope import TenantScope

bp = Blueprint("schedules", __name__)
PAGE, ROWS, EDIT = (f"panel/schedules/{name}.html" for name in ("page", "_rows", "edit"))
USUAL_DAY = "09:00-17:00"
"""Proposed for Monday to Friday."""


@bp.get("/t/<slug>/hours")
@tenant_page()
def listing(scope: TenantScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    standings = {schedule.id: service.standing(schedule) for schedule in found.rows}
    return htmx.page(PAGE, ROWS, page=found, wanted=wanted, standings=standings)


@bp.get("/t/<slug>/hours/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    usual = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), USUAL_DAY)
    form = Form.blank(ScheduleInput, name="", time_zone=service.usual_zone(scope), **usual)
    return htmx.page(EDIT, form=form, schedule=None, zones=service.zones())


@bp.post("/t/<slug>/hours/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(ScheduleInput, request.form)
    try:
        schedule = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, form=form, schedule=None, zones=service.zones())
    return htmx.see_other(url_for("schedules.listing", slug=scope.slug), f"{schedule.name} is saved.")


@bp.get("/t/<slug>/hours/<schedule_id>")
@tenant_page()
def edit(scope: TenantScope, schedule_id: str) -> str:
    schedule = scope.get(Schedule, schedule_id)
    return htmx.page(EDIT, **_context(scope, schedule, Form.blank(ScheduleInput, **values_of(schedule))))


@bp.post("/t/<slug>/hours/<schedule_id>")
@tenant_page()
def save(scope: TenantScope, schedule_id: str) -> Response:
    schedule, form = scope.get(Schedule, schedule_id), Form.submitted(ScheduleInput, request.form)
    try:
        service.update(scope, schedule, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, scope.get(Schedule, schedule_id), form))
    return htmx.see_other(url_for("schedules.listing", slug=scope.slug), f"{schedule.name} is saved.")


@bp.post("/t/<slug>/hours/<schedule_id>/remove")
@tenant_page()
def remove(scope: TenantScope, schedule_id: str) -> Response:
    schedule = scope.get(Schedule, schedule_id)
    name = schedule.name
    try:
        service.remove(scope, schedule)
    except Invalid as error:
        form = Form.blank(ScheduleInput, **values_of(schedule))
        form.errors[""] = str(error)
        return htmx.invalid(EDIT, **_context(scope, schedule, form))
    return htmx.see_other(url_for("schedules.listing", slug=scope.slug), f"{name} is removed.")


def _context(scope: TenantScope, schedule: Schedule, form: Form[ScheduleInput]) -> dict[str, object]:
    return {
        "form": form,
        "schedule": schedule,
        "standing": service.standing(schedule),
        "used": service.users_of(scope, schedule),
        "problems": service.warnings(scope, schedule),
        "zones": service.zones(),
    }
