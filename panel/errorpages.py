"""Every refusal has a page that says what happened and what to do; HTMX gets it as a toast (app.js)."""

from __future__ import annotations

import logging

from flask import Flask, Response, make_response, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from panel.errors import Forbidden, NotFound

log = logging.getLogger("tenantry.panel")

PAGES = {
    400: ("That did not work", "The request was not one that this page understands."),
    403: ("Not with your role", "You can see this, but your role does not allow you to do that. Ask an owner."),
    404: ("Nothing here", "This page does not exist, or it is not yours to see."),
    405: ("That cannot be done here", "This address does not take that kind of request."),
    413: ("Too large", "What was sent is larger than this page takes."),
    429: ("One moment, please", "Too many tries in a short time. Wait a few minutes, then try again."),
    500: ("Our fault", "Something went wrong here. It has been noted; nothing was changed."),
}
FORM_EXPIRED = ("This form has expired", "Go back, reload the page and send it again. Nothing was changed.")


def init_app(app: Flask) -> None:
    app.register_error_handler(CSRFError, lambda error: _page(400, *FORM_EXPIRED))
    app.register_error_handler(NotFound, lambda error: _page(404, *PAGES[404]))
    app.register_error_handler(Forbidden, lambda error: _page(403, *PAGES[403]))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(500, _fault)


def _http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return make_response(error.get_response())
    title, text = PAGES.get(error.code, (error.name, error.description or ""))
    response = _page(error.code, title, text)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _fault(error: Exception) -> Response:
    return _page(500, *PAGES[500])


def _page(code: int, title: str, text: str) -> Response:
    return make_response(render_template("panel/error.html", code=code, title=title, text=text), code)
