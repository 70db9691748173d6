"""The web application: plumbing first, then one blueprint per feature."""

from __future__ import annotations

from importlib import import_module

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from panel import db, errorpages, htmx, limits, page, protection, secrets, signedin
from panel.config import Config, from_env

FEATURES = (
    "panel.setup",
    "panel.auth",
    "panel.signup",
    "panel.outbox",
    "panel.tenants",
    "panel.overview",
    "panel.users",
    "panel.groups",
    "panel.schedules",
    "panel.connections",
    "panel.numbers",
    "panel.guards",
    "panel.live",
    "panel.publishing",
    "panel.nodes",
    "panel.defence",
    "panel.activity",
)
"""Each has a `views` module with a blueprint `bp`. A new feature is one line here."""

TEMPLATES = "../templates"
MAX_FORM_BYTES = 2 * 1024 * 1024
SESSION_COOKIE = "tenantry"


def create_app(config: Config | None = None) -> Flask:
    """Build the application; without `config` it is read from the environment."""
    config = config or from_env()
    app = Flask("panel", template_folder=TEMPLATES)
    app.config.update(
        SECRET_KEY=config.secret_key,
        TESTING=config.testing,
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        SESSION_COOKIE_NAME=SESSION_COOKIE,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.https,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        WTF_CSRF_SSL_STRICT=True,
    )
    app.extensions["tenantry.config"] = config
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    for configured in (db, secrets, protection, limits, page):
        configured.init_app(app, config)
    for part in (htmx, signedin, errorpages):
        part.init_app(app)
    for feature in FEATURES:
        app.register_blueprint(import_module(f"{feature}.views").bp)
    return app
