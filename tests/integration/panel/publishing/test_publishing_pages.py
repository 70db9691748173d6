"""Publishing by page: the owner's own, and the provider's publications. Access: test_isolation_walk.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.models import Group, Schedule
from panel.publishing.fake import FakeNode
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


def test_one_click_says_in_how_many_milliseconds(alice: Browser, node: FakeNode) -> None:
    assert "user 101" in alice.get("/t/acme/publish").text
    assert alice.post("/t/acme/publish").location == "/t/acme/publish"
    page = alice.get("/t/acme/publish").text
    assert "Live: version 1 is enforced, 1.5 ms after the edge got it." in page
    assert "Everything is live" in page
    assert "1.5 ms to live" in page


def test_an_owner_reads_nothing_of_others_in_the_history(root: Browser, alice: Browser, node: FakeNode) -> None:
    root.post("/provider/publications")
    assert "Globex" not in alice.get("/t/acme/publish").text


def test_errors_lead_to_the_field_and_keep_the_button_off(
    cast: Cast, alice: Browser, carol: Browser, node: FakeNode
) -> None:
    cast.add_connection("globex")
    carol.post("/t/globex/publish")
    mine = cast.add_connection("acme")
    page = alice.get("/t/acme/publish").text
    assert f'href="/t/acme/connections/{mine}#field-sources' in page
    assert "Globex" not in page
    assert " disabled>" in page
    alice.post("/t/acme/publish")
    assert "Nothing went live" in alice.get("/t/acme/publish").text


def test_without_a_node_it_waits(alice: Browser) -> None:
    alice.post("/t/acme/publish")
    page = alice.get("/t/acme/publish").text
    assert "It goes live as soon as local is back" in page
    assert "waiting for the edge" in page


def test_a_secret_is_never_on_a_page(cast: Cast, root: Browser, alice: Browser, node: FakeNode) -> None:
    root.post("/provider/publications")
    alice.post(f"/t/acme/users/{cast.user_id('acme')}/password")
    for browser, path in [(alice, "/t/acme/publish"), (root, "/provider/publications")]:
        page = browser.get(path).text
        assert "SIP password:</span> changed" in page
        assert "siv1:" not in page
    root.post("/provider/publications", data={"reason": "new password"})
    detail = root.get("/provider/publications/2").text
    assert "siv1:" not in detail
    assert "new password" in detail


def test_the_provider_publishes_all_and_rolls_back(root: Browser, alice: Browser, node: FakeNode) -> None:
    root.post("/provider/publications")
    alice.post("/t/acme/users/new", data={"extension": "150", "enabled": "1"})
    root.post("/provider/publications")
    assert "user 150" in root.get("/provider/publications/1").text, "the way back is shown"
    answer = root.post("/provider/publications/1/roll-back")
    assert answer.status_code == 303
    listing = root.get("/provider/publications").text
    assert "Rolled back to version 1" in listing
    assert "user 150" in listing, "what was saved is not lost, but not yet live"
    assert node.version == 3


def test_versions_that_are_not_there(root: Browser) -> None:
    assert root.get("/provider/publications/99").status_code == 404
    assert root.post("/provider/publications/99/roll-back").status_code == 404
    assert root.get("/provider/publications/x").status_code == 404


def test_a_reason_that_cannot_be(root: Browser) -> None:
    root.post("/provider/publications", data={"reason": "x" * 501})
    assert "At most 500 characters" in root.get("/provider/publications").text


def test_the_rows_alone_for_htmx(root: Browser, node: FakeNode) -> None:
    root.post("/provider/publications")
    fragment = root.htmx("/provider/publications").text
    assert "<html" not in fragment
    assert "1.5 ms" in fragment


def test_what_is_wrong_leads_to_where_it_is_mended(cast: Cast, alice: Browser) -> None:
    tenant = cast.tenant_id("acme")
    hours = cast.add(Schedule(tenant_id=tenant, name="Office", time_zone="UTC"))
    group = cast.add(Group(tenant_id=tenant, extension="200", name="Nobody"))
    cast.add_connection()
    sent = {"default_connection_id": "", "caller_id": "+4930123"}
    assert alice.post("/t/acme/outbound/all", data=sent).status_code == 303
    page = alice.get("/t/acme/publish").text
    assert f'href="/t/acme/groups/{group}#field-members"' in page
    assert f'href="/t/acme/hours/{hours}#field-openings"' in page
    assert 'href="/t/acme/outbound/all#field-caller_id"' in page
    assert 'id="field-members"' in alice.get(f"/t/acme/groups/{group}").text
    assert 'id="field-openings"' in alice.get(f"/t/acme/hours/{hours}").text
