"""An office whose phones register at the PBX themselves: the connection, a user's account, the phone's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e import looks, steps

PBX = "192.0.2.44"


def test_phones_that_register_themselves(as_cast: Callable[[str], Page], pictures: Path) -> None:
    page, folder = as_cast("carol"), pictures / "relay"
    page.goto("/t/globex/connections/new")
    page.get_by_label("Name", exact=True).fill("Relay PBX")
    page.get_by_label("Address of the PBX", exact=True).fill(PBX)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Further addresses of the PBX").fill("192.0.2.45:5070\nbackup.example")
    page.get_by_label("Calls between your own users").select_option("always_direct")
    page.get_by_label("Registration", exact=True).select_option("relay")
    preview = page.locator("#wire-preview")
    expect(preview).to_contain_text("always go through the PBX")
    expect(preview).to_contain_text("'192.0.2.45' is none of the sources")
    looks.inspect(page, folder, "connection")
    page.get_by_label("Calls between your own users").select_option("through_pbx")
    page.get_by_label("Calls are accepted from").fill(f"{PBX}\n192.0.2.45")
    page.get_by_label("Voice and video").select_option("relay")
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "Relay PBX is saved.")
    expect(page.get_by_text("once its phone has registered")).to_be_visible()

    page.goto("/t/globex/users")
    page.get_by_role("link", name="101", exact=True).click()
    page.get_by_label("User name there").fill("2101")
    expect(page.get_by_label("Password there")).to_have_count(0)
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "101 is saved.")
    looks.inspect(page, folder, "user")
    page.get_by_role("link", name="Phone settings").click()
    expect(page.get_by_text("This phone registers at Relay PBX itself")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("the one of this user at Relay PBX")
    expect(page.get_by_role("button", name="Copy sign-in name")).to_have_attribute("data-copy", "2101")
    looks.inspect(page, folder, "phone")

    page.goto("/t/globex/publish")
    expect(page.get_by_role("main")).to_contain_text("phones register themselves, through the edge")
    page.goto("/t/globex/connections")
    page.get_by_role("link", name="Relay PBX").click()
    page.get_by_text("Remove this connection").click()
    page.get_by_role("button", name="Remove Relay PBX").click()
    steps.toast(page, "Relay PBX is removed.")
