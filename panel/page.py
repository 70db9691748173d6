"""What templates may use besides their own context: navigation, times, the "not yet live" hook."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Flask, current_app, g, request, url_for

from panel import signedin
from panel.config import Config
from panel.models.base import utc_now
from panel.paging import Page
from panel.scope import TenantScope

STEPS = ((60, "second", 1), (3600, "minute", 60), (86_400, "hour", 3600), (2_592_000, "day", 86_400))


class Entry(NamedTuple):
    """One line of the side bar; it shows once its endpoint exists."""

    endpoint: str
    label: str
    icon: str


TENANT_PAGES = (
    Entry("overview.page", "Overview", icon="layout-dashboard"),
    Entry("users.listing", "Users", icon="users"),
    Entry("groups.listing", "Ring groups", icon="users-group"),
    Entry("schedules.listing", "Business hours", icon="clock"),
    Entry("connections.listing", "Connections", icon="plug-connected"),
    Entry("numbers.listing", "Numbers", icon="hash"),
    Entry("guards.listing", "Fraud guards", icon="shield-check"),
    Entry("live.calls", "Calls", icon="phone"),
    Entry("publishing.page", "Publish", icon="cloud-upload"),
    Entry("activity.activity", "Activity", icon="history"),
)
PROVIDER_PAGES = (
    Entry("tenants.listing", "Tenants", icon="building-community"),
    Entry("publishing.publications", "Publications", icon="versions"),
    Entry("nodes.listing", "Nodes", icon="server-2"),
    Entry("defence.page", "Protection", icon="shield-lock"),
    Entry("activity.audit_log", "Audit log", icon="history"),
)


class Link(NamedTuple):
    label: str
    icon: str
    url: str
    active: bool


def init_app(app: Flask, config: Config) -> None:
    app.jinja_env.globals.update(
        address_of_page=address_of_page, address_with=address_with, has_page=has_page, unpublished=unpublished
    )
    app.jinja_env.filters.update(ago=ago, moment=moment)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True

    @app.context_processor
    def context() -> dict[str, Any]:
        return {
            "installation": config,
            "account": signedin.account() if signedin.is_signed_in() else None,
            "scope": g.get("scope"),
            "support": g.get("support_session"),
            "side_bar": side_bar,
        }


def side_bar() -> list[Link]:
    """The pages beside this one."""
    scope = g.get("scope")
    if isinstance(scope, TenantScope):
        return _links(TENANT_PAGES, slug=scope.slug)
    return _links(PROVIDER_PAGES) if scope is not None else []


def has_page(endpoint: str) -> bool:
    return endpoint in current_app.view_functions


def unpublished() -> Any:
    """What is saved but not yet live in the tenant at hand; falsy when nothing is. Looked up once a page,
    and so after what the page changes."""
    scope = g.get("scope")
    if not isinstance(scope, TenantScope):
        return None
    if "unpublished" not in g:
        from panel.publishing import service

        g.unpublished = service.pending(scope)
    return g.unpublished


def address_with(**changed: str) -> str:
    """This list with other filters, from its first page."""
    return _address({**request.args.to_dict(), **changed}, without="page")


def address_of_page(page: Page[Any], number: int) -> str:
    """This list, with its filters, at another page."""
    return _address({**request.args.to_dict(), "page": str(number)})


def moment(at: datetime) -> str:
    """Exact, in UTC; app.js turns it into the viewer's own zone."""
    return at.strftime("%Y-%m-%d %H:%M UTC")


def ago(at: datetime) -> str:
    """Roughly how long since."""
    seconds = (utc_now() - at).total_seconds()
    for below, unit, size in STEPS:
        if seconds < below:
            return "just now" if unit == "second" else _plural(int(seconds // size), unit) + " ago"
    return at.strftime("%Y-%m-%d")


def _address(filters: dict[str, str], without: str = "") -> str:
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    kept = {name: value for name, value in filters.items() if value and name != without}
    return f"{path}?{urlencode(kept)}" if kept else path


def _links(entries: tuple[Entry, ...], **values: Any) -> list[Link]:
    feature = (request.endpoint or "").partition(".")[0]
    return [
        Link(entry.label, entry.icon, url_for(entry.endpoint, **values), _is_here(entry, feature))
        for entry in entries
        if has_page(entry.endpoint)
    ]


def _is_here(entry: Entry, feature: str) -> bool:
    return request.endpoint == entry.endpoint or (
        entry.endpoint.partition(".")[0] == feature and request.endpoint not in _ENDPOINTS
    )


_ENDPOINTS = frozenset(entry.endpoint for entry in (*TENANT_PAGES, *PROVIDER_PAGES))


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
