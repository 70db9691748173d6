"""From sign-up to publication without a mouse; one can always see where the focus is."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e import steps
from tests.e2e.conftest import SECRET
from tests.e2e.keyboard import Keyboard
from tests.e2e.looks import picture
from tests.integration.kamailio.registrar import KamailioRegistrar

KEYS = steps.House("Quiet Keys", "quiet-keys")


def sign_up(page: Page, keys: Keyboard) -> None:
    page.goto("/")
    keys.enter(page.get_by_role("link", name="Sign your organisation up"))
    expect(page.get_by_label("Organisation")).to_be_focused()
    keys.type("Organisation", KEYS.name)
    expect(page.get_by_label("Your SIP domain")).to_have_value(KEYS.slug)
    keys.type("Your e-mail", KEYS.email)
    keys.reach(page.get_by_label("Password", exact=True))
    page.keyboard.type(steps.PASSWORD)
    page.keyboard.press("Enter")
    keys.enter(page.get_by_role("link", name="Open the local outbox"))
    mail = page.locator("article", has_text=KEYS.email)
    keys.enter(mail.get_by_role("link"))
    keys.enter(page.get_by_role("button", name="Yes, this is me"))


def connect(page: Page, keys: Keyboard, pbx: KamailioRegistrar) -> None:
    keys.enter(page.get_by_role("link", name=re.compile("Start.*Connect your PBX")))
    keys.enter(page.get_by_role("link", name="Connect your PBX"))
    keys.type("Address of the PBX", pbx.host)
    keys.type("Port", str(pbx.port), role="spinbutton")
    keys.type("Registrar domain", KEYS.registrar)
    keys.type("Calls are accepted from", f"{pbx.host}:{pbx.port}")
    keys.enter(page.get_by_role("button", name="Save"))


def add_user(page: Page, keys: Keyboard) -> None:
    keys.enter(page.get_by_role("link", name="Users"))
    keys.enter(page.get_by_role("link", name="Add a user"))
    keys.type("Extension", "101")
    keys.type("User name there", "101")
    keys.reach(page.get_by_label("Password there"))
    page.keyboard.type(SECRET)
    page.keyboard.press("Enter")
    expect(page.get_by_text("The password is shown now, and never again")).to_be_visible()


def test_sign_up_to_publication_by_keyboard(page: Page, pbx: KamailioRegistrar, pictures: Path) -> None:
    keys = Keyboard(page)
    sign_up(page, keys)
    connect(page, keys, pbx)
    add_user(page, keys)
    keys.enter(page.get_by_role("link", name="Connections"))
    keys.enter(page.get_by_role("link", name="Main PBX"))
    switch = page.get_by_role("switch", name=re.compile("^(On|Off): "))
    keys.space(switch)
    expect(switch).to_be_checked()
    expect(page.get_by_text("On: your domain is the key to every call")).to_be_visible()
    expect(switch).to_be_focused()
    picture(page, pictures / "keyboard", "switched", whole=False)
    keys.enter(page.get_by_role("link", name="Publish", exact=True))
    keys.enter(page.get_by_role("button", name="Publish"))
    steps.toast(page, steps.LIVE)


def test_the_skip_link_comes_first(page: Page) -> None:
    page.goto("/outbox")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    assert (skip.bounding_box() or {})["height"] > 20
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
