"""What every answer carries: headers, the HTMX rules, error pages."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from panel import htmx
from panel.protection import CONTENT_SECURITY_POLICY
from tests.cast import PASSWORD, PLATFORM, Browser, Cast, cast_of, close, config_of

TEMPLATES = Path(__file__).resolve().parents[3] / "templates" / "panel"
STATIC = Path(__file__).resolve().parents[3] / "panel" / "static"
PAGES = ["/sign-in", "/signup", "/signup/sent", "/outbox", "/nothing-here", "/static/app.css"]


@pytest.mark.parametrize("path", PAGES)
def test_security_headers_are_on_every_answer(nobody: Browser, path: str) -> None:
    headers = nobody.get(path, buffered=True).headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "HX-Request" in headers["Vary"]


def test_nothing_inline_is_allowed() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", PAGES[:-1])
def test_pages_ask_nobody_else(nobody: Browser, path: str) -> None:
    page = nobody.get(path).text
    assert not re.search(r"""(?:src|href|action|hx-get)=["'](?:https?:)?//""", page)
    assert not re.search(r"<style|<script(?![^>]+src=)| style=| on[a-z]+=", page)


def test_vary_is_added_and_not_replaced(alice: Browser) -> None:
    assert {"HX-Request", "Cookie"} <= set(re.split(r",\s*", alice.get("/t/acme/").headers["Vary"]))


def test_pages_are_not_kept_and_static_files_are(alice: Browser) -> None:
    assert alice.get("/t/acme/").headers["Cache-Control"] == "no-store"
    page = alice.get("/t/acme/").text
    address = re.search(r"/static/app\.css\?v=[0-9a-f]+", page)
    assert address
    assert "max-age=31536000" in alice.get(address[0], buffered=True).headers["Cache-Control"]


def test_cookie_flags(cast: Cast, tmp_path: Path) -> None:
    answer = cast.browser().sign_in(f"alice@{PLATFORM}")
    assert all(flag in answer.headers["Set-Cookie"] for flag in ("HttpOnly", "SameSite=Lax"))
    assert "Secure" not in answer.headers["Set-Cookie"]


def test_https_brings_hsts_and_secure_cookies(cast: Cast, tmp_path: Path) -> None:
    other = cast_of(config_of(cast.config.state_dir, base_url="https://panel.example"), members=False)
    answer = other.browser().get("/sign-in", base_url="https://panel.example")
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert "Secure" in answer.headers["Set-Cookie"]
    close(other)


def test_htmx_swaps_422_and_no_other_refusal(nobody: Browser) -> None:
    config = re.search(r"<meta name=\"htmx-config\" content='([^']+)'>", nobody.get("/sign-in").text)
    assert config
    settings = json.loads(unescape(config[1]))
    rules = [(rule["code"], rule["swap"]) for rule in settings["responseHandling"]]

    def swaps(code: int) -> bool:
        return next(swap for pattern, swap in rules if re.search(pattern, str(code)))

    assert [swaps(code) for code in (200, 303, 422)] == [True, True, True]
    assert [swaps(code) for code in (204, 400, 403, 404, 429, 500)] == [False] * 6
    assert settings["allowEval"] is False
    assert settings["includeIndicatorStyles"] is False


def test_a_history_restore_gets_the_whole_page(root: Browser) -> None:
    headers = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in root.get("/provider/tenants", headers=headers).text


def test_success_is_303_or_a_redirect_of_htmx(cast: Cast) -> None:
    with cast.app.test_request_context("/"):
        plain = htmx.see_other("/x")
    with cast.app.test_request_context("/", headers={"HX-Request": "true"}):
        swapped = htmx.see_other("/x")
    assert (plain.status_code, plain.headers["Location"]) == (303, "/x")
    assert (swapped.status_code, swapped.headers["HX-Redirect"]) == (204, "/x")


def test_toasts(cast: Cast) -> None:
    with cast.app.test_request_context("/"):
        answer = htmx.toast(htmx.see_other("/x"), "Säved", "info")
    assert json.loads(answer.headers["HX-Trigger"]) == {"toast": {"message": "Säved", "kind": "info"}}


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/nope", 404), ("DELETE", "/sign-in", 405), ("GET", "/t/none/", 404)]
)
def test_refusals_have_pages(alice: Browser, method: str, path: str, code: int) -> None:
    answer = alice.open(path, method=method)
    assert answer.status_code == code
    assert "data-error" in answer.text
    assert "To the start" in answer.text


def test_forbidden_has_a_page(bob: Browser, root: Browser) -> None:
    assert "your role does not allow" in root.get("/t/acme/").text


def test_a_form_without_its_token_is_refused(cast: Cast) -> None:
    browser = cast.browser()
    browser.with_csrf = False
    answer = browser.sign_in(f"alice@{PLATFORM}", PASSWORD)
    assert (answer.status_code, "This form has expired" in answer.text) == (400, True)


def test_too_much_is_refused(alice: Browser) -> None:
    assert alice.post("/sign-out", data={"x": "y" * 3_000_000}).status_code == 413


def test_a_fault_of_ours_shows_nothing_of_it(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from panel.overview import views

    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(views.service, "facts", fail)
    browser = cast.browser("alice")
    cast.app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = browser.get("/t/acme/")
    assert answer.status_code == 500
    assert "Our fault" in answer.text
    assert "secret detail" not in answer.text


def test_own_files_are_small() -> None:
    assert sum((STATIC / name).stat().st_size for name in ("app.css", "app.js", "theme.js")) < 30_000
