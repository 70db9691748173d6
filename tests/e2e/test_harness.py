"""The harness itself: what it is there to find, it finds."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.e2e import looks
from tests.e2e.keyboard import Keyboard
from tests.e2e.watch import Watch

FAULTS = {
    "an error in the console": ("console.error('a fault')", "console error: a fault"),
    "a script's own error": ("setTimeout(() => { throw new Error('thrown') })", "uncaught: thrown"),
    "an answer that was not expected": ("fetch('/no-such-page')", "404 to GET"),
    "a request to another host": ("fetch('http://stranger.example/').catch(() => 0)", "policy violated: connect-src"),
    "a frame of another host": (
        "document.body.append(Object.assign(document.createElement('iframe'), {src: 'http://stranger.example/'}))",
        "policy violated",
    ),
    "a style that the policy forbids": (
        "document.body.append(Object.assign(document.createElement('style'), {textContent: 'p { color: red }'}))",
        "policy violated: style-src",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_page_is_seen(page: Page, watch: Watch, name: str) -> None:
    deed, said = FAULTS[name]
    page.goto("/sign-in")
    page.evaluate(f"() => {{ {deed} }}")
    for _ in range(50):
        if any(said in fault for fault in watch.faults):
            break
        page.wait_for_timeout(20)
    with pytest.raises(AssertionError, match=said):
        watch.finish()
    watch.faults.clear()


def test_what_axe_and_the_ruler_find(page: Page) -> None:
    page.goto("/sign-in")
    assert looks.faults_of(page) == []
    page.evaluate(
        """() => {
          const bad = document.createElement("p");
          bad.textContent = "barely there";
          bad.style.color = "#eee";
          bad.style.width = "3000px";
          const button = document.createElement("button");
          document.querySelector("main").append(bad, button);
        }"""
    )
    found = "\n".join(looks.faults_of(page))
    assert "color-contrast" in found
    assert "button-name" in found
    assert "sideways: 3" in found


def test_a_jump_is_measured(page: Page) -> None:
    page.goto("/sign-in")
    looks.settle(page)
    looks.shifts(page)
    page.evaluate(
        """() => {
          const block = document.createElement("div");
          block.style.height = "400px";
          document.querySelector("main").prepend(block);
        }"""
    )
    looks.settle(page)
    moved, what = looks.shifts(page)
    assert moved > looks.MAX_SHIFT, what


def test_a_focus_that_cannot_be_seen_is_found(page: Page) -> None:
    page.goto("/sign-in")
    button = page.get_by_role("button", name="Sign in")
    button.evaluate("element => { element.style.outline = 'none'; element.style.boxShadow = 'none'; }")
    with pytest.raises(AssertionError, match="focus cannot be seen"):
        Keyboard(page).reach(button)
