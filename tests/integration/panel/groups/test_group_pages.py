"""A tenant's pages on ring groups. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

import pytest

from panel.groups.service import extensions_of
from panel.models import Group, GroupMember, Number, Schedule
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration


def fields(*members: str, **changed: object) -> dict[str, object]:
    given = {"extension": "200", "name": "Reception", "enabled": "1", "strategy": "in_turn", "members": list(members)}
    return {**given, "member_seconds": "15", "ring_seconds": "60", "forward_no_answer": "", **changed}


def group(cast: Cast) -> tuple[Group, list[str]]:
    with cast.scope() as scope:
        (found,) = scope.all(scope.select(Group))
        members = extensions_of(scope, found)
        scope.session.expunge_all()
        return found, members


def test_the_empty_page_says_what_to_do(alice: Browser) -> None:
    assert "Add the first ring group" in alice.get("/t/acme/groups").text


def test_create_and_find(cast: Cast, alice: Browser) -> None:
    answer = alice.post("/t/acme/groups/new", data=fields("102 Workshop", "", "101", ""))
    assert answer.location == "/t/acme/groups"
    made, members = group(cast)
    assert (made.extension, made.strategy, members) == ("200", "in_turn", ["102", "101"])
    text = alice.htmx("/t/acme/groups?q=recep").text
    assert "<html" not in text
    assert "102, 101" in text
    assert "No ring group matches" in alice.htmx("/t/acme/groups?q=nothing").text
    assert cast.audit()[-1].after["members"] == ["102", "101"]


def test_members_keep_their_order_when_it_changes(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/groups/new", data=fields("101", "102"))
    address = f"/t/acme/groups/{group(cast)[0].id}"
    assert 'value="101"' in alice.get(address).text
    assert alice.post(address, data=fields("102", "101")).status_code == 303
    assert group(cast)[1] == ["102", "101"]
    assert alice.post(address, data=fields("101", strategy="round_robin")).status_code == 303
    assert group(cast)[1] == ["101"]
    assert cast.audit()[-1].before["members"] == ["102", "101"]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (fields("101", extension=""), "extension"),
        (fields("101", extension="a b"), "extension"),
        (fields("101", extension="102"), "extension"),
        (fields("999"), "members"),
        (fields("101", "101"), "members"),
        (fields("101", strategy="loud"), "strategy"),
        (fields("101", ring_seconds="2"), "ring_seconds"),
        (fields("101", forward_no_answer="no way"), "forward_no_answer"),
        (fields("101", schedule_id="FOREIGN"), "schedule_id"),
        (fields("101", schedule_id="nonsense"), "schedule_id"),
        (fields("101", aliases="101"), "aliases"),
    ],
)
def test_what_cannot_be(cast: Cast, alice: Browser, sent: dict[str, object], field: str) -> None:
    if sent.get("schedule_id") == "FOREIGN":
        row = Schedule(tenant_id=cast.tenant_id("globex"), name="Theirs", time_zone="UTC")
        sent = {**sent, "schedule_id": cast.add(row)}
    answer = alice.post("/t/acme/groups/new", data=sent)
    assert answer.status_code == 422
    assert f'id="field-{field}"' in answer.text
    shown = answer.text.split(f'id="field-{field}"')[1].split('class="mb-3 field"')[0]
    assert "invalid-feedback" in shown
    with cast.scope() as scope:
        assert (scope.count(Group), scope.count(GroupMember)) == (0, 0)


def test_the_extension_is_checked_while_it_is_typed(alice: Browser) -> None:
    assert "200 is free" in alice.htmx("/t/acme/groups/new?extension=200").text
    assert "taken by another user of yours (Workshop)" in alice.htmx("/t/acme/groups/new?extension=102").text
    alice.post("/t/acme/groups/new", data=fields("101"))
    assert "taken by a ring group of yours (Reception)" in alice.htmx("/t/acme/users/new?extension=200").text


def test_a_number_rings_it_and_holds_it(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/groups/new", data=fields("101", "102"))
    made = group(cast)[0].id
    sent = {"number": "+49301", "group_id": made}
    assert alice.post("/t/acme/numbers/new", data=sent).status_code == 303
    assert "Reception" in alice.htmx("/t/acme/numbers").text
    both = alice.post("/t/acme/numbers/new", data={"number": "5", "group_id": made, "user_id": cast.user_id("acme")})
    assert "Choose one only" in both.text
    answer = alice.post(f"/t/acme/groups/{made}/remove")
    assert answer.status_code == 422
    assert "+49301 still rings 200" in answer.text
    with cast.scope() as scope:
        number = scope.all(scope.select(Number))[0].id
    assert alice.post(f"/t/acme/numbers/{number}/remove").status_code == 303
    assert alice.post(f"/t/acme/groups/{made}/remove").status_code == 303
    with cast.scope() as scope:
        assert (scope.count(Group), scope.count(GroupMember)) == (0, 0)


def test_a_user_that_goes_leaves_its_groups(cast: Cast, alice: Browser) -> None:
    alice.post("/t/acme/groups/new", data=fields("101", "102"))
    assert alice.post(f"/t/acme/users/{cast.user_id('acme', '102')}/remove").status_code == 303
    assert group(cast)[1] == ["101"]


def test_a_foreign_group_cannot_be_rung(cast: Cast, alice: Browser) -> None:
    foreign = cast.add(Group(tenant_id=cast.tenant_id("globex"), extension="200", name="Theirs"))
    answer = alice.post("/t/acme/numbers/new", data={"number": "123", "group_id": foreign})
    assert answer.status_code == 422
    assert 'id="group_id-error"' in answer.text
