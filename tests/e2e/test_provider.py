"""The provider's day: find a tenant, suspend it at once, enter it as support, look at nodes, go back a version."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import steps
from tests.e2e.furnish import Furnished
from tests.e2e.installation import Installation
from tests.e2e.line import Line
from tests.e2e.watch import Watch

REASON = "Asked for help with a phone"


@pytest.fixture
def root(as_cast: Callable[[str], Page], acme: Furnished) -> Page:
    """The provider, with acme live."""
    return as_cast("root")


def test_the_list_is_searched_while_typing(root: Page) -> None:
    root.goto("/provider/tenants")
    rows = root.locator("#tenant-rows tbody tr")
    root.get_by_role("searchbox").press_sequentially("globex")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("globex")
    root.get_by_role("searchbox").fill("nobody has this name")
    expect(rows).to_have_count(0)


def test_a_suspension_is_enforced_at_once_and_so_is_its_end(
    root: Page, acme: Furnished, installation: Installation, line: Line
) -> None:
    phone = line.phone("102", acme.domain, acme.passwords["102"], installation.edge)
    assert line.do(phone.register()).status == 200
    root.goto(f"/provider/tenants/{acme.tenant}")
    root.get_by_label("Why").fill("The invoices are open")
    root.get_by_role("button", name="Suspend").click()
    steps.toast(root, re.compile(r"is suspended\. Enforced \d"))
    assert line.do(phone.register()).status == 403
    root.get_by_role("button", name="Resume").click()
    steps.toast(root, re.compile(r"is active again\. Enforced \d"))
    assert line.do(phone.register()).status == 200


def test_support_is_seen_by_the_tenant(
    root: Page, acme: Furnished, as_cast: Callable[[str], Page], watch: Watch
) -> None:
    root.goto(f"/provider/tenants/{acme.tenant}")
    root.get_by_label("Reason").fill(REASON)
    root.get_by_role("button", name="Enter").click()
    expect(root.get_by_text("You are here as support until")).to_be_visible()
    root.goto(acme.path("users"))
    expect(root.get_by_role("link", name="101", exact=True)).to_be_visible()
    root.get_by_role("button", name="Leave").click()
    with watch.expecting(403):
        root.goto(acme.path("users"))
        expect(root.get_by_role("heading", name="Not with your role")).to_be_visible()
    alice = as_cast("alice")
    alice.goto(acme.path("activity"))
    expect(alice.locator("main")).to_contain_text(REASON)


def test_nodes_say_what_runs_and_an_older_version_comes_back(
    root: Page, acme: Furnished, as_cast: Callable[[str], Page]
) -> None:
    root.goto("/provider/nodes")
    expect(root.get_by_text("up to date")).to_be_visible()
    alice = as_cast("alice")
    alice.goto(acme.path(f"users/{acme.users['101']}"))
    alice.get_by_label("Name optional", exact=True).fill("Reception")
    alice.get_by_role("button", name="Save").click()
    alice.goto(acme.path("publish"))
    alice.get_by_role("button", name="Publish").click()
    steps.toast(alice, steps.LIVE)
    root.goto("/provider/publications")
    newest = int(root.locator("tbody tr").first.get_by_role("link").inner_text())
    root.goto(f"/provider/publications/{newest - 1}")
    root.locator("form[action$='/roll-back'] button").click()
    steps.toast(root, steps.LIVE)
