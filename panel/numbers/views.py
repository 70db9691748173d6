"""A tenant's pages on its numbers and outbound rules."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.models import Number, OutboundRule
from panel.numbers import service
from panel.numbers.forms import (
    Filter,
    NumberInput,
    OutsideInput,
    RuleInput,
    TryInput,
    values_of,
    values_of_rule,
)
from panel.numbers.tried import Tried, tried
from panel.paging import page_number
from panel.scope import TenantScope

bp = Blueprint("numbers", __name__)
PAGE, ROWS, EDIT, RULE, OUTSIDE, TRIED = (
    f"panel/numbers/{name}.html" for name in ("page", "_rows", "edit", "rule", "outside", "_tried")
)


@bp.get("/t/<slug>/numbers")
@tenant_page()
def listing(scope: TenantScope) -> str:
    """Numbers and rules; HTMX asks for the rows, or (with `number`) for what becomes of a number."""
    trying = Form.submitted(TryInput, request.args)
    if htmx.wants_fragment() and "number" in request.args:
        return htmx.page(PAGE, TRIED, trying=trying, tried=_tried(scope, trying), asked=True)
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    targets = {row.id: row for row in (*service.users(scope), *service.groups(scope))}
    hours = {schedule.id: schedule.name for schedule in service.schedules(scope)}
    if htmx.wants_fragment():
        return htmx.page(PAGE, ROWS, page=found, wanted=wanted, targets=targets, hours=hours)
    return htmx.page(
        PAGE,
        page=found,
        wanted=wanted,
        targets=targets,
        hours=hours,
        rules=service.rules(scope),
        names={connection.id: connection.name for connection in service.connections(scope)},
        trying=trying,
        tried=_tried(scope, trying),
    )


def _tried(scope: TenantScope, trying: Form[TryInput]) -> Tried | None:
    return tried(scope, trying.data.number) if trying.data and trying.data.number else None


@bp.get("/t/<slug>/numbers/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    return htmx.page(EDIT, **_context(scope, None, Form.blank(NumberInput)))


@bp.post("/t/<slug>/numbers/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(NumberInput, request.form)
    try:
        number = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, None, form))
    return _to_list(scope, f"{number.number} is saved.")


@bp.get("/t/<slug>/numbers/<number_id>")
@tenant_page()
def edit(scope: TenantScope, number_id: str) -> str:
    number = scope.get(Number, number_id)
    return htmx.page(EDIT, **_context(scope, number, Form.blank(NumberInput, **values_of(number))))


@bp.post("/t/<slug>/numbers/<number_id>")
@tenant_page()
def save(scope: TenantScope, number_id: str) -> Response:
    number, form = scope.get(Number, number_id), Form.submitted(NumberInput, request.form)
    try:
        service.update(scope, number, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, **_context(scope, scope.get(Number, number_id), form))
    return _to_list(scope, f"{number.number} is saved.")


@bp.post("/t/<slug>/numbers/<number_id>/remove")
@tenant_page()
def remove(scope: TenantScope, number_id: str) -> Response:
    number = scope.get(Number, number_id)
    text = number.number
    service.remove(scope, number)
    return _to_list(scope, f"{text} is removed.")


@bp.get("/t/<slug>/outbound/new")
@tenant_page("admin")
def new_rule(scope: TenantScope) -> str:
    form = Form.blank(RuleInput, position=service.next_position(scope))
    return htmx.page(RULE, form=form, rule=None, connections=service.connections(scope))


@bp.post("/t/<slug>/outbound/new")
@tenant_page()
def create_rule(scope: TenantScope) -> Response:
    form = Form.submitted(RuleInput, request.form)
    try:
        service.create_rule(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(RULE, form=form, rule=None, connections=service.connections(scope))
    return _to_list(scope, "The rule is saved.")


@bp.get("/t/<slug>/outbound/<rule_id>")
@tenant_page()
def edit_rule(scope: TenantScope, rule_id: str) -> str:
    rule = scope.get(OutboundRule, rule_id)
    form = Form.blank(RuleInput, **values_of_rule(rule))
    return htmx.page(RULE, form=form, rule=rule, connections=service.connections(scope))


@bp.post("/t/<slug>/outbound/<rule_id>")
@tenant_page()
def save_rule(scope: TenantScope, rule_id: str) -> Response:
    rule, form = scope.get(OutboundRule, rule_id), Form.submitted(RuleInput, request.form)
    try:
        service.update_rule(scope, rule, form.valid())
    except Invalid as error:
        form.add(error)
        rule = scope.get(OutboundRule, rule_id)
        return htmx.invalid(RULE, form=form, rule=rule, connections=service.connections(scope))
    return _to_list(scope, "The rule is saved.")


@bp.get("/t/<slug>/outbound/all")
@tenant_page("admin")
def outside(scope: TenantScope) -> str:
    """What holds for all calls to the outside."""
    tenant = scope.tenant
    values = {"default_connection_id": tenant.default_connection_id or "", "caller_id": tenant.caller_id}
    form = Form.blank(OutsideInput, **values)
    return htmx.page(OUTSIDE, form=form, connections=service.connections(scope))


@bp.post("/t/<slug>/outbound/all")
@tenant_page()
def save_outside(scope: TenantScope) -> Response:
    form = Form.submitted(OutsideInput, request.form)
    try:
        service.update_outside(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(OUTSIDE, form=form, connections=service.connections(scope))
    return _to_list(scope, "This is saved for all calls to the outside.")


@bp.post("/t/<slug>/outbound/<rule_id>/remove")
@tenant_page()
def remove_rule(scope: TenantScope, rule_id: str) -> Response:
    service.remove_rule(scope, scope.get(OutboundRule, rule_id))
    return _to_list(scope, "The rule is removed.")


def _context(scope: TenantScope, number: Number | None, form: Form[NumberInput]) -> dict[str, object]:
    return {
        "form": form,
        "number": number,
        "users": service.users(scope),
        "groups": service.groups(scope),
        "schedules": service.schedules(scope),
    }


def _to_list(scope: TenantScope, message: str) -> Response:
    return htmx.see_other(url_for("numbers.listing", slug=scope.slug), message)
