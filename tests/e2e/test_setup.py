"""The link that `make run` prints: it makes the provider's account, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import looks, steps
from tests.e2e.installation import Installation
from tests.e2e.watch import Watch


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("fresh")) as running:
        yield running
    assert not running.faults()


@pytest.fixture
def watch(fresh: Installation) -> Iterator[Watch]:
    watch = Watch(fresh.base)
    yield watch
    watch.finish()


def test_the_setup_link_makes_the_provider_once(fresh: Installation, page: Page, watch: Watch, pictures: Path) -> None:
    link = fresh.setup_link
    page.goto(link)
    looks.inspect(page, pictures / "pages", "setup")
    page.get_by_label("E-mail").fill("root@provider.example")
    with watch.expecting(422):
        page.get_by_label("Password", exact=True).fill("short")
        page.get_by_role("button", name="Create the account").click()
        expect(page.get_by_text("Nothing is saved yet").or_(page.locator("#password-error"))).to_be_visible()
    page.get_by_label("Password", exact=True).fill(steps.PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_role("heading", name="Tenants")).to_be_visible()
    steps.toast(page, "This installation is yours")
    looks.picture(page, pictures / "provider", "welcome")

    with watch.expecting(404):
        answer = page.goto(link)
        assert answer is not None
        assert answer.status == 404
        looks.picture(page, pictures / "provider", "used-link")
