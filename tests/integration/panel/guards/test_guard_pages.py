"""A tenant's pages on fraud guards. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from panel.models import Guard, InstallationGuard, Schedule
from panel.publishing.fake import FakeNode
from sipd.routing.model import MAX_GUARDS
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
PAGE = "/t/acme/guards"


def fields(**changed: str) -> dict[str, str]:
    return {"prefix": "00 882", "calls_per_hour": "5", "schedule_id": "", **changed}


def guards(cast: Cast, slug: str = "acme") -> list[Guard]:
    with cast.scope(slug) as scope:
        found = scope.all(scope.select(Guard).order_by(Guard.prefix))
        scope.session.expunge_all()
        return found


def office_hours(cast: Cast, slug: str = "acme") -> str:
    tenant = cast.tenant_id(slug)
    return cast.add(Schedule(tenant_id=tenant, name="Office", time_zone="UTC", openings=["0 09:00-17:00"]))


def test_the_empty_page_says_what_to_do_and_what_the_provider_has(cast: Cast, alice: Browser, bob: Browser) -> None:
    text = alice.get(PAGE).text
    assert "Add the first guard" in text
    assert "Your provider has none" in text
    cast.add(InstallationGuard(prefix="+881", calls_per_hour=0, note="For the provider's eyes"))
    text = bob.get(PAGE).text
    assert "+881" in text
    assert "They hold for everybody" in text
    assert "eyes" not in text
    assert "Add the first guard" not in text


def test_create_find_and_turn(cast: Cast, alice: Browser) -> None:
    assert alice.get(f"{PAGE}/new").status_code == 200
    assert alice.post(f"{PAGE}/new", data=fields(schedule_id=office_hours(cast))).location == PAGE
    (made,) = guards(cast)
    assert (made.prefix, made.calls_per_hour) == ("00882", 5)
    text = alice.htmx(f"{PAGE}?q=0088").text
    assert "<html" not in text
    assert "5 calls an hour" in text
    assert "only in Office" in text
    assert "No guard matches" in alice.htmx(f"{PAGE}?q=77").text
    for number in range(30):
        cast.add(Guard(tenant_id=cast.tenant_id("acme"), prefix=f"09{number:02}", calls_per_hour=1))
    assert "1–25 of 31" in alice.htmx(PAGE).text
    assert "26–31 of 31" in alice.htmx(f"{PAGE}?page=2").text
    assert "1 call an hour" in alice.htmx(PAGE).text


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": " - "}, "prefix"),
        ({"prefix": "abc"}, "prefix"),
        ({"prefix": "0" * 33}, "prefix"),
        ({"prefix": "00\x00"}, "prefix"),
        ({"calls_per_hour": ""}, "calls_per_hour"),
        ({"calls_per_hour": "-1"}, "calls_per_hour"),
        ({"calls_per_hour": "100001"}, "calls_per_hour"),
        ({"schedule_id": "nothing"}, "schedule_id"),
    ],
)
def test_what_cannot_be(cast: Cast, alice: Browser, changed: dict[str, str], field: str) -> None:
    answer = alice.post(f"{PAGE}/new", data=fields(**changed))
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert guards(cast) == []


def test_business_hours_of_another_tenant_are_not_there(cast: Cast, alice: Browser) -> None:
    answer = alice.post(f"{PAGE}/new", data=fields(schedule_id=office_hours(cast, "globex")))
    assert answer.status_code == 422
    assert "are not there any more" in answer.text


def test_edit_and_remove_with_before_and_after_in_the_audit(cast: Cast, alice: Browser) -> None:
    alice.post(f"{PAGE}/new", data=fields())
    address = f"{PAGE}/{guards(cast)[0].id}"
    assert 'value="5"' in alice.get(address).text
    taken = alice.post(f"{PAGE}/new", data=fields(calls_per_hour="1"))
    assert "There is a guard for 00882 already" in taken.text
    assert alice.post(address, data=fields(calls_per_hour="0", schedule_id=office_hours(cast))).status_code == 303
    assert guards(cast)[0].calls_per_hour == 0
    assert "the schedule makes no difference" in alice.get(address).text
    assert 'value="0"' in alice.get(address).text
    assert alice.post(address, data=fields(prefix="x")).status_code == 422
    assert alice.post(f"{address}/remove").status_code == 303
    assert guards(cast) == []
    entries = [entry for entry in cast.audit() if entry.action.startswith("guard.")]
    assert [entry.action for entry in entries] == ["guard.created", "guard.updated", "guard.removed"]
    assert (entries[1].before["calls_per_hour"], entries[1].after["calls_per_hour"]) == (5, 0)
    assert {entry.subject_label for entry in entries} == {"00882"}
    assert "created guard 00882" in alice.get("/t/acme/activity").text


def test_there_are_not_more_than_the_table_takes(cast: Cast, alice: Browser) -> None:
    tenant = cast.tenant_id("acme")
    for number in range(MAX_GUARDS):
        cast.add(Guard(tenant_id=tenant, prefix=f"1{number:03}", calls_per_hour=1))
    assert f"There are {MAX_GUARDS} guards already" in alice.post(f"{PAGE}/new", data=fields()).text


def test_hours_that_a_guard_goes_by_stay(cast: Cast, alice: Browser) -> None:
    hours = office_hours(cast)
    alice.post(f"{PAGE}/new", data=fields(schedule_id=hours))
    answer = alice.post(f"/t/acme/hours/{hours}/remove")
    assert answer.status_code == 422
    assert "the guard for 00882 still goes by it" in answer.text


def test_a_number_that_is_tried_says_what_guards_do(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/outbound/all", data={"default_connection_id": cast.add_connection()})
    cast.add(InstallationGuard(prefix="00882", calls_per_hour=0))
    alice.post(f"{PAGE}/new", data=fields())
    text = alice.htmx("/t/acme/numbers?number=00882 123").text
    assert "Your guard for 00882 lets each user call such numbers 5 times an hour" in text
    assert "Your provider’s guard for 00882 refuses it." in text
    assert "guard for" not in alice.htmx("/t/acme/numbers?number=0049123").text


def test_publishing_tells_of_it_and_brings_it_to_the_node(cast: Cast, alice: Browser) -> None:
    alice.post(f"{PAGE}/new", data=fields())
    assert "guard for 00882" in alice.get("/t/acme/publish").text
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as node:
        assert alice.post("/t/acme/publish").status_code == 303
        found = [part["guards"] for part in node.parts.values() if part.get("slug") == "acme"]
    assert [(guard["prefix"], guard["calls_per_hour"]) for guard in found[0]] == [("00882", 5)]
