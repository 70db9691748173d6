"""The whole way: an organisation signs up, connects a real Kamailio, goes live, and its phone is called."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e import steps
from tests.e2e.conftest import SECRET
from tests.e2e.installation import Installation
from tests.e2e.line import Line
from tests.e2e.looks import inspect, picture
from tests.integration.kamailio.registrar import KamailioRegistrar

CLINIC = steps.House("Harbour Clinic", "harbour-clinic")
UNPUBLISHED = "Saved, but not yet live"


def test_from_sign_up_to_the_first_call(
    page: Page, installation: Installation, pbx: KamailioRegistrar, line: Line, pictures: Path
) -> None:
    folder = pictures / "story"
    steps.sign_up(page, CLINIC)
    picture(page, folder, "01-signed-up")
    steps.confirm(page, CLINIC)
    picture(page, folder, "02-overview-new")

    steps.connect(page, CLINIC, pbx)
    told = page.locator("#mode-card pre").first
    expect(told).to_have_text(f"Contact: <sip:101@127.0.0.1:{installation.edge.port};local-domain={CLINIC.domain}>")
    expect(page.get_by_text("Off: calls are told apart by where they come from")).to_be_visible()
    picture(page, folder, "03-connection-mode-off")
    connection = page.url

    password = steps.add_user(page, CLINIC, "101", "Reception", SECRET)
    inspect(page, pictures / "pages", "users.phone-with-password")
    page.reload()
    expect(page.get_by_text(password)).to_have_count(0)

    page.goto(connection)
    steps.switch_mode(page, on=True)
    expect(page.get_by_text("On: your domain is the key to every call")).to_be_visible()
    expect(told).to_have_text(f"Contact: <sip:101@{CLINIC.domain}:{installation.edge.port}>")
    expect(page.locator("#unpublished")).to_contain_text(UNPUBLISHED)
    picture(page, folder, "05-connection-mode-on")

    page.get_by_role("link", name="Review and publish").click()
    inspect(page, pictures / "pages", "publishing.page-review")
    page.get_by_role("button", name="Publish").click()
    steps.toast(page, steps.LIVE)
    expect(page.locator("#unpublished")).to_be_empty()
    picture(page, folder, "07-published")

    page.goto(connection)
    row = page.locator("#connection-state tbody tr", has_text="101")
    expect(row.locator(".badge-success")).to_have_text("registered")
    assert pbx.contacts(f"101@{CLINIC.registrar}") == [f"sip:101@{CLINIC.domain}:{installation.edge.port}"]
    picture(page, folder, "08-registered")

    phone = line.registered("101", CLINIC.domain, password, installation.edge)
    answer = line.call(line.caller(), pbx.hop(), f"101@{CLINIC.registrar}")
    assert answer.status == 200
    assert len(phone.received("INVITE")) == 1
    page.goto(CLINIC.path("users"))
    expect(page.locator("#user-rows")).to_contain_text("1 phone")
    picture(page, folder, "09-users")

    page.goto(CLINIC.path("calls"))
    recorded = page.locator("#call-rows tbody tr", has_text="+4930555000")
    for _ in range(20):
        if recorded.count():
            break
        page.wait_for_timeout(250)
        page.reload()
    expect(recorded).to_contain_text("talked")
    inspect(page, pictures / "pages", "live.calls-recorded")
    page.goto(CLINIC.path())
    expect(page.get_by_role("heading", name="You are live")).to_be_visible()
    picture(page, folder, "11-overview-live")
