"""What people do in the pages, by mouse: each step in the words that the page itself uses."""

from __future__ import annotations

import re
from typing import NamedTuple

from playwright.sync_api import Page, expect

from tests.integration.kamailio.registrar import KamailioRegistrar

PASSWORD = "seven herons over the weir"
LIVE = re.compile(r"Live: version \d+ is enforced, \d[\d.]* m?s after the edge got it\.")


class House(NamedTuple):
    """An organisation that signs up; it has an account for each of its users at the PBX."""

    name: str
    slug: str

    @property
    def email(self) -> str:
        return f"owner@{self.slug}.example"

    @property
    def domain(self) -> str:
        return f"{self.slug}.tenantry.example"

    @property
    def registrar(self) -> str:
        """Its domain at the PBX."""
        return f"{self.slug}.pbx.example"

    def path(self, rest: str = "") -> str:
        return f"/t/{self.slug}/{rest}"


def toast(page: Page, text: str | re.Pattern[str]) -> None:
    """What just happened is said."""
    expect(page.locator("#toasts")).to_contain_text(text)


def mailed_link(page: Page, email: str) -> str:
    """The link in the newest mail to an address, as the local outbox shows it."""
    page.goto("/outbox")
    mail = page.locator("article", has_text=email).first
    found = mail.get_by_role("link").get_attribute("href")
    assert found
    return found


def sign_up(page: Page, house: House) -> None:
    """Up to "look into your mail"; the short name is proposed by the page."""
    page.goto("/signup")
    page.get_by_label("Organisation").press_sequentially(house.name)
    expect(page.get_by_label("Your SIP domain")).to_have_value(house.slug)
    expect(page.locator("#verdict")).to_contain_text("is free")
    page.get_by_label("Your e-mail").fill(house.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()


def confirm(page: Page, house: House) -> None:
    page.goto(mailed_link(page, house.email))
    page.get_by_role("button", name="Yes, this is me").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def connect(page: Page, house: House, pbx: KamailioRegistrar) -> None:
    """A connection to a PBX; ends on its own page, with the mode off."""
    page.goto(house.path("connections"))
    page.get_by_role("link", name="Connect your PBX").click()
    page.get_by_label("Name", exact=True).fill("Office PBX")
    page.get_by_label("Address of the PBX").fill(pbx.host)
    page.get_by_role("spinbutton", name="Port").fill(str(pbx.port))
    page.get_by_label("Registrar domain").fill(house.registrar)
    page.get_by_label("Calls are accepted from").fill(f"{pbx.host}:{pbx.port}")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Multi-tenant mode")).to_be_visible()


def add_user(page: Page, house: House, extension: str, name: str, secret: str) -> str:
    """A user with an account at the PBX; the SIP password, which the next page shows once."""
    page.goto(house.path("users/new"))
    page.get_by_label("Extension").fill(extension)
    page.get_by_label("Name optional", exact=True).fill(name)
    page.get_by_label("User name there").fill(extension)
    page.get_by_label("Password there").fill(secret)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The password is shown now, and never again")).to_be_visible()
    password = page.get_by_role("button", name="Copy password").get_attribute("data-copy")
    assert password
    return password


def switch_mode(page: Page, on: bool) -> None:
    """On the page of a connection."""
    page.get_by_role("switch", name=re.compile("^(On|Off): ")).click()
    expect(page.get_by_role("switch", name=re.compile("^On: " if on else "^Off: "))).to_be_checked(checked=on)


def publish(page: Page, house: House) -> str:
    """Make live what is saved; what the page says of it."""
    page.goto(house.path("publish"))
    page.get_by_role("button", name="Publish").click()
    toast(page, LIVE)
    return page.locator("#toasts").inner_text()


def sign_in(page: Page, email: str, password: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)
