"""Fraud guards of an organisation, without a mouse; the provider blocks a network and ends a ban."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, delete

from panel.models import InstallationGuard, Node, SourceRule
from panel.publishing.fake import FakeNode
from tests.e2e import looks, steps
from tests.e2e.furnish import Furnished
from tests.e2e.installation import Installation
from tests.e2e.keyboard import Keyboard
from tests.e2e.watch import Watch

BANNED, OTHER = "203.0.113.9", "2001:db8:77::/64"
NETWORK = "198.51.100.0/24"


@pytest.fixture
def second(installation: Installation, tmp_path: Path) -> Iterator[FakeNode]:
    """A node beside the real one, which has banned two sources. All that the provider makes goes with it."""
    cast, now = installation.cast, time.time()
    with FakeNode(tmp_path / "second.sock", "second") as node:
        node.bans = [
            {"source": BANNED, "since": now - 300, "until": now + 900, "reason": "scanner", "times": 3},
            {"source": OTHER, "since": now - 20, "until": now + 40, "reason": "wrong-credentials", "times": 1},
        ]
        cast.add(Node(name="second", control=f"unix:{node.path}"))
        yield node
        with cast.everything() as session:
            session.exec(delete(Node).where(col(Node.name) == "second"))
            for kind in (SourceRule, InstallationGuard):
                session.exec(delete(kind))
            session.commit()


def test_an_organisation_guards_itself_by_keyboard(
    as_cast: Callable[[str], Page], acme: Furnished, watch: Watch, pictures: Path
) -> None:
    page, folder = as_cast("alice"), pictures / "protection"
    page.goto(acme.path("guards"))
    keyboard = Keyboard(page)
    keyboard.enter(page.get_by_role("link", name="Add a guard"))
    keyboard.type("Numbers that begin with", "satellite")
    keyboard.type("Calls of one user in an hour", "2", role="spinbutton")
    with watch.expecting(422):
        keyboard.enter(page.get_by_role("button", name="Save"))
        expect(page.locator("#prefix-error")).to_contain_text("is no start of a number")
    expect(page.get_by_label("Numbers that begin with")).to_be_focused()
    looks.inspect(page, folder, "guard-refused")
    keyboard.type("Numbers that begin with", "00 882")
    page.get_by_label("Allowed", exact=True).select_option(label="Only in Office")
    keyboard.enter(page.get_by_role("button", name="Save"))
    steps.toast(page, "The guard for 00882 is saved.")
    row = page.locator("#guard-rows tbody tr", has_text="00882")
    expect(row).to_contain_text("2 calls an hour")
    expect(row).to_contain_text("only in Office")
    page.get_by_role("searchbox", name="Search by digits").fill("882")
    expect(page.locator("#guard-rows tbody tr")).to_have_count(1)

    page.goto(acme.path("numbers"))
    page.get_by_role("textbox", name="Try a number").fill("00882 16 555")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.locator("#tried")).to_contain_text("Your guard for 00882")
    looks.inspect(page, folder, "guard-tried")

    page.goto(acme.path("publish"))
    expect(page.get_by_role("main")).to_contain_text("guard for 00882")
    page.get_by_role("button", name="Publish").click()
    steps.toast(page, steps.LIVE)


def test_without_guards_the_page_says_what_they_are_for(as_cast: Callable[[str], Page], pictures: Path) -> None:
    page = as_cast("carol")
    page.goto("/t/globex/guards")
    expect(page.get_by_text("Thieves who get hold of a phone’s password")).to_be_visible()
    looks.inspect(page, pictures / "protection", "guards-empty")


def test_the_provider_blocks_and_forgives(
    as_cast: Callable[[str], Page], acme: Furnished, second: FakeNode, watch: Watch, pictures: Path
) -> None:
    page, folder = as_cast("root"), pictures / "protection"
    page.goto("/provider/protection")
    expect(page.locator("#bans")).to_contain_text("second: 2 banned")
    looks.inspect(page, folder, "protection-bans")

    page.get_by_label("Network or address").fill("198.51.100.7/24")
    with watch.expecting(422):
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.locator("#network-error")).to_contain_text(f"write the network as '{NETWORK}'")
    expect(page.get_by_label("Network or address")).to_be_focused()
    keyboard = Keyboard(page)
    keyboard.type("Network or address", NETWORK)
    keyboard.type("Note", "Scans every night")
    keyboard.enter(page.get_by_role("button", name="Add", exact=True))
    steps.toast(page, re.compile(rf"{NETWORK} is blocked\. Live: version \d+ is enforced"))
    row = page.locator("#network-rows tbody tr", has_text=NETWORK)
    expect(row).to_contain_text("Scans every night")

    page.get_by_role("link", name="Add a guard").click()
    page.get_by_label("Numbers that begin with").fill("00881")
    page.get_by_label("Calls of one user in an hour").fill("0")
    page.get_by_role("button", name="Save").click()
    steps.toast(page, "The guard for 00881 is saved. Live")
    page.get_by_role("link", name="00881").click()
    expect(page.get_by_label("Numbers that begin with")).to_have_value("00881")
    looks.inspect(page, folder, "guard-for-all")
    page.goto("/provider/protection")
    looks.inspect(page, folder, "protection")

    Keyboard(page).enter(page.get_by_role("button", name=f"Unban {BANNED} at second"))
    steps.toast(page, f"{BANNED} is not banned at second any more")
    assert [ban["source"] for ban in second.bans or ()] == [OTHER]
    page.get_by_role("searchbox", name="Search by address").fill("nothing")
    expect(page.locator("#bans")).to_contain_text("no banned source matches")

    alice = as_cast("alice")
    alice.goto(acme.path("guards"))
    expect(alice.get_by_role("region", name="Guards of your provider")).to_contain_text("00881")
    looks.inspect(alice, folder, "guards")
