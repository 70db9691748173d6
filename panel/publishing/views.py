"""Publishing: a tenant's own page, and the provider's publications."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.routing import BuildError
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import provider_page, tenant_page
from panel.errors import Invalid
from panel.forms import Form
from panel.paging import page_number
from panel.publishing import at_hand, diff, history, service, words
from panel.publishing.forms import Publish
from panel.scope import TenantScope, WideScope
from panel.secrets import vault
from panel.signedin import actor
from sipd.routing.problem import Problem

bp = Blueprint("publishing", __name__)
TENANT, PAGE, ROWS, DETAIL = (f"panel/publishing/{name}.html" for name in ("tenant", "page", "_rows", "detail"))
EDITORS = {
    "users": ("users.edit", "user_id"),
    "groups": ("groups.edit", "group_id"),
    "schedules": ("schedules.edit", "schedule_id"),
    "connections": ("connections.edit", "connection_id"),
    "numbers": ("numbers.edit", "number_id"),
    "outbound": ("numbers.edit_rule", "rule_id"),
}
"""Where a problem is mended, by the routing's collection."""
FORM_FIELDS = {name: f"{name}_id" for name in ("user", "group", "schedule", "connection", "fallback")}
"""Where a form names a field otherwise than the routing: it holds an id."""
OF_TENANT = {"caller_id": "numbers.outside", "default_connection": "numbers.outside"}
"""The same for fields of the tenant itself."""


@bp.app_template_global()
def mended_at(problem: Problem, slug: str) -> str:
    """Address of the form with the field that causes a problem; empty if there is none."""
    _, collection, item, field = problem.where if len(problem.where) == 4 else ("", "", "", "")
    if not collection and field in OF_TENANT:
        return url_for(OF_TENANT[field], slug=slug, _anchor=f"field-{field}")
    if collection not in EDITORS or not item:
        return ""
    endpoint, argument = EDITORS[collection]
    bare = field.partition(".")[0]
    try:
        return url_for(endpoint, _anchor=f"field-{FORM_FIELDS.get(bare, bare)}", **{"slug": slug, argument: item})  # type: ignore[arg-type]
    except BuildError:
        return ""


@bp.app_template_filter()
def capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


@bp.app_template_filter()
def milliseconds(ms: float) -> str:
    return words.milliseconds(ms)


@bp.get("/t/<slug>/publish")
@tenant_page()
def page(scope: TenantScope) -> str:
    draft = service.draft_of(scope, vault(), at_hand.config())
    lines = history.of_tenant(scope.session, scope.tenant_id)
    changes = [change for change in draft.changes if change.tenant_id == scope.tenant_id]
    names = diff.names_of(draft.tenants.get(scope.tenant_id))
    # The page itself says what is not yet live: no banner above it that leads here.
    return htmx.page(TENANT, draft=draft, changes=changes, names=names, lines=lines, unpublished=lambda: None)


@bp.post("/t/<slug>/publish")
@tenant_page()
def publish(scope: TenantScope) -> Response:
    form = Form.submitted(Publish, request.form)
    slug = scope.slug
    try:
        reason = form.valid().reason
    except Invalid as error:
        return htmx.see_other(url_for("publishing.page", slug=slug), str(error), "danger")
    published = service.publish_tenant(scope, vault(), at_hand.config(), at_hand.delivery(), reason)
    return htmx.see_other(url_for("publishing.page", slug=slug), *words.verdict(published))


@bp.get("/provider/publications")
@provider_page()
def publications(scope: WideScope) -> str:
    found = history.listing(scope.session, page_number(request.args.get("page")))
    if htmx.wants_fragment():
        return htmx.page(PAGE, ROWS, page=found)
    draft = service.draft_of_all(scope.session, vault(), at_hand.config())
    names = {key: name for part in draft.tenants.values() for key, name in diff.names_of(part).items()}
    return htmx.page(PAGE, page=found, draft=draft, names=names, form=Form.blank(Publish))


@bp.post("/provider/publications")
@provider_page()
def publish_all(scope: WideScope) -> Response:
    form = Form.submitted(Publish, request.form)
    try:
        reason = form.valid().reason
    except Invalid as error:
        return htmx.see_other(url_for("publishing.publications"), str(error), "danger")
    published = service.publish_all(scope.session, actor(), vault(), at_hand.config(), at_hand.delivery(), reason)
    return htmx.see_other(url_for("publishing.publications"), *words.verdict(published))


@bp.get("/provider/publications/<int:version>")
@provider_page()
def detail(scope: WideScope, version: int) -> str:
    line = history.one(scope.session, version)
    newest = history.newest_version(scope.session)
    back = service.roll_back_changes(scope.session, version) if version != newest else []
    return htmx.page(DETAIL, line=line, newest=newest, back=back)


@bp.post("/provider/publications/<int:version>/roll-back")
@provider_page()
def roll_back(scope: WideScope, version: int) -> Response:
    try:
        published = service.roll_back(scope.session, actor(), at_hand.delivery(), version)
    except Invalid as error:
        return htmx.see_other(url_for("publishing.detail", version=version), str(error), "danger")
    return htmx.see_other(url_for("publishing.publications"), *words.verdict(published))
