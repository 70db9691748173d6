"""What templates may use besides their own context."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from flask import Flask, g, request, url_for

from panel import signedin
from panel.config import Config
from panel.models.base import utc_now
from panel.paging import Page
from panel.scope import TenantScope

STEPS = ((60, "second", 1), (3600, "minute", 60), (86_400, "hour", 3600), (2_592_000, "day", 86_400))


def init_app(app: Flask, config: Config) -> None:
    app.jinja_env.globals.update(address_of_page=address_of_page, unpublished=unpublished)
    app.jinja_env.filters.update(ago=ago, moment=moment)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True

    @app.context_processor
    def context() -> dict[str, Any]:
        return {
            "installation": config,
            "signed_in": signedin.is_signed_in(),
            "account": signedin.account() if signedin.is_signed_in() else None,
            "scope": g.get("scope"),
            "support": g.get("support_session"),
        }


def unpublished() -> Any:
    """What is saved but not yet live in the tenant at hand; falsy when nothing is."""
    scope = g.get("scope")
    if not isinstance(scope, TenantScope):
        return None
    from panel.publishing import service

    return service.pending(scope)


def address_of_page(page: Page[Any], number: int) -> str:
    """This list, with its filters, at another page."""
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != "page"]
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    return f"{path}?{urlencode([*kept, ('page', number)])}"


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


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
