"""A page by keyboard alone: Tab to what is wanted, and see at each stop where one is."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

MAX_STOPS = 80
SHOWN = """
() => {
  const here = document.activeElement;
  if (!here || here === document.body || here.tagName === "MAIN") return "";
  const style = getComputedStyle(here), box = here.getBoundingClientRect();
  const around = here.closest(".input-group");
  const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none"
    || (around && getComputedStyle(around).boxShadow !== "none");
  const seen = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0
    && box.left < innerWidth && style.visibility === "visible";
  return ring && seen ? "" : `focus cannot be seen on ${here.outerHTML.slice(0, 160)}`;
}
"""


class Keyboard:
    """Hands on the keys of one page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def reach(self, target: Locator) -> None:
        """Tab until it has the focus. Raises AssertionError where the focus cannot be seen, or it is not reached."""
        target.wait_for()
        for _ in range(MAX_STOPS):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
            problem = self.page.evaluate(SHOWN)
            assert not problem, problem
        raise AssertionError(f"{target} is not among the first {MAX_STOPS} stops")

    def type(self, label: str, text: str, role: str = "textbox") -> None:
        self.reach(self.page.get_by_role(role, name=label))  # type: ignore[arg-type]
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def enter(self, target: Locator) -> None:
        self.reach(target)
        self.page.keyboard.press("Enter")

    def space(self, target: Locator) -> None:
        self.reach(target)
        self.page.keyboard.press("Space")
