"""Rate limits. Keys name the attacker (address, or account and address together), never the account alone:
nobody can lock an owner out by guessing at the owner's password from elsewhere."""

from __future__ import annotations

from flask import Flask, Response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from panel.config import Config

SIGN_IN = "10 per 5 minutes"
"""Failures of one account from one address."""
SIGN_IN_ADDRESS = "60 per 5 minutes"
"""Failures of any accounts from one address."""
SIGN_UP = "20 per hour"
"""Sign-ups from one address."""
LINK = "30 per 5 minutes"
"""Tries of mailed or printed links from one address."""
CHECK = "120 per minute"
"""Live checks of names from one address."""

limiter = Limiter(key_func=get_remote_address, headers_enabled=False)


def account_and_address() -> str:
    return f"{request.form.get('email', '').strip().lower()[:254]} {get_remote_address()}"


def failed(response: Response) -> bool:
    """Only failures count: a form that comes again, not the way onwards."""
    return response.status_code >= 400


def init_app(app: Flask, config: Config) -> None:
    app.config["RATELIMIT_STORAGE_URI"] = config.rate_storage
    app.config["RATELIMIT_STRATEGY"] = "moving-window"
    limiter.init_app(app)
