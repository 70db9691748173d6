"""A tenant's page on its calls."""

from __future__ import annotations

from flask import Blueprint, request

from panel import htmx
from panel.access import tenant_page
from panel.forms import Form
from panel.live import service
from panel.models import CallRecord
from panel.paging import page_number
from panel.publishing import live
from panel.scope import TenantScope

bp = Blueprint("live", __name__)
PAGE, ROWS, NOW = "panel/live/page.html", "panel/live/_rows.html", "panel/live/_now.html"


@bp.app_template_filter()
def talked(record: CallRecord) -> str:
    length = service.talked(record)
    return service.duration(length) if length is not None else ""


@bp.app_template_filter()
def party(uri: str) -> str:
    return service.party(uri)


@bp.get("/t/<slug>/calls")
@tenant_page()
def calls(scope: TenantScope) -> str:
    """The page; HTMX asks for the records alone, or with `now` for the calls in progress."""
    if htmx.wants_fragment() and "now" in request.args:
        return htmx.page(PAGE, NOW, **_now(scope))
    wanted = Form.submitted(service.Filter, request.args).valid()
    found = service.listing(scope, wanted, page_number(request.args.get("page")))
    if htmx.wants_fragment():
        return htmx.page(PAGE, ROWS, page=found, wanted=wanted)
    return htmx.page(PAGE, page=found, wanted=wanted, **_now(scope))


def _now(scope: TenantScope) -> dict[str, object]:
    running, away = live.calls(scope)
    return {"running": running, "away": away}
