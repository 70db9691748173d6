"""A tenant's pages on business hours. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

import pytest

from panel.models import Number, Schedule, User
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
WEEK = {"monday": "9-12:30, 13:30-17", "friday": "09:00-14:00"}


def fields(**changed: str) -> dict[str, str]:
    return {"name": "Office", "time_zone": "Europe/Berlin", "holidays": "2026-12-26\n2026-12-25", **WEEK, **changed}


def one(cast: Cast) -> Schedule:
    with cast.scope() as scope:
        (found,) = scope.all(scope.select(Schedule))
        scope.session.expunge_all()
        return found


def test_the_empty_page_says_what_to_do(alice: Browser) -> None:
    assert "Add the first business hours" in alice.get("/t/acme/hours").text


def test_create_and_find(cast: Cast, alice: Browser) -> None:
    assert "09:00-17:00" in alice.get("/t/acme/hours/new").text
    assert alice.post("/t/acme/hours/new", data=fields()).location == "/t/acme/hours"
    made = one(cast)
    assert made.openings == ["0 09:00-12:30", "0 13:30-17:00", "4 09:00-14:00"]
    assert made.holidays == ["2026-12-25", "2026-12-26"]
    text = alice.htmx("/t/acme/hours?q=OFF").text
    assert "<html" not in text
    assert "Monday 09:00-12:30, 13:30-17:00; Friday 09:00-14:00" in text
    assert "Open now, until" in text or "Closed now, " in text
    assert "No business hours match" in alice.htmx("/t/acme/hours?q=nothing").text
    assert cast.audit()[-1].after["openings"].startswith("Monday 09:00")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a;b"}, "name"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": "../etc"}, "time_zone"),
        ({"monday": "17-9"}, "monday"),
        ({"sunday": "all day"}, "sunday"),
        ({"holidays": "2026-02-30"}, "holidays"),
        ({"holidays": "Christmas"}, "holidays"),
    ],
)
def test_what_cannot_be(cast: Cast, alice: Browser, changed: dict[str, str], field: str) -> None:
    answer = alice.post("/t/acme/hours/new", data=fields(**changed))
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    with cast.scope() as scope:
        assert scope.count(Schedule) == 0


def test_edit_rename_and_remove(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/hours/new", data=fields())
    address = f"/t/acme/hours/{one(cast).id}"
    page = alice.get(address).text
    assert "09:00-12:30, 13:30-17:00" in page
    assert "Nobody goes by these hours yet" in page
    taken = alice.post("/t/acme/hours/new", data=fields())
    assert "You have business hours named Office already" in taken.text
    assert alice.post(address, data=fields(name="Workshop", holidays="")).status_code == 303
    assert (one(cast).name, one(cast).holidays) == ("Workshop", [])
    assert alice.post(address, data=fields(friday="x")).status_code == 422
    assert alice.post(f"{address}/remove").status_code == 303
    assert [action for action in cast.actions() if action.startswith("schedule.")] == [
        "schedule.created",
        "schedule.updated",
        "schedule.removed",
    ]


def test_what_is_in_use_stays(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/hours/new", data=fields())
    schedule, tenant, user = one(cast).id, cast.tenant_id("acme"), cast.user_id("acme")
    cast.add(Number(tenant_id=tenant, number="123", user_id=user, schedule_id=schedule))
    answer = alice.post(f"/t/acme/hours/{schedule}/remove")
    assert answer.status_code == 422
    assert "number 123 still goes by it" in answer.text
    assert one(cast).id == schedule


def test_a_user_goes_by_hours_of_its_own_tenant_only(cast: Cast, alice: Browser) -> None:
    cast.browser("carol").post("/t/globex/hours/new", data=fields(name="Theirs"))
    alice.post("/t/acme/hours/new", data=fields())
    with cast.scope("globex") as scope:
        foreign = scope.all(scope.select(Schedule))[0].id
    sent = {"extension": "101", "enabled": "1", "forward_closed": "102", "do_not_disturb": "1", "fork": "serial"}
    more = {"caller_id": "+49 (30) 123-45", "hide_caller_id": "1", "serial_seconds": "10"}
    address = f"/t/acme/users/{cast.user_id('acme')}"
    refused = alice.post(address, data={**sent, **more, "schedule_id": foreign})
    assert refused.status_code == 422
    assert 'id="schedule_id-error"' in refused.text
    assert alice.post(address, data={**sent, **more, "schedule_id": one(cast).id}).status_code == 303
    with cast.scope() as scope:
        user = scope.first(scope.select(User).where(User.extension == "101"))
        assert user is not None
        assert (user.do_not_disturb, user.fork, user.serial_seconds) == (True, "serial", 10)
        assert (user.caller_id, user.hide_caller_id, user.forward_closed) == ("+493012345", True, "102")
    assert "Theirs" not in alice.get(address).text
    assert "do not disturb" in alice.htmx("/t/acme/users").text
