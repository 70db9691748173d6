"""A tenant's pages on numbers and outbound rules. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

import pytest

from panel.models import Number, OutboundRule
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
