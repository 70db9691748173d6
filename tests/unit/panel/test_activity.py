"""The audit, written and read."""

from __future__ import annotations

import pytest

from panel import audit
from panel.activity import words
from panel.actor import Actor
from panel.models import AuditEntry, Domain, Tenant, User
from panel.models.base import utc_now
from tests.cast import Browser, Cast

ALICE = Actor("a", "alice@x.example", "192.0.2.9")
USER = User(id="u", tenant_id="t", extension="101", name="Desk", sip_password="sealed", aliases=["front"])


def test_only_what_differs_is_kept() -> None:
    assert audit.difference({"a": 1, "b": 2}, {"a": 1, "b": 3}) == ({"b": 2}, {"b": 3})
    assert audit.difference({}, {"a": 1}) == ({}, {"a": 1})
    assert audit.difference({"a": 1}, {}) == ({"a": 1}, {})


def test_of_secrets_only_that_they_changed() -> None:
    was, now = audit.difference({"sip_password": "old"}, {"sip_password": "new"})
    assert (was, now) == ({"sip_password": "(set)"}, {"sip_password": "(changed)"})
    assert audit.difference({}, {"password": "new"})[1] == {"password": "(set)"}


def test_a_snapshot_can_be_kept_as_json() -> None:
    import json

    shown = audit.difference({}, {**audit.snapshot(USER), "at": utc_now()})[1]
    assert "sealed" not in json.dumps(shown)
    assert shown["aliases"] == ["front"]
    assert {"id", "tenant_id", "created_at"}.isdisjoint(shown)


def test_an_entry_names_everything(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        user = scope.get(User, cast.user_id("acme"))
        before = audit.snapshot(user)
        user.name = "Changed"
        audit.record(scope.session, ALICE, "user.updated", user, before, audit.snapshot(user))
        scope.session.commit()
    entry = cast.audit()[-1]
    assert (entry.account_id, entry.label, entry.ip, entry.support) == ("a", "alice@x.example", "192.0.2.9", False)
    assert (entry.tenant_id, entry.subject_kind, entry.subject_label) == (cast.tenant_id("acme"), "user", "101")
    assert (entry.before, entry.after) == ({"name": "Front desk"}, {"name": "Changed"})


@pytest.mark.parametrize(
    ("row", "label"),
    [(USER, "101"), (Domain(tenant_id="t", name="a.example"), "a.example"), (Tenant(slug="acme", name="Acme"), "acme")],
)
def test_labels(row: User | Domain | Tenant, label: str) -> None:
    assert audit.label(row) == label


def entry(action: str, label: str = "101", **fields: object) -> AuditEntry:
    return AuditEntry(label="alice", action=action, subject_label=label, **fields)


def test_sentences() -> None:
    assert words.sentence(entry("user.updated")) == "updated user 101"
    assert words.sentence(entry("outbound_rule.added", "+49")) == "added outbound rule +49"
    assert words.sentence(entry("support.entered")) == "entered as support"
    switched = words.sentence(entry("connection.mode_switched_on", "Office PBX"))
    assert switched == "switched multi-tenant mode on for connection Office PBX"
    assert words.sentence(entry("user.password_renewed")) == "made a new phone password for user 101"


def test_changes_are_short_and_plain() -> None:
    found = words.changes(
        entry("user.updated", before={"enabled": True, "name": None}, after={"enabled": False, "name": "x" * 200})
    )
    assert found[0] == ("enabled", "on", "off")
    assert found[1][:2] == ("name", "")
    assert len(found[1][2]) == words.MAX_SHOWN


def write(cast: Cast, slug: str | None, action: str) -> None:
    cast.add(AuditEntry(label="somebody", action=action, tenant_id=cast.tenant_id(slug) if slug else None))


def test_a_tenant_sees_its_own_entries(cast: Cast, alice: Browser, bob: Browser) -> None:
    write(cast, "acme", "user.updated")
    write(cast, "globex", "number.added")
    write(cast, None, "setup.link_made")
    for browser in (alice, bob):
        page = browser.get("/t/acme/activity").text
        assert "updated user" in page
        assert "added number" not in page
        assert "set-up link" not in page


def test_the_provider_sees_all_entries(cast: Cast, root: Browser) -> None:
    write(cast, "acme", "user.updated")
    write(cast, "globex", "number.added")
    page = root.get("/provider/audit").text
    assert all(text in page for text in ("updated user", "added number", "in Acme Ltd", "in Globex Corporation"))


def test_entries_outlive_their_tenant(cast: Cast, root: Browser) -> None:
    cast.add(AuditEntry(label="somebody", action="tenant.erased", tenant_id="gone"))
    assert "in a tenant that is gone" in root.get("/provider/audit").text


def test_search(cast: Cast, alice: Browser) -> None:
    write(cast, "acme", "user.updated")
    write(cast, "acme", "number.added")
    rows = alice.htmx("/t/acme/activity?q=number").text
    assert "added number" in rows
    assert "updated user" not in rows
    assert "<html" not in rows


def test_what_people_typed_is_shown_as_text(cast: Cast, alice: Browser) -> None:
    cast.add(
        AuditEntry(
            label="<script>alert(1)</script>",
            action="user.updated",
            subject_label="<b>",
            after={"name": "<img src=x>"},
            tenant_id=cast.tenant_id("acme"),
        )
    )
    page = alice.get("/t/acme/activity").text
    assert not any(text in page for text in ("<script>alert", "<b>", "<img"))
