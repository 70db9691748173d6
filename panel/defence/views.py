"""The provider's pages on protection."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from panel import htmx
from panel.access import provider_page
from panel.defence import service, service_bans
from panel.defence.forms import Filter, GuardInput, NetworkInput, Unban, values_of
from panel.errors import Invalid
from panel.forms import Form
from panel.models import InstallationGuard
from panel.paging import MAX_SEARCH, page_number
from panel.publishing import at_hand, words
from panel.publishing import service as publishing
from panel.scope import WideScope
from panel.secrets import vault
from panel.signedin import account, actor

bp = Blueprint("defence", __name__)
PAGE, ROWS, BANS, GUARD = (f"panel/defence/{name}.html" for name in ("page", "_rows", "_bans", "guard"))


@bp.get("/provider/protection")
@provider_page()
def page(scope: WideScope) -> str:
    """All of it; HTMX asks for the networks, or (with `source`) for who is banned."""
    if htmx.wants_fragment() and "source" in request.args:
        return htmx.page(PAGE, BANS, **_bans(scope))
    if htmx.wants_fragment():
        return htmx.page(PAGE, ROWS, **_networks(scope))
    return htmx.page(PAGE, **_context(scope, Form.blank(NetworkInput)))


@bp.post("/provider/protection/networks")
@provider_page()
def add_network(scope: WideScope) -> Response:
    form = Form.submitted(NetworkInput, request.form)
    try:
        rule = service.add_network(scope.session, actor(), form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(PAGE, **_context(scope, form))
    said = f"{rule.network} is {rule.kind}."
    if whose := service.pbxs_in(scope.session, [rule]).get(rule.network):
        said += f" Mind that the PBX of {whose} sends from there."
    return _enforced(scope, said)


@bp.post("/provider/protection/networks/<source_id>/remove")
@provider_page()
def remove_network(scope: WideScope, source_id: str) -> Response:
    kind, network = service.remove_network(scope.session, actor(), source_id)
    return _enforced(scope, f"{network} is not {kind} any more.")


@bp.post("/provider/protection/nodes/<node_id>/unban")
@provider_page()
def unban(scope: WideScope, node_id: str) -> Response:
    try:
        wanted = Form.submitted(Unban, request.form).valid()
        said, kind = service_bans.unban(scope.session, actor(), node_id, wanted.source), "success"
    except Invalid as error:
        said, kind = str(error), "danger"
    return htmx.see_other(url_for("defence.page"), said, kind)


@bp.get("/provider/protection/guards/new")
@provider_page("admin")
def new_guard(scope: WideScope) -> str:
    return htmx.page(GUARD, **_guard(None, Form.blank(GuardInput)))


@bp.post("/provider/protection/guards/new")
@provider_page()
def create_guard(scope: WideScope) -> Response:
    form = Form.submitted(GuardInput, request.form)
    try:
        guard = service.add_guard(scope.session, actor(), form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(GUARD, **_guard(None, form))
    return _enforced(scope, f"The guard for {guard.prefix} is saved.")


@bp.get("/provider/protection/guards/<guard_for_all_id>")
@provider_page()
def edit_guard(scope: WideScope, guard_for_all_id: str) -> str:
    guard = service.guard(scope.session, guard_for_all_id)
    return htmx.page(GUARD, **_guard(guard, Form.blank(GuardInput, **values_of(guard))))


@bp.post("/provider/protection/guards/<guard_for_all_id>")
@provider_page()
def save_guard(scope: WideScope, guard_for_all_id: str) -> Response:
    guard, form = service.guard(scope.session, guard_for_all_id), Form.submitted(GuardInput, request.form)
    try:
        service.update_guard(scope.session, actor(), guard, form.valid())
    except Invalid as error:
        form.add(error)
        return htmx.invalid(GUARD, **_guard(guard, form))
    return _enforced(scope, f"The guard for {guard.prefix} is saved.")


@bp.post("/provider/protection/guards/<guard_for_all_id>/remove")
@provider_page()
def remove_guard(scope: WideScope, guard_for_all_id: str) -> Response:
    guard = service.guard(scope.session, guard_for_all_id)
    prefix = guard.prefix
    service.remove_guard(scope.session, actor(), guard)
    return _enforced(scope, f"The guard for {prefix} is removed.")


def _enforced(scope: WideScope, said: str) -> Response:
    """Make it live at once, and say so: an attack does not wait for somebody to publish."""
    held = vault(), at_hand.config(), at_hand.delivery()
    published = publishing.publish_installation(scope.session, actor(), *held, said)
    verdict, kind = words.verdict(published)
    return htmx.see_other(url_for("defence.page"), f"{said} {verdict}", kind)


def _context(scope: WideScope, form: Form[NetworkInput]) -> dict[str, object]:
    return {"form": form, "guards": service.guards(scope.session), **_networks(scope), **_bans(scope)}


def _networks(scope: WideScope) -> dict[str, object]:
    wanted = Form.submitted(Filter, request.args).valid()
    found = service.networks(scope.session, wanted, page_number(request.args.get("page")))
    pbxs = service.pbxs_in(scope.session, found.rows)
    return {"page": found, "wanted": wanted, "pbxs": pbxs, "may_change": _may_change()}


def _bans(scope: WideScope) -> dict[str, object]:
    source = request.args.get("source", "").strip()[:MAX_SEARCH]
    return {"nodes": service_bans.bans(scope.session, source), "source": source, "may_change": _may_change()}


def _guard(guard: InstallationGuard | None, form: Form[GuardInput]) -> dict[str, object]:
    return {"guard": guard, "form": form, "may_change": _may_change()}


def _may_change() -> bool:
    """Whether the page offers what `provider_page` lets an admin do."""
    return account().provider_role == "admin"
