"""The provider's pages on tenants."""

from __future__ import annotations

from flask import Blueprint, g, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import provider_page, tenant_page
from panel.errors import Invalid, NotFound
from panel.forms import Form
from panel.models import Tenant
from panel.paging import page_number
from panel.publishing import at_hand, words
from panel.publishing import service as publishing
from panel.scope import TenantScope, WideScope
from panel.signedin import actor
from panel.tenants import service
from panel.tenants.forms import Enter, Filter, Suspend

bp = Blueprint("tenants", __name__)
LIST, ROWS, DETAIL = "panel/tenants/page.html", "panel/tenants/_rows.html", "panel/tenants/detail.html"


@bp.get("/provider/")
@provider_page()
def provider_home(scope: WideScope) -> Response:
    return htmx.see_other(url_for("tenants.listing"))


@bp.get("/provider/tenants")
@provider_page()
def listing(scope: WideScope) -> str:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.listing(scope.session, wanted, page_number(request.args.get("page")))
    return htmx.page(LIST, ROWS, page=found, wanted=wanted)


@bp.get("/provider/tenants/<tenant_id>")
@provider_page()
def detail(scope: WideScope, tenant_id: str) -> str:
    tenant = service.find(scope.session, tenant_id)
    forms = {"suspend": Form.blank(Suspend), "enter": Form.blank(Enter)}
    return htmx.page(DETAIL, forms=forms, found=service.detail(scope.session, tenant))


@bp.post("/provider/tenants/<tenant_id>/suspend")
@provider_page(change="support")
def suspend(scope: WideScope, tenant_id: str) -> Response:
    tenant = service.find(scope.session, tenant_id)
    form = Form.submitted(Suspend, request.form)
    try:
        service.suspend(scope.session, actor(), form.valid(), tenant)
    except Invalid as error:
        return _again(scope, tenant_id, error, suspend=form)
    return _enforced(scope, tenant, "is suspended")


@bp.post("/provider/tenants/<tenant_id>/resume")
@provider_page(change="support")
def resume(scope: WideScope, tenant_id: str) -> Response:
    tenant = service.find(scope.session, tenant_id)
    try:
        service.resume(scope.session, actor(), tenant)
    except Invalid as error:
        return htmx.see_other(url_for("tenants.detail", tenant_id=tenant_id), str(error), "warning")
    return _enforced(scope, tenant, "is active again")


def _enforced(scope: WideScope, tenant: Tenant, state: str) -> Response:
    """Make the new state live, and say so."""
    tenant_id, said = tenant.id, f"{tenant.name} {state}."
    published = publishing.publish_status(scope.session, actor(), at_hand.delivery(), tenant_id, said)
    return htmx.see_other(url_for("tenants.detail", tenant_id=tenant_id), f"{said} {words.enforced(published)}")


@bp.post("/provider/tenants/<tenant_id>/enter")
@provider_page(change="support")
def enter(scope: WideScope, tenant_id: str) -> Response:
    tenant = service.find(scope.session, tenant_id)
    form = Form.submitted(Enter, request.form)
    try:
        service.enter(scope.session, actor(), form.valid(), tenant)
    except Invalid as error:
        return _again(scope, tenant_id, error, enter=form)
    return htmx.see_other(url_for("overview.page", slug=tenant.slug))


@bp.post("/t/<slug>/support/leave")
@tenant_page(change="read_only")
def leave(scope: TenantScope) -> Response:
    """Back from the tenant's pages to the provider's."""
    if g.support_session is None:
        raise NotFound("nobody is here as support")
    service.leave(scope.session, scope.actor, g.support_session)
    return htmx.see_other(url_for("tenants.detail", tenant_id=scope.tenant_id), "You have left the tenant.")


def _again(scope: WideScope, tenant_id: str, error: Invalid, **sent: Form[Suspend] | Form[Enter]) -> Response:
    next(iter(sent.values())).add(error)
    forms = {"suspend": Form.blank(Suspend), "enter": Form.blank(Enter), **sent}
    found = service.detail(scope.session, service.find(scope.session, tenant_id))
    return htmx.invalid(DETAIL, forms=forms, found=found)
