"""A tenant's pages on numbers and outbound rules. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

import pytest

from panel.models import Number, OutboundRule, Schedule
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration


def numbers(cast: Cast) -> list[Number]:
    with cast.scope() as scope:
        found = scope.all(scope.select(Number))
        scope.session.expunge_all()
        return found


def test_the_empty_page_says_what_to_do(alice: Browser) -> None:
    assert "Add the first number" in alice.get("/t/acme/numbers").text


def test_a_number_as_people_write_it(cast: Cast, alice: Browser) -> None:
    sent = {"number": "+49 (30) 123-45", "user_id": cast.user_id("acme"), "forward": ""}
    assert alice.post("/t/acme/numbers/new", data=sent).location == "/t/acme/numbers"
    assert [(number.number, number.forward) for number in numbers(cast)] == [("+493012345", "")]
    assert "+493012345" in alice.htmx("/t/acme/numbers?q=3012").text
    assert "No number matches" in alice.htmx("/t/acme/numbers?q=999").text


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"number": "", "forward": "101"}, "number"),
        ({"number": "abc", "forward": "101"}, "number"),
        ({"number": "123"}, "user_id"),
        ({"number": "123", "user_id": "OWN", "forward": "101"}, "user_id"),
        ({"number": "123", "user_id": "FOREIGN"}, "user_id"),
        ({"number": "123", "user_id": "nonsense"}, "user_id"),
        ({"number": "123", "forward": "123"}, "forward"),
    ],
)
def test_what_cannot_be(cast: Cast, alice: Browser, sent: dict[str, str], field: str) -> None:
    ids = {"OWN": cast.user_id("acme"), "FOREIGN": cast.user_id("globex")}
    answer = alice.post("/t/acme/numbers/new", data={name: ids.get(value, value) for name, value in sent.items()})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert not numbers(cast)


def test_edit_and_remove(cast: Cast, alice: Browser) -> None:
    number = cast.add(Number(tenant_id=cast.tenant_id("acme"), number="123", forward="101"))
    assert 'value="123"' in alice.get(f"/t/acme/numbers/{number}").text
    sent = {"number": "124", "user_id": "", "forward": "102"}
    assert alice.post(f"/t/acme/numbers/{number}", data=sent).status_code == 303
    assert numbers(cast)[0].number == "124"
    again = alice.post("/t/acme/numbers/new", data=sent)
    assert "124 is in your list already" in again.text
    assert alice.post(f"/t/acme/numbers/{number}/remove").status_code == 303
    assert not numbers(cast)
    assert [action for action in cast.actions() if action.startswith("number.")] == ["number.updated", "number.removed"]


def test_outbound_rules(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    sent = {"position": "10", "prefix": "00", "strip": "2", "prepend": "+", "connection_id": connection}
    assert alice.post("/t/acme/outbound/new", data=sent).status_code == 303
    assert "without the first 2" in alice.get("/t/acme/numbers").text
    taken = alice.post("/t/acme/outbound/new", data=sent)
    assert "Another rule stands at 10. 20 is free." in taken.text
    foreign = alice.post(
        "/t/acme/outbound/new", data={**sent, "position": "20", "connection_id": cast.add_connection("globex")}
    )
    assert foreign.status_code == 422
    with cast.scope() as scope:
        rule = scope.all(scope.select(OutboundRule))[0].id
    assert alice.post(f"/t/acme/outbound/{rule}", data={**sent, "strip": ""}).status_code == 303
    assert "without the first" not in alice.get("/t/acme/numbers").text
    assert alice.post(f"/t/acme/outbound/{rule}/remove").status_code == 303
    with cast.scope() as scope:
        assert scope.count(OutboundRule) == 0


def test_a_rule_by_pattern_with_a_fall_back(cast: Cast, alice: Browser) -> None:
    first, second = cast.add_connection(), cast.add_connection(name="Spare")
    sent = {"position": "10", "pattern": "0 1[5-7]x.", "connection_id": first, "fallback_id": second}
    assert alice.post("/t/acme/outbound/new", data=sent).status_code == 303
    page = alice.get("/t/acme/numbers").text
    assert "01[5-7]X." in page
    assert "else Spare" in page
    refused = alice.post("/t/acme/outbound/new", data={**sent, "position": "20", "pattern": "0Q"})
    assert refused.status_code == 422
    assert 'id="pattern-error"' in refused.text
    same = alice.post("/t/acme/outbound/new", data={**sent, "position": "20", "fallback_id": first})
    assert same.status_code == 422
    assert 'id="fallback_id-error"' in same.text
    foreign = alice.post(
        "/t/acme/outbound/new", data={**sent, "position": "20", "fallback_id": cast.add_connection("globex")}
    )
    assert foreign.status_code == 422
    answer = alice.post(f"/t/acme/connections/{second}/remove")
    assert answer.status_code == 422
    assert "an outbound rule leads there" in answer.text


def test_a_number_is_tried(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    sent = {"position": "10", "prefix": "0", "strip": "1", "prepend": "+49", "connection_id": connection}
    alice.post("/t/acme/outbound/new", data=sent)
    fragment = alice.htmx("/t/acme/numbers?number=030+123-45").text
    assert "<html" not in fragment
    assert "The rule at position 10 takes 03012345" in fragment
    assert "INVITE sip:+493012345@pbx.example SIP/2.0" in fragment
    page = alice.get("/t/acme/numbers?number=101").text
    assert "<!doctype html>" in page
    assert "your user 101" in page
    assert "Write a number" in alice.htmx("/t/acme/numbers?number=").text
    assert "At most 64 characters" in alice.htmx(f"/t/acme/numbers?number={'1' * 65}").text


def test_what_holds_for_all_calls_out(cast: Cast, alice: Browser, bob: Browser) -> None:
    connection = cast.add_connection(caller_id="asserted")
    sent = {"default_connection_id": connection, "caller_id": "+49 (30) 123-0"}
    assert alice.post("/t/acme/outbound/all", data=sent).status_code == 303
    assert 'value="+49301230"' in alice.get("/t/acme/outbound/all").text
    assert "Those called see +49301230" in alice.get("/t/acme/numbers").text
    assert alice.post("/t/acme/outbound/all", data={**sent, "caller_id": "no number"}).status_code == 422
    foreign = {**sent, "default_connection_id": cast.add_connection("globex")}
    assert alice.post("/t/acme/outbound/all", data=foreign).status_code == 422
    assert bob.post("/t/acme/outbound/all", data=sent).status_code == 403
    assert cast.actions()[-1] == "tenant.updated"
    with cast.scope() as scope:
        assert (scope.tenant.default_connection_id, scope.tenant.caller_id) == (connection, "+49301230")


def test_a_number_with_hours(cast: Cast, alice: Browser) -> None:
    hours = cast.add(Schedule(tenant_id=cast.tenant_id("acme"), name="Office", time_zone="UTC"))
    sent = {"number": "123", "user_id": cast.user_id("acme"), "schedule_id": hours, "forward_closed": "102"}
    assert alice.post("/t/acme/numbers/new", data=sent).status_code == 303
    rows = alice.htmx("/t/acme/numbers").text
    assert "Office" in rows
    assert "else 102" in rows
    (made,) = numbers(cast)
    assert (made.schedule_id, made.forward_closed) == (hours, "102")
    foreign = cast.add(Schedule(tenant_id=cast.tenant_id("globex"), name="Theirs", time_zone="UTC"))
    answer = alice.post(f"/t/acme/numbers/{made.id}", data={**sent, "schedule_id": foreign})
    assert answer.status_code == 422
    assert 'id="schedule_id-error"' in answer.text
