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
from panel.numbers.forms import Filter, NumberInput, RuleInput
from panel.paging import page_number
from panel.scope import TenantScope

bp = Blueprint("numbers", __name__)
PAGE, ROWS, EDIT, RULE = (f"panel/numbers/{name}.html" for name in ("page", "_rows", "edit", "rule"))


@bp.get("/t/<slug>/numbers")
@tenant_page()
def listing(scope: TenantScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    users = {user.id: user for user in service.users(scope)}
    if htmx.wants_fragment():
        return htmx.page(PAGE, ROWS, page=found, wanted=wanted, users=users)
    names = {connection.id: connection.name for connection in service.connections(scope)}
    return htmx.page(PAGE, page=found, wanted=wanted, users=users, rules=service.rules(scope), names=names)


@bp.get("/t/<slug>/numbers/new")
@tenant_page("admin")
def new(scope: TenantScope) -> str:
    return htmx.page(EDIT, form=Form.blank(NumberInput), number=None, users=service.users(scope))


@bp.post("/t/<slug>/numbers/new")
@tenant_page()
def create(scope: TenantScope) -> Response:
    form = Form.submitted(NumberInput, request.form)
    try:
        number = service.create(scope, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, form=form, number=None, users=service.users(scope))
    return _to_list(scope, f"{number.number} is saved.")


@bp.get("/t/<slug>/numbers/<number_id>")
@tenant_page()
def edit(scope: TenantScope, number_id: str) -> str:
    number = scope.get(Number, number_id)
    values = {"number": number.number, "user_id": number.user_id or "", "forward": number.forward}
    form = Form.blank(NumberInput, **values)
    return htmx.page(EDIT, form=form, number=number, users=service.users(scope))


@bp.post("/t/<slug>/numbers/<number_id>")
@tenant_page()
def save(scope: TenantScope, number_id: str) -> Response:
    number, form = scope.get(Number, number_id), Form.submitted(NumberInput, request.form)
    try:
        service.update(scope, number, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(EDIT, form=form, number=number, users=service.users(scope))
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
    form = Form.blank(RuleInput, **{name: getattr(rule, name) for name in RuleInput.model_fields})
    return htmx.page(RULE, form=form, rule=rule, connections=service.connections(scope))


@bp.post("/t/<slug>/outbound/<rule_id>")
@tenant_page()
def save_rule(scope: TenantScope, rule_id: str) -> Response:
    rule, form = scope.get(OutboundRule, rule_id), Form.submitted(RuleInput, request.form)
    try:
        service.update_rule(scope, rule, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(RULE, form=form, rule=rule, connections=service.connections(scope))
    return _to_list(scope, "The rule is saved.")


@bp.post("/t/<slug>/outbound/<rule_id>/remove")
@tenant_page()
def remove_rule(scope: TenantScope, rule_id: str) -> Response:
    service.remove_rule(scope, scope.get(OutboundRule, rule_id))
    return _to_list(scope, "The rule is removed.")


def _to_list(scope: TenantScope, message: str) -> Response:
    return htmx.see_other(url_for("numbers.listing", slug=scope.slug), message)
