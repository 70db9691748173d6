"""The local outbox: only where no mail server is set up, and only for somebody at this machine."""

from __future__ import annotations

from ipaddress import ip_address

from flask import Blueprint, request

from panel import htmx
from panel.access import public_page
from panel.db import get_session
from panel.errors import NotFound
from panel.mail import smtp_settings
from panel.outbox import service

bp = Blueprint("outbox", __name__)


def is_open() -> bool:
    """The mails hold links that let one in, so both the connection and the address asked for must be
    loopback: a page of another site that rebinds its name to 127.0.0.1 gets nothing."""
    return smtp_settings() is None and _is_loopback(request.remote_addr) and _is_local_name(request.host)


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


def _is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False


def _is_local_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
    return name == "localhost" or _is_loopback(name)
