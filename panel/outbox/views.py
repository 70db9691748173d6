"""The local outbox: only where no mail server is set up, and only for somebody at this machine."""

from __future__ import annotations

from flask import Blueprint, request

from panel import htmx
from panel.access import public_page
from panel.db import get_session
from panel.errors import NotFound
from panel.mail import is_embedded, is_local_name, is_loopback
from panel.outbox import service

bp = Blueprint("outbox", __name__)


FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
"""Whoever comes through a proxy on this machine looks local without being it."""


def is_open() -> bool:
    """The mails hold links that let one in, so the installation, the connection and the name asked for must all
    be local: a page of another site that bends its name to 127.0.0.1 gets nothing."""
    direct = is_loopback(request.remote_addr) and not any(name in request.headers for name in FORWARDED)
    return is_embedded() and direct and is_local_name(_host(request.host))


@bp.get("/outbox")
@public_page
def outbox() -> str:
    if not is_open():
        raise NotFound("the outbox is not open")
    return htmx.page("panel/outbox/page.html", mails=service.newest(get_session()))


@bp.app_context_processor
def hint() -> dict[str, bool]:
    """Pages that say "look into your mail" show the way to the outbox."""
    return {"outbox_open": is_open()}


def _host(host: str) -> str:
    return host.strip("[]") if host.endswith("]") else host.rsplit(":", 1)[0].strip("[]")
