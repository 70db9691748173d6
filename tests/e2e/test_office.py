"""An office manager makes business hours and a ring group, points a number to it, and publishes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e import looks, steps
from tests.e2e.furnish import Furnished
from tests.e2e.keyboard import Keyboard
from tests.e2e.watch import Watch

NUMBER = "+49 30 7654321"


def test_hours_a_group_and_a_number_for_it(
    as_cast: Callable[[str], Page], acme: Furnished, watch: Watch, pictures: Path
) -> None:
    page = as_cast("alice")
    folder = pictures / "office"
    _hours(page, watch, acme, folder)
    _group(page, watch, acme, folder)
    _number(page, acme, folder)

    page.goto(acme.path("publish"))
    changes = page.get_by_role("main")
    expect(changes).to_contain_text("schedule Front office")
    expect(changes).to_contain_text("group 250 (Reception)")
    expect(changes).to_contain_text("number +49307654321")
    looks.inspect(page, folder, "publish")
    page.get_by_role("button", name="Publish").click()
    steps.toast(page, steps.LIVE)
    expect(page.get_by_text("Nothing to publish")).to_be_visible()


def _hours(page: Page, watch: Watch, acme: Furnished, folder: Path) -> None:
    page.goto(acme.path("hours"))
    page.get_by_role("link", name="Add business hours").click()
    expect(page.get_by_label("Time zone")).not_to_have_value("")
    page.get_by_label("Name").fill("Front office")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("Saturday").fill("12-9")
    with watch.expecting(422):
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#saturday-error")).to_contain_text("09:00 is not later than 12:00")
    expect(page.get_by_label("Saturday")).to_be_focused()
    looks.inspect(page, folder, "hours-refused")
    page.get_by_label("Saturday").fill("9-12")
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "Front office is saved.")
    row = page.locator("#schedule-rows tbody tr", has_text="Front office")
    expect(row).to_contain_text("Monday to Friday 09:00-17:00; Saturday 09:00-12:00")
    expect(row).to_contain_text(re.compile("Open now, until|Closed now, opens"))


def _group(page: Page, watch: Watch, acme: Furnished, folder: Path) -> None:
    """Without a mouse: the members are put into another order, too."""
    page.goto(acme.path("groups/new"))
    keyboard = Keyboard(page)
    keyboard.reach(page.get_by_label("Extension"))
    page.keyboard.type("101")
    expect(page.locator("#extension-verdict")).to_contain_text("101 is taken by another user of yours")
    page.keyboard.press("Control+A")
    page.keyboard.type("250")
    expect(page.locator("#extension-verdict")).to_contain_text("250 is free")
    keyboard.reach(page.get_by_label("Name"))
    page.keyboard.type("Reception")
    for line, extension in ((1, "101"), (2, "999")):
        keyboard.reach(page.get_by_label(f"Member {line}", exact=True))
        page.keyboard.type(extension)
        page.keyboard.press("Escape")
    page.get_by_label("They ring").select_option("in_turn")
    page.get_by_label("Business hours").select_option(label="Front office")
    with watch.expecting(422):
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#field-members")).to_contain_text("999 is no user of yours")
    expect(page.get_by_label("Member 2", exact=True)).to_be_focused()
    looks.inspect(page, folder, "group-refused")
    page.get_by_label("Member 2", exact=True).fill("102")
    keyboard.enter(page.get_by_role("button", name="Move member 2 up"))
    expect(page.get_by_label("Member 1", exact=True)).to_have_value("102")
    looks.inspect(page, folder, "group")
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "250 is saved.")
    row = page.locator("#group-rows tbody tr", has_text="Reception")
    expect(row).to_contain_text("102, 101")


def _number(page: Page, acme: Furnished, folder: Path) -> None:
    page.goto(acme.path("numbers/new"))
    page.get_by_label("Number", exact=True).fill(NUMBER)
    page.get_by_label("Or a ring group").select_option(label="250 Reception")
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "+49307654321 is saved.")
    page.get_by_role("searchbox", name="Search numbers").fill("7654321")
    expect(page.locator("#number-rows tbody tr")).to_have_count(1)
    page.get_by_role("textbox", name="Try a number").fill("0176 555")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.locator("#tried")).to_contain_text("The rule at position 10 takes 0176555")
    expect(page.locator("#tried")).to_contain_text(f"INVITE sip:+49176555@{acme.registrar} SIP/2.0")
    looks.inspect(page, folder, "numbers")
