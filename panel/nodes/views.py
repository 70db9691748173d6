"""The provider's pages on nodes."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import provider_page
from panel.errors import Invalid
from panel.forms import Form
from panel.nodes import service
from panel.nodes.forms import NodeInput
from panel.scope import WideScope
from panel.signedin import actor

bp = Blueprint("nodes", __name__)
PAGE, ROWS = "panel/nodes/page.html", "panel/nodes/_rows.html"


@bp.get("/provider/nodes")
@provider_page()
def listing(scope: WideScope) -> str:
    return htmx.page(PAGE, ROWS, lines=service.listing(scope.session), form=Form.blank(NodeInput))


@bp.post("/provider/nodes")
@provider_page()
def add(scope: WideScope) -> Response:
    form = Form.submitted(NodeInput, request.form)
    try:
        node = service.add(scope.session, actor(), form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(PAGE, lines=service.listing(scope.session), form=form)
    return htmx.see_other(
        url_for("nodes.listing"), f"{node.name} is entered. It gets the newest version when it answers."
    )


@bp.post("/provider/nodes/<node_id>/remove")
@provider_page()
def remove(scope: WideScope, node_id: str) -> Response:
    try:
        name = service.remove(scope.session, actor(), node_id)
    except Invalid as error:
        return htmx.see_other(url_for("nodes.listing"), str(error), "danger")
    return htmx.see_other(url_for("nodes.listing"), f"{name} is removed.")
