"""The checks of `make check` find what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import run
from ops.checks import locks, templates, tracked

GOOD_PAGE = """{% extends "panel/layout.html" %}
<script src="{{ url_for('static', filename='app.js') }}"></script>
<form method="get"><input name="q"></form>
<form method="post">{{ csrf() }}<button>Save</button></form>
"""


def test_a_good_page_has_no_problem() -> None:
    assert list(templates.check_page(GOOD_PAGE, "page.html")) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<p>\n<script>alert(1)</script>", "2: <script> inline"),
        ("<style>p {}</style>", "1: <style> inline"),
        ('<p style="color: red">', "1: attribute style"),
        ('<a onclick="x()">', "1: attribute onclick"),
        ('<a hx-on:click="x()">', "1: attribute hx-on:click"),
        ('<form method="post">\n</form>', "1: form without a CSRF token"),
        ('<form {{ more }} hx-post="/x">\n</form>', "1: form without a CSRF token"),
        ("\n" * (templates.MAX_LINES + 1), "1: 81 lines"),
    ],
)
def test_a_page_with_a_fault_is_reported_with_its_line(page: str, problem: str) -> None:
    assert [found for found in templates.check_page(page, "page.html") if found.startswith(problem)]


@pytest.mark.parametrize("line", ["see https://pypi" + ".org/simple", "//registry.npmjs" + ".org/htmx"])
def test_a_registry_host_is_reported(line: str) -> None:
    assert list(tracked.problems(Path("x"), f"\n{line}\n", ())) != []


def test_a_folder_of_this_machine_is_reported() -> None:
    found = list(tracked.problems(Path("x"), "cd /clones/mine/panel", ("/clones/mine/",)))
    assert found == ["x:1: names /clones/mine/, a folder of this machine"]


def test_a_package_that_is_not_locked_is_reported() -> None:
    assert list(locks.check_python("requirements.lock", ["flask", "no-such-package>=1"]))
    assert any("no longer asked for" in line for line in locks.check_python("requirements.lock", ["flask"]))


def test_media_relays_are_passed_on_to_sipd(monkeypatch: pytest.MonkeyPatch) -> None:
    relays = ["udp:127.0.0.1:2223", "udp:[::1]:2223"]
    monkeypatch.setattr("sys.argv", ["run.py", *(f"--media={relay}" for relay in relays)])
    words = run.commands(run.read_options(), Path("control"))["sipd"]
    assert [words[number + 1] for number, word in enumerate(words) if word == "--media"] == relays


@pytest.mark.parametrize(
    ("text", "shown", "reachable"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000"),
        ("8000", "127.0.0.1:8000", "127.0.0.1:8000"),
        ("[::1]:8000", "[::1]:8000", "[::1]:8000"),
        ("0.0.0.0:8000", "0.0.0.0:8000", "127.0.0.1:8000"),
        ("[::]:8000", "[::]:8000", "[::1]:8000"),
    ],
)
def test_an_address_of_make_run(text: str, shown: str, reachable: str) -> None:
    place = run.address(text)
    assert (str(place), place.reachable) == (shown, reachable)


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "host:8e3"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(run.argparse.ArgumentTypeError, match="is no address"):
        run.address(text)
