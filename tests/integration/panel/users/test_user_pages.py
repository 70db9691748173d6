"""A tenant's pages on its users. Ownership, roles, foreign and missing ids, methods: test_isolation_walk.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.models import Number, UpstreamAccount, User
from panel.publishing.fake import FakeNode
from panel.secrets import vault
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


def rows(cast: Cast, extension: str) -> list[User]:
    with cast.scope() as scope:
        found = scope.all(scope.select(User).where(User.extension == extension))
        scope.session.expunge_all()
        return found


def fields(**changed: object) -> dict[str, object]:
    return {"extension": "150", "name": "Ann", "enabled": "1", "ring_seconds": "60", "max_bindings": "10", **changed}


def test_the_list_finds_by_extension_and_name(alice: Browser) -> None:
    page = alice.get("/t/acme/users?q=101").text
    assert "<!doctype html>" in page
    assert "Search extension or name" in page
    fragment = alice.htmx("/t/acme/users?q=nobody-here").text
    assert "<html" not in fragment
    assert "No user matches" in fragment


@pytest.mark.parametrize("sort", ["extension", "-extension", "name", "-name", "sip_password", "'; --"])
def test_any_sort_in_the_address_is_safe(alice: Browser, sort: str) -> None:
    page = alice.get("/t/acme/users", query_string={"sort": sort, "page": "99999999999"})
    assert page.status_code == 200
    assert "101" in page.text


def test_the_list_tells_what_the_node_says(cast: Cast, alice: Browser, node: FakeNode) -> None:
    tenant, user = cast.tenant_id("acme"), cast.user_id("acme")
    node.bindings = [{"tenant": tenant, "user": user, "contact": "sip:101@10.0.0.1", "source": "10.0.0.1:5060"}]
    node.upstream = [
        {"tenant": tenant, "user": user, "connection": "c", "state": "refused", "code": 403, "reason": "No"}
    ]
    text = alice.htmx("/t/acme/users").text
    assert "1 phone" in text
    assert "refused 403 No" in text


def test_what_a_node_says_of_another_tenant_is_not_shown(cast: Cast, alice: Browser, node: FakeNode) -> None:
    node._of = lambda rows, request: rows  # type: ignore[method-assign]
    node.bindings = [{"tenant": cast.tenant_id("globex"), "user": cast.user_id("acme"), "contact": "sip:x"}]
    assert "none registered" in alice.htmx("/t/acme/users").text
    assert "1 phone" not in alice.htmx("/t/acme/users").text


def test_create_shows_the_password_exactly_once(cast: Cast, alice: Browser) -> None:
    answer = alice.post("/t/acme/users/new", data=fields())
    assert answer.status_code == 303
    (user,) = rows(cast, "150")
    with cast.app.app_context():
        password = vault().unseal((user.tenant_id, user.id, "sip_password"), user.sip_password)
    first, second = alice.get(answer.location).text, alice.get(answer.location).text
    assert password in first
    assert password not in second
    assert "was shown once" in second
    assert "<svg" in second


def test_a_colleague_never_sees_it(cast: Cast, alice: Browser, bob: Browser) -> None:
    answer = alice.post("/t/acme/users/new", data=fields())
    assert "was shown once" in bob.get(answer.location).text


def test_the_audit_keeps_no_password(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    sent = fields(**{f"upstream-{connection}-username": "2150", f"upstream-{connection}-password": "hush hush"})
    alice.post("/t/acme/users/new", data=sent)
    entries = [entry for entry in cast.audit() if entry.action in ("user.created", "account.created")]
    assert len(entries) == 2
    assert all("hush" not in str(entry.after) and "siv1" not in str(entry.after) for entry in entries)
    assert entries[0].after["sip_password"] == "(set)"


@pytest.mark.parametrize(
    ("sent", "field", "words"),
    [
        ({"extension": "101"}, "extension", "101 is taken"),
        ({"extension": ""}, "extension", "Please fill this in"),
        ({"extension": "1 0 1"}, "extension", "is no extension"),
        ({"extension": "a" * 65}, "extension", "At most 64"),
        ({"name": "Ann\x00"}, "name", "control character"),
        ({"ring_seconds": "4"}, "ring_seconds", "the lowest is 5"),
        ({"max_bindings": "99"}, "max_bindings", "the highest is 32"),
        ({"forward_always": "150"}, "forward_always", "circle"),
        ({"aliases": "101"}, "aliases", "is the extension of"),
        ({"limit_calls": "x"}, "limit_calls", "is not a whole number"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    cast: Cast, alice: Browser, sent: dict[str, object], field: str, words: str
) -> None:
    answer = alice.post("/t/acme/users/new", data=fields(**sent))
    assert answer.status_code == 422
    where = answer.text.index(f'id="{field}-error"')
    assert words in answer.text[where : where + 400]
    assert not rows(cast, "150")


def test_live_check_of_the_extension(cast: Cast, alice: Browser) -> None:
    assert "101 is taken" in alice.htmx("/t/acme/users/new?extension=101").text
    assert "150 is free" in alice.htmx("/t/acme/users/new?extension=150").text
    own = cast.user_id("acme")
    assert "101 is free" in alice.htmx(f"/t/acme/users/{own}?extension=101").text


def test_edit_keeps_the_upstream_password_that_is_not_typed_again(cast: Cast, alice: Browser) -> None:
    connection, user = cast.add_connection(), cast.user_id("acme")
    prefix = f"upstream-{connection}"
    first = fields(extension="101", **{f"{prefix}-username": "2101", f"{prefix}-password": "hush"})
    assert alice.post(f"/t/acme/users/{user}", data=first).status_code == 303
    page = alice.get(f"/t/acme/users/{user}").text
    assert "hush" not in page
    assert "Empty: stays as it is" in page
    again = fields(extension="101", name="Other", **{f"{prefix}-username": "2102"})
    assert alice.post(f"/t/acme/users/{user}", data=again).status_code == 303
    with cast.scope() as scope, cast.app.app_context():
        account = scope.first(scope.select(UpstreamAccount))
        assert account is not None
        place = (scope.tenant_id, user, connection, "upstream_password")
        assert (account.username, vault().unseal(place, account.password)) == ("2102", "hush")


def test_a_missing_upstream_password_is_said_beside_its_field(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    answer = alice.post("/t/acme/users/new", data=fields(**{f"upstream-{connection}-username": "2150"}))
    assert answer.status_code == 422
    assert f'id="upstream-{connection}-password-error"' in answer.text
    assert 'value="2150"' in answer.text


def test_a_foreign_connection_in_the_form_is_not_looked_at(cast: Cast, alice: Browser) -> None:
    foreign = cast.add_connection("globex")
    sent = fields(**{f"upstream-{foreign}-username": "x", f"upstream-{foreign}-password": "y"})
    assert alice.post("/t/acme/users/new", data=sent).status_code == 303
    with cast.scope() as scope:
        assert scope.count(UpstreamAccount) == 0


def test_a_new_password_replaces_the_old_one(cast: Cast, alice: Browser) -> None:
    user = cast.user_id("acme")
    before = rows(cast, "101")[0].sip_password
    answer = alice.post(f"/t/acme/users/{user}/password")
    assert answer.status_code == 303
    assert rows(cast, "101")[0].sip_password != before
    assert "shown now, and never again" in alice.get(answer.location).text


def test_remove(cast: Cast, alice: Browser) -> None:
    user = cast.user_id("acme")
    assert alice.post(f"/t/acme/users/{user}/remove").location == "/t/acme/users"
    assert not rows(cast, "101")
    assert "user.removed" in cast.actions()


def test_a_user_whom_a_number_rings_is_not_removed(cast: Cast, alice: Browser) -> None:
    user = cast.user_id("acme")
    cast.add(Number(tenant_id=cast.tenant_id("acme"), number="+4930123", user_id=user))
    answer = alice.post(f"/t/acme/users/{user}/remove")
    assert answer.status_code == 422
    assert "+4930123 still rings 101" in answer.text
    assert rows(cast, "101")


def test_saving_marks_what_is_not_yet_live(alice: Browser) -> None:
    alice.post("/t/acme/users/new", data=fields())
    assert "Saved, but not yet live" in alice.get("/t/acme/users").text


def test_no_csrf_token_no_change(cast: Cast, alice: Browser) -> None:
    alice.with_csrf = False
    assert alice.post("/t/acme/users/new", data=fields()).status_code == 400
    assert not rows(cast, "150")


def test_a_phone_that_registers_itself_has_the_account_of_the_pbx(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection(strategy="relay")
    page = alice.get("/t/acme/users/new").text
    assert f'name="upstream-{connection}-username"' in page
    assert f'name="upstream-{connection}-password"' not in page
    sent = {f"upstream-{connection}-username": "2150", f"upstream-{connection}-auth_username": "acme-2150"}
    answer = alice.post("/t/acme/users/new", data=fields(**sent, **{f"upstream-{connection}-password": "hush hush"}))
    with cast.scope() as scope:
        (account,) = scope.all(scope.select(UpstreamAccount))
        assert (account.username, account.auth_username, account.password) == ("2150", "acme-2150", "")
    phone = alice.get(answer.location).text
    assert "registers at Main itself" in phone
    for value in ("150", "acme-2150", "acme.tenantry.example", "192.0.2.1", "150@acme.tenantry.example"):
        assert f'data-copy="{value}"' in phone
    alice.post(f"/t/acme/users/{account.user_id}", data=fields(**{f"upstream-{connection}-username": "2150"}))
    assert 'data-copy="2150"' in alice.get(answer.location).text
    assert "the one of this user at Main" in phone
    assert "Make a new password" not in phone
    assert "The password is shown now" not in phone


def test_a_disabled_relay_leaves_the_phone_with_our_account(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection(strategy="relay", enabled=False)
    answer = alice.post("/t/acme/users/new", data=fields(**{f"upstream-{connection}-username": "2150"}))
    phone = alice.get(answer.location).text
    assert "The password is shown now" in phone
    assert 'data-copy="2150"' not in phone
