"""What every answer carries and every form must: CSRF tokens without exemption, and the security headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from flask_wtf.csrf import CSRFProtect

from panel.config import Config

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the design system's own small drawings
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HSTS = "max-age=31536000; includeSubDomains"
STATIC_SECONDS = 31_536_000
"""A static file's address carries its version, so it may be kept for good."""

csrf = CSRFProtect()


def init_app(app: Flask, config: Config) -> None:
    csrf.init_app(app)
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = STATIC_SECONDS

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if config.https:
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.url_defaults
    def version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and app.static_folder and "v" not in values:
            values["v"] = _version(Path(app.static_folder) / values["filename"])


def _version(path: Path) -> str:
    try:
        return format(path.stat().st_mtime_ns, "x")
    except FileNotFoundError:
        return "0"
