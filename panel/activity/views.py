"""The two logs."""

from __future__ import annotations

from flask import Blueprint, request

from panel import htmx
from panel.access import provider_page, tenant_page
from panel.activity import service, words
from panel.models import AuditEntry
from panel.paging import MAX_SEARCH, page_number
from panel.scope import TenantScope, WideScope

bp = Blueprint("activity", __name__)
PAGE, ROWS = "panel/activity/page.html", "panel/activity/_rows.html"


@bp.app_template_filter("sentence")
def sentence(entry: AuditEntry) -> str:
    return words.sentence(entry)


@bp.app_template_filter("changes")
def changes(entry: AuditEntry) -> list[tuple[str, str, str]]:
    return words.changes(entry)


@bp.get("/t/<slug>/activity")
@tenant_page()
def activity(scope: TenantScope) -> str:
    """What was done in this tenant, the provider's support included."""
    found = service.of_tenant(scope, _search(), page_number(request.args.get("page")))
    return htmx.page(PAGE, ROWS, page=found, search=_search(), tenant_names=None)


@bp.get("/provider/audit")
@provider_page()
def audit_log(scope: WideScope) -> str:
    """What was done by anybody anywhere."""
    found = service.of_all(scope.session, _search(), page_number(request.args.get("page")))
    names = service.tenant_names(scope.session, found.rows)
    return htmx.page(PAGE, ROWS, page=found, search=_search(), tenant_names=names)


def _search() -> str:
    return request.args.get("q", "").strip()[:MAX_SEARCH]
