"""Every page, on wide and narrow screens, light and dark: axe-core finds nothing, nothing scrolls sideways, and
nothing jumps while it loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import looks, steps
from tests.e2e.furnish import Furnished
from tests.e2e.installation import Installation
from tests.e2e.watch import Watch

OF_NOBODY = {
    "auth.sign_in": "/sign-in",
    "signup.sign_up": "/signup",
    "signup.sent": "/signup/sent",
    "outbox.outbox": "/outbox",
}
OF_TENANT = {
    "overview.page": "",
    "users.listing": "users",
    "users.new": "users/new",
    "users.edit": "users/{user}",
    "users.phone": "users/{user}/phone",
    "connections.listing": "connections",
    "connections.new": "connections/new",
    "connections.edit": "connections/{connection}",
    "groups.listing": "groups",
    "groups.new": "groups/new",
    "groups.edit": "groups/{group}",
    "schedules.listing": "hours",
    "schedules.new": "hours/new",
    "schedules.edit": "hours/{schedule}",
    "numbers.listing": "numbers?number=030123456",
    "numbers.new": "numbers/new",
    "numbers.edit": "numbers/{number}",
    "numbers.new_rule": "outbound/new",
    "numbers.edit_rule": "outbound/{rule}",
    "numbers.outside": "outbound/all",
    "guards.listing": "guards",
    "guards.new": "guards/new",
    "guards.edit": "guards/{guard}",
    "live.calls": "calls",
    "publishing.page": "publish",
    "activity.activity": "activity",
}
OF_PROVIDER = {
    "tenants.listing": "/provider/tenants",
    "tenants.detail": "/provider/tenants/{tenant}",
    "publishing.publications": "/provider/publications",
    "publishing.detail": "/provider/publications/1",
    "nodes.listing": "/provider/nodes",
    "defence.page": "/provider/protection",
    "defence.new_guard": "/provider/protection/guards/new",
    "activity.audit_log": "/provider/audit",
}
ELSEWHERE = {
    "static": "no page",
    "auth.front_door": "leads on",
    "tenants.provider_home": "leads on",
    "setup.set_up": "test_setup.py",
    "auth.organisations": "below",
    "defence.edit_guard": "test_protection.py",
    "signup.verify": "below",
}


def test_no_page_is_forgotten(installation: Installation) -> None:
    rules = installation.cast.app.url_map.iter_rules()
    pages = {rule.endpoint for rule in rules if "GET" in (rule.methods or ())}
    assert pages == {*OF_NOBODY, *OF_TENANT, *OF_PROVIDER, *ELSEWHERE}


@pytest.mark.parametrize("name", OF_NOBODY)
def test_public_page(page: Page, pictures: Path, name: str) -> None:
    page.goto(OF_NOBODY[name])
    looks.inspect(page, pictures / "pages", name)


@pytest.mark.parametrize("name", OF_TENANT)
def test_page_of_a_tenant(as_cast: Callable[[str], Page], acme: Furnished, pictures: Path, name: str) -> None:
    page = as_cast("alice")
    ids = {"user": acme.users["101"], "connection": acme.connection, "number": acme.number, "rule": acme.rule}
    ids |= {"group": acme.group, "schedule": acme.schedule, "guard": acme.guard}
    page.goto(acme.path(OF_TENANT[name].format(**ids)))
    looks.inspect(page, pictures / "pages", name)


@pytest.mark.parametrize("name", ["users.edit", "connections.edit", "groups.edit"])
def test_what_is_folded_away(as_cast: Callable[[str], Page], acme: Furnished, pictures: Path, name: str) -> None:
    """The same with all that can be opened open."""
    page = as_cast("alice")
    ids = {"user": acme.users["101"], "connection": acme.connection, "group": acme.group}
    page.goto(acme.path(OF_TENANT[name].format(**ids)))
    page.evaluate("() => document.querySelectorAll('main details').forEach((each) => { each.open = true; })")
    looks.settle(page)
    looks.shifts(page)  # what opening moves is meant
    looks.inspect(page, pictures / "pages", f"{name}-open")


@pytest.mark.parametrize("name", OF_PROVIDER)
def test_page_of_the_provider(as_cast: Callable[[str], Page], acme: Furnished, pictures: Path, name: str) -> None:
    page = as_cast("root")
    page.goto(OF_PROVIDER[name].format(tenant=acme.tenant))
    looks.inspect(page, pictures / "pages", name)


def test_pages_on_the_way_in(
    page: Page, as_cast: Callable[[str], Page], watch: Watch, acme: Furnished, pictures: Path
) -> None:
    """The link from a mail, the same link when it was used, one's organisations, and a page that is not there."""
    folder = pictures / "pages"
    house = steps.House("Looking Glass", "looking-glass")
    steps.sign_up(page, house)
    link = steps.mailed_link(page, house.email)
    page.goto(link)
    looks.inspect(page, folder, "signup.verify")
    page.get_by_role("button", name="Yes, this is me").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    looks.inspect(page, folder, "overview.page-new")
    with watch.expecting(404):
        page.goto(link)
        looks.inspect(page, folder, "signup.verify-used")
        page.goto(acme.path())
        looks.inspect(page, folder, "error")
    alice = as_cast("alice")
    alice.goto("/organisations")
    looks.inspect(alice, folder, "auth.organisations")


def test_what_bob_may_only_read(as_cast: Callable[[str], Page], acme: Furnished, pictures: Path) -> None:
    page = as_cast("bob")
    page.goto(acme.path(f"connections/{acme.connection}"))
    expect(page.get_by_role("switch", name="On: ")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    looks.inspect(page, pictures / "pages", "connections.edit-read-only")


def test_switching_the_mode_moves_little(as_cast: Callable[[str], Page], acme: Furnished, pictures: Path) -> None:
    page = as_cast("alice")
    page.goto(acme.path(f"connections/{acme.connection}"))
    looks.settle(page)
    for on in (False, True):
        looks.shifts(page)
        steps.switch_mode(page, on=on)
        looks.settle(page)
        moved, what = looks.shifts(page, asked_too=True)
        assert moved < looks.MAX_SHIFT, f"switching {'on' if on else 'off'} moves {moved:.3f}: {what}"


def test_a_choice_of_colours_is_kept(page: Page) -> None:
    page.goto("/sign-in")
    root = page.locator("html")
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-bs-theme", "dark")


POLLED = ("overview.page", "users.listing", "users.phone", "connections.listing", "connections.edit", "live.calls")


@pytest.mark.parametrize("name", POLLED)
def test_asking_again_moves_nothing(as_cast: Callable[[str], Page], acme: Furnished, name: str) -> None:
    """Parts that are fetched again every few seconds come back in the same place."""
    page = as_cast("alice")
    page.clock.install()
    page.goto(acme.path(OF_TENANT[name].format(user=acme.users["101"], connection=acme.connection)))
    looks.settle(page)
    looks.shifts(page)
    with page.expect_response(lambda response: response.request.headers.get("hx-request") == "true"):
        page.clock.fast_forward(10_500)
    page.clock.resume()
    looks.settle(page)
    moved, what = looks.shifts(page)
    assert moved < looks.MAX_SHIFT, what
