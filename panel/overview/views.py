"""The overview."""

from __future__ import annotations

from flask import Blueprint

from panel import htmx
from panel.access import tenant_page
from panel.overview import service
from panel.page import unpublished
from panel.publishing import live
from panel.scope import TenantScope

bp = Blueprint("overview", __name__)
PAGE, STATE = "panel/overview/page.html", "panel/overview/_state.html"


@bp.get("/t/<slug>/")
@tenant_page()
def page(scope: TenantScope) -> str:
    """The page; HTMX asks for its live part again every few seconds."""
    known = service.facts(scope, bool(unpublished()), live.registrations(scope))
    return htmx.page(PAGE, STATE, known=known, steps=service.steps(known), domains=service.domains(scope))
