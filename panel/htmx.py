"""One URL serves page and fragment: the choice is made by HTMX's request header, here and nowhere else."""

from __future__ import annotations

import json
from typing import Any

from flask import Flask, Response, flash, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse


def wants_fragment() -> bool:
    """Whether HTMX asks for a part of the page (a history restore asks for all of it)."""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def page(template: str, fragment: str | None = None, /, **context: Any) -> str:
    """Render the page, or only its fragment where HTMX asks for one."""
    return render_template(fragment if fragment and wants_fragment() else template, **context)


def invalid(template: str, fragment: str | None = None, /, **context: Any) -> Response:
    """The form again, with what is wrong in it: 422, which HTMX is told to swap in (see base.html)."""
    return make_response(page(template, fragment, **context), 422)


def see_other(url: str, message: str = "", kind: str = "success") -> AnyResponse:
    """After a success: 303, or HX-Redirect for HTMX; `message` shows as a toast on the next page."""
    if message:
        flash(message, kind)
    if wants_fragment():
        return Response(status=204, headers={"HX-Redirect": url})
    return redirect(url, 303)


def toast(response: AnyResponse, message: str, kind: str = "success") -> AnyResponse:
    """Show a toast beside a swapped fragment, without a page change."""
    response.headers["HX-Trigger"] = json.dumps({"toast": {"message": message, "kind": kind}})
    return response


def init_app(app: Flask) -> None:
    @app.after_request
    def vary(response: Response) -> Response:
        response.vary.add("HX-Request")
        return response
