"""The provider's day: find a tenant, suspend it, enter it as support, publish, go back a version, look at nodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

from panel.models import Tenant
from panel.signup.service import Place, create_tenant
from tests.e2e import looks, steps
from tests.e2e.furnish import Furnished
from tests.e2e.installation import Installation
from tests.e2e.line import Line
from tests.e2e.watch import Watch
from tests.integration.kamailio.registrar import KamailioRegistrar

REASON = "Asked for help with a phone"
CROWD = 30
"""Tenants more than fit on a page."""
PBX_OF_TWO = "192.0.2.77"


def let_in(installation: Installation, *slugs: str) -> None:
    """Tenants with a name and a domain, and nobody in them."""
    config = installation.config
    with installation.cast.everything() as session:
        for slug in slugs:
            create_tenant(session, slug.replace("-", " ").title(), slug, Place(config.platform_domain, config.base_url))
        session.commit()


@pytest.fixture
def root(as_cast: Callable[[str], Page], acme: Furnished) -> Page:
    """The provider, with acme live."""
    return as_cast("root")


@pytest.fixture(scope="module")
def crowd(installation: Installation) -> None:
    """Enough tenants for a second page of the list; none of them has anything to publish but itself."""
    let_in(installation, *(f"crowd-{n:02}" for n in range(CROWD)))


@pytest.mark.usefixtures("crowd")
def test_the_list_is_searched_sorted_and_turned_without_a_new_page(root: Page, pictures: Path) -> None:
    root.goto("/provider/tenants")
    documents: list[Request] = []
    root.on("request", lambda request: documents.append(request) if request.is_navigation_request() else None)
    rows = root.locator("#tenant-rows tbody tr")
    box = root.get_by_role("searchbox")

    box.press_sequentially("crowd")
    expect(root.locator(".pager")).to_contain_text(f"1–25 of {CROWD}")
    expect(rows).to_have_count(25)
    expect(rows.first).to_contain_text("Crowd 00")
    looks.picture(root, pictures / "provider", "tenants")
    root.get_by_role("link", name="Next").click()
    expect(rows).to_have_count(CROWD - 25)
    expect(root).to_have_url(re.compile(r"q=crowd&page=2|page=2&q=crowd"))
    root.get_by_role("link", name="Tenant", exact=True).click()
    expect(rows.first).to_contain_text("Crowd 29")

    box.fill("globex.tenantry")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Globex Corporation")
    box.fill("nobody has this name")
    expect(root.get_by_text("No tenant matches")).to_be_visible()
    box.fill("globex")
    expect(rows).to_have_count(1)
    root.get_by_label("Status").select_option("suspended")
    expect(root.get_by_text("No tenant matches")).to_be_visible()
    assert documents == []

    root.reload()
    expect(box).to_have_value("globex")
    expect(root.get_by_label("Status")).to_have_value("suspended")


def test_a_suspension_is_enforced_at_once_and_so_is_its_end(
    root: Page, acme: Furnished, installation: Installation, pbx: KamailioRegistrar, line: Line, pictures: Path
) -> None:
    phone, caller = line.registered("102", acme.domain, acme.passwords["102"], installation.edge), line.caller()
    called = f"102@{acme.registrar}"
    assert line.call(caller, pbx.hop(), called).status == 200

    root.goto(f"/provider/tenants/{acme.tenant}")
    root.get_by_label("Why").fill("The invoices are open")
    root.get_by_role("button", name="Suspend").click()
    steps.toast(root, re.compile(r"is suspended\. Enforced \d"))
    expect(root.get_by_role("alert").or_(root.locator(".alert"))).to_contain_text("The invoices are open")
    looks.inspect(root, pictures / "pages", "tenants.detail-suspended")
    assert line.do(phone.register()).status == 403
    rang = len(phone.received("INVITE"))
    assert line.call(caller, pbx.hop(), called).status in (403, 480)  # the PBX may have lost the registration by now
    assert len(phone.received("INVITE")) == rang

    root.get_by_role("button", name="Resume").click()
    steps.toast(root, re.compile(r"is active again\. Enforced \d"))
    assert line.do(phone.register()).status == 200
    root.goto(f"/provider/tenants/{acme.tenant}")
    for _ in range(40):
        if pbx.contacts(called):
            break
        root.wait_for_timeout(250)
    assert line.call(caller, pbx.hop(), called).status == 200


def test_support_says_why_it_comes_and_the_tenant_sees_what_it_did(
    root: Page, acme: Furnished, as_cast: Callable[[str], Page], watch: Watch, pictures: Path
) -> None:
    with watch.expecting(403):
        root.goto(acme.path("users"))
        expect(root.get_by_role("heading", name="Not with your role")).to_be_visible()
    root.goto(f"/provider/tenants/{acme.tenant}")
    root.get_by_role("button", name="Enter").click()
    expect(root.get_by_label("Reason")).to_be_focused()  # without a reason nobody comes in
    root.get_by_label("Reason").fill(REASON)
    root.get_by_role("button", name="Enter").click()
    banner = root.locator(".support-banner")
    expect(banner).to_contain_text("You are here as support until")
    expect(banner).to_contain_text(REASON)
    looks.inspect(root, pictures / "pages", "support")
    root.goto(acme.path(f"users/{acme.users['102']}"))
    root.get_by_label("Name optional", exact=True).fill("Workshop, left door")
    root.get_by_role("button", name="Save").click()
    steps.toast(root, "saved")
    expect(banner).to_be_visible()
    banner.get_by_role("button", name="Leave").click()
    steps.toast(root, "You have left the tenant.")
    with watch.expecting(403):
        root.goto(acme.path("users"))
        expect(root.get_by_role("heading", name="Not with your role")).to_be_visible()

    for page, path in ((as_cast("alice"), acme.path("activity")), (root, "/provider/audit")):
        page.goto(path)
        entered = page.locator(".activity > li", has_text="entered as support").first
        expect(entered).to_contain_text(REASON)
        expect(entered).to_contain_text("root@")
        deed = page.locator(".activity > li", has_text="updated user 102").first
        expect(deed.locator(".badge")).to_have_text("support")
        expect(deed).to_contain_text("Workshop, left door")
        looks.picture(page, pictures / "provider", "audit" if page is root else "activity-of-the-tenant")


def test_problems_hold_back_only_whose_they_are(root: Page, installation: Installation, pictures: Path) -> None:
    """Two tenants at one PBX address with the mode off: nobody could tell whose a call is."""
    cast = installation.cast
    twins = ("castor", "pollux")
    let_in(installation, *twins, "bystander")
    for slug in twins:
        cast.add_connection(slug, "Shared PBX", host=PBX_OF_TWO, sources=[PBX_OF_TWO], strategy="none")

    root.goto("/provider/publications")
    problem = root.locator(".alert-danger", has_text=PBX_OF_TWO).first
    expect(problem).to_contain_text("another tenant")
    expect(root.get_by_role("heading", name="Saved, but not yet live")).to_be_visible()
    expect(root.locator(".list-group-item", has_text="tenant Bystander")).to_contain_text("added")
    looks.inspect(root, pictures / "pages", "publications-with-problems")
    root.get_by_label("Why").fill("Monday's round")
    root.get_by_role("button", name="Publish the rest").click()
    steps.toast(root, steps.LIVE)
    first = root.locator("#publication-rows tbody tr").first
    expect(first).to_contain_text("Monday's round")
    expect(first).to_contain_text("live")
    expect(first).to_contain_text(re.compile(r"\d[\d.]* m?s"))
    expect(root.locator(".list-group-item", has_text="tenant Bystander")).to_have_count(0)

    first.get_by_role("link").click()
    expect(root.get_by_role("heading", name="What it changed")).to_be_visible()
    expect(root.locator("main")).to_contain_text("tenant Bystander")
    looks.picture(root, pictures / "provider", "publication")

    with cast.everything() as session:
        for tenant_id in [cast.tenant_id(slug) for slug in twins]:
            tenant = session.get(Tenant, tenant_id)
            assert tenant is not None
            session.delete(tenant)
        session.commit()


def test_an_older_version_comes_back_and_what_was_saved_stays(
    root: Page, acme: Furnished, as_cast: Callable[[str], Page], pictures: Path
) -> None:
    alice = as_cast("alice")
    alice.goto(acme.path(f"users/{acme.users['101']}"))
    alice.get_by_label("Name optional", exact=True).fill("Reception")
    alice.get_by_role("button", name="Save").click()
    alice.goto(acme.path("publish"))
    change = alice.locator(".list-group-item", has_text="user 101").first
    expect(change).to_contain_text("Front desk")
    expect(change).to_contain_text("Reception")
    alice.get_by_role("button", name="Publish").click()
    steps.toast(alice, steps.LIVE)

    root.goto("/provider/publications")
    newest = int(root.locator("#publication-rows tbody tr").first.get_by_role("link").inner_text())
    root.goto(f"/provider/publications/{newest - 1}")
    expect(root.locator("[aria-labelledby='back-title']")).to_contain_text("Front desk")
    looks.picture(root, pictures / "provider", "roll-back")
    root.get_by_role("button", name=f"Roll back to {newest - 1}").click()
    steps.toast(root, steps.LIVE)

    alice.goto(acme.path("users"))
    expect(alice.get_by_role("cell", name="Reception")).to_be_visible()
    expect(alice.locator("#unpublished")).to_contain_text("Saved, but not yet live")
    steps.publish(alice, steps.House("Acme Ltd", "acme"))


def test_nodes_say_what_runs_since_when_and_how_fast(root: Page, pictures: Path) -> None:
    root.goto("/provider/publications")
    newest = root.locator("#publication-rows tbody tr").first.get_by_role("link").inner_text()
    root.goto("/provider/nodes")
    node = root.locator("#node-rows section").first
    expect(node).to_contain_text("running")
    expect(node).to_contain_text("up to date")
    expect(node.locator("dd").first).to_have_text(newest)
    expect(node.locator("code")).to_have_text(re.compile(r"^[0-9a-f]{16}$"))
    expect(node.get_by_role("img")).to_have_accessible_name(re.compile(r"\d+ publications?, \d.* ms"))
    looks.picture(root, pictures / "provider", "nodes")
