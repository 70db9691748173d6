"""How a page looks and reads: axe-core's rules, no sideways scrolling, no jumping, pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page, expect

from tests.integration.node import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MAX_SHIFT = 0.02
"""Sum of layout shifts of one page, or of one press of a switch."""


class View(NamedTuple):
    """A screen: its size, and the colours that the system asks for."""

    name: str
    width: int
    height: int
    colours: str


WIDE, WIDE_DARK = View("wide", 1280, 800, "light"), View("wide-dark", 1280, 800, "dark")
NARROW, NARROW_DARK = View("narrow", 360, 740, "light"), View("narrow-dark", 360, 740, "dark")
VIEWS = (WIDE, WIDE_DARK, NARROW_DARK, NARROW)


@cache
def axe_source() -> str:
    return AXE.read_text()


def turn(page: Page, view: View) -> None:
    """Show the page as this screen does."""
    page.set_viewport_size({"width": view.width, "height": view.height})
    page.emulate_media(color_scheme=view.colours, reduced_motion="reduce")  # type: ignore[arg-type]
    expect(page.locator("html")).to_have_attribute("data-bs-theme", view.colours)


def violations(page: Page) -> list[str]:
    """What axe-core finds, one line for each rule with the elements."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(axe_source())
    found: list[dict[str, Any]] = page.evaluate(
        "async (tags) => (await axe.run(document, {runOnly: {type: 'tag', values: tags}, "
        "resultTypes: ['violations']})).violations.map((rule) => ({id: rule.id, help: rule.help, "
        "nodes: rule.nodes.slice(0, 4).map((node) => node.html.slice(0, 160) + ' ' + (node.any[0]?.message ?? ''))}))",
        TAGS,
    )
    return [f"{rule['id']} ({rule['help']}): " + " | ".join(rule["nodes"]) for rule in found]


def overflow(page: Page) -> list[str]:
    """Elements that stick out to the right of the window; empty when nothing can be scrolled sideways."""
    found: list[str] = page.evaluate(
        """() => {
          const root = document.documentElement;
          if (root.scrollWidth <= window.innerWidth) return [];
          const wide = [...document.body.querySelectorAll("*")].filter(
            (each) => each.getBoundingClientRect().right > window.innerWidth + 0.5);
          const named = wide.slice(0, 5).map((each) => each.outerHTML.slice(0, 120));
          return [`${root.scrollWidth} > ${window.innerWidth}`, ...named];
        }"""
    )
    return found


def shifts(page: Page, asked_too: bool = False) -> tuple[float, list[Any]]:
    """Sum of layout shifts since the page opened or since the last look; with `asked_too` also those right after a
    press of a key or button, which the browser's own measure forgives."""
    seen: list[dict[str, Any]] = page.evaluate("() => window.__shifts.splice(0)")
    counted = [entry for entry in seen if asked_too or not entry["asked"]]
    return sum(entry["value"] for entry in counted), counted


def settle(page: Page) -> None:
    """Until fonts are there and two frames were painted."""
    page.evaluate(
        "() => document.fonts.ready.then(() => new Promise((done) => "
        "requestAnimationFrame(() => requestAnimationFrame(done))))"
    )


def picture(page: Page, folder: Path, name: str, whole: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=whole, animations="disabled")


def faults_of(page: Page) -> list[str]:
    """What is wrong with the page on the present screen."""
    return [*(f"axe: {line}" for line in violations(page)), *(f"sideways: {line}" for line in overflow(page))]


def inspect(page: Page, folder: Path, name: str) -> None:
    """A page on all screens, with a picture of each. Raises AssertionError with all that is wrong."""
    settle(page)
    total, what = shifts(page)
    found = [f"{name} jumps by {total:.3f} while it loads: {what}"] if total >= MAX_SHIFT else []
    for view in VIEWS:
        turn(page, view)
        found += [f"{name}, {view.name}: {fault}" for fault in faults_of(page)]
        picture(page, folder, f"{name}-{view.name}")
    turn(page, WIDE)
    assert not found, "\n".join(found)
