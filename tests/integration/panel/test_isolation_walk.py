"""Walks every route of the URL map with every method: as nobody, as a stranger, as a member who may only read,
as the provider's staff without a support session, and with the ids of another tenant's rows.

A new route is covered the day it is added. A new kind of id in an address is added to `furnish`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient
from sqlmodel import select
from werkzeug.routing import Rule

from panel.models import (
    Connection,
    Group,
    GroupMember,
    Guard,
    Number,
    OutboundRule,
    Schedule,
    UpstreamAccount,
    User,
)
from tests.cast import PLATFORM, Cast

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET", "HEAD")
PUBLIC = {
    "auth.front_door",
    "auth.sign_in",
    "auth.sign_in_send",
    "outbox.outbox",
    "setup.set_up",
    "setup.set_up_send",
    "signup.sent",
    "signup.sent_again",
    "signup.sign_up",
    "signup.sign_up_send",
    "signup.verify",
    "signup.verify_send",
}
"""All that anybody may see. Another one is added here knowingly, or not at all."""
ANYBODY_SIGNED_IN = {"auth.organisations", "auth.sign_out"}
OF_ACME = ("Acme Ltd", "alice@", "Secret desk", "Secret trunk", "Secret team", "Secret hours", "+4930123", "0088255")
"""Words that nobody outside of acme may read."""
NOT_ALLOWED = 405


@dataclass(frozen=True)
class Stop:
    """One route and one method, filled in with ids."""

    endpoint: str
    access: str
    method: str
    path: str
    takes_id: bool

    @property
    def changes(self) -> bool:
        return self.method not in SAFE

    def visit(self, client: FlaskClient) -> Any:
        data = {"name": "changed", "reason": "because of the walk", "extension": "999"} if self.changes else None
        return client.open(self.path, method=self.method, data=data)


def furnish(cast: Cast, slug: str) -> dict[str, str]:
    """One row of each kind in the tenant; ids by the names that addresses use."""
    tenant_id, user_id = cast.tenant_id(slug), cast.user_id(slug)
    connection_id = cast.add_connection(slug, name="Secret trunk")
    cast.add(UpstreamAccount(tenant_id=tenant_id, user_id=user_id, connection_id=connection_id, username="secret"))
    number_id = cast.add(Number(tenant_id=tenant_id, number="+4930123", user_id=user_id))
    rule_id = cast.add(OutboundRule(tenant_id=tenant_id, position=1, connection_id=connection_id))
    schedule_id = cast.add(
        Schedule(tenant_id=tenant_id, name="Secret hours", time_zone="UTC", openings=["0 09:00-17:00"])
    )
    group_id = cast.add(Group(tenant_id=tenant_id, extension="200", name="Secret team", schedule_id=schedule_id))
    guard_id = cast.add(Guard(tenant_id=tenant_id, prefix="0088255", calls_per_hour=3, schedule_id=schedule_id))
    cast.add(GroupMember(tenant_id=tenant_id, group_id=group_id, user_id=user_id, position=0))
    with cast.everything() as session:
        user = session.exec(select(User).where(User.id == user_id)).one()
        user.name = "Secret desk"
        session.commit()
    return {
        "slug": slug,
        "tenant_id": tenant_id,
        "user_id": user_id,
        "connection_id": connection_id,
        "number_id": number_id,
        "rule_id": rule_id,
        "schedule_id": schedule_id,
        "group_id": group_id,
        "guard_id": guard_id,
    }


OF_THE_INSTALLATION = {
    "node_id": "nothing",
    "source_id": "nothing",
    "guard_for_all_id": "nothing",
    "version": "1",
    "token": "nothing",
    "key": "nothing",
}
"""Parts of addresses that belong to no tenant."""


def stops(cast: Cast, ids: dict[str, str], slug: str = "acme") -> list[Stop]:
    found = []
    for rule in cast.app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        view = cast.app.view_functions[rule.endpoint]
        access = getattr(view, "access", None)
        assert access is not None, f"{rule.endpoint} says not who may see it; see panel/access.py"
        path = filled(cast, rule, {**OF_THE_INSTALLATION, **ids, "slug": slug})
        takes_id = bool(rule.arguments - {"slug"})
        found += [Stop(rule.endpoint, access, method, path, takes_id) for method in METHODS if method in rule.methods]
    return found


def filled(cast: Cast, rule: Rule, values: dict[str, str]) -> str:
    unknown = rule.arguments - values.keys()
    assert not unknown, f"{rule.rule} has an id that the walk does not know: {unknown}"
    path: str = cast.app.url_map.bind("localhost").build(rule.endpoint, {k: values[k] for k in rule.arguments})
    return path


def names(stop: Stop, answer: Any) -> str:
    return f"{stop.method} {stop.path} ({stop.endpoint}) -> {answer.status_code} {answer.headers.get('Location', '')}"


def says_nothing(text: str) -> bool:
    return not any(word in text for word in OF_ACME)


def test_what_is_public_is_so_on_purpose(cast: Cast) -> None:
    by_access: dict[str, set[str]] = {}
    for stop in stops(cast, furnish(cast, "acme")):
        by_access.setdefault(stop.access, set()).add(stop.endpoint)
    assert by_access["public"] == PUBLIC
    assert by_access["account"] == ANYBODY_SIGNED_IN
    assert by_access.keys() == {"public", "account", "tenant", "provider"}


def test_methods_that_are_not_offered_are_refused(cast: Cast) -> None:
    ids, alice = furnish(cast, "acme"), cast.browser("alice")
    offered: dict[str, set[str]] = {}
    for stop in stops(cast, ids):
        offered.setdefault(stop.path, set()).add(stop.method)
    for path, methods in offered.items():
        for method in set(METHODS) - methods:
            assert alice.open(path, method=method).status_code == NOT_ALLOWED, (method, path)


def test_nobody_is_sent_to_sign_in(cast: Cast) -> None:
    nobody = cast.browser()
    for stop in stops(cast, furnish(cast, "acme")):
        answer = stop.visit(nobody)
        if stop.access != "public":
            assert answer.status_code == 303, names(stop, answer)
            assert answer.location.startswith("/sign-in"), names(stop, answer)
        assert says_nothing(answer.text), names(stop, answer)


def test_a_stranger_finds_nothing(cast: Cast) -> None:
    ids, carol = furnish(cast, "acme"), cast.browser("carol")
    for stop in stops(cast, ids):
        if stop.access in ("tenant", "provider"):
            answer = stop.visit(carol)
            assert answer.status_code == 404, names(stop, answer)
            assert says_nothing(answer.text), names(stop, answer)


def test_a_tenant_that_is_not_there_looks_the_same(cast: Cast) -> None:
    ids = furnish(cast, "acme")
    carol = cast.browser("carol")
    there = [stop for stop in stops(cast, ids) if stop.access == "tenant"]
    missing = [stop for stop in stops(cast, ids, slug="no-such-tenant") if stop.access == "tenant"]
    for one, other in zip(there, missing, strict=True):
        first, second = one.visit(carol), other.visit(carol)
        assert (first.status_code, _page(first)) == (second.status_code, _page(second)), names(one, first)


def _page(answer: Any) -> str:
    """Without the CSRF token, which differs from page to page."""
    return "\n".join(line for line in answer.text.splitlines() if "csrf" not in line)


def test_foreign_ids_under_the_own_name_find_nothing(cast: Cast) -> None:
    ids = furnish(cast, "acme")
    carol = cast.browser("carol")
    for stop in stops(cast, ids, slug="globex"):
        if stop.access == "tenant" and stop.takes_id:
            answer = stop.visit(carol)
            assert answer.status_code == 404, names(stop, answer)
            assert says_nothing(answer.text), names(stop, answer)


def test_who_may_only_read_changes_nothing(cast: Cast) -> None:
    bob = cast.browser("bob")
    before = rows_of_acme(cast, ids := furnish(cast, "acme"))
    for stop in stops(cast, ids):
        answer = stop.visit(bob) if stop.endpoint != "auth.sign_out" else None
        if answer is not None and stop.access == "tenant":
            expected = (403, 404) if stop.endpoint == "tenants.leave" else (403,) if stop.changes else (200, 303, 403)
            assert answer.status_code in expected, names(stop, answer)
        if answer is not None and stop.access == "provider":
            assert answer.status_code == 404, names(stop, answer)
    assert rows_of_acme(cast, ids) == before


def test_staff_without_a_support_session_stay_outside(cast: Cast) -> None:
    root = cast.browser("root")
    for stop in stops(cast, furnish(cast, "acme")):
        if stop.access == "tenant":
            answer = stop.visit(root)
            assert answer.status_code == 403, names(stop, answer)
            assert says_nothing(answer.text.replace(f"root@{PLATFORM}", "")), names(stop, answer)


def test_looking_changes_nothing(cast: Cast) -> None:
    """GET and HEAD, as somebody who could change everything."""
    ids = furnish(cast, "acme")
    alice, root = cast.browser("alice"), cast.browser("root")
    before, entries = rows_of_acme(cast, ids), len(cast.audit())
    for stop in stops(cast, ids):
        if not stop.changes:
            for client in (alice, root):
                assert stop.visit(client).status_code < 500, stop
    assert rows_of_acme(cast, ids) == before
    assert len(cast.audit()) == entries


def test_without_a_csrf_token_nothing_is_taken(cast: Cast) -> None:
    ids = furnish(cast, "acme")
    alice = cast.browser("alice")
    alice.with_csrf = False
    for stop in stops(cast, ids):
        if stop.changes:
            answer = stop.visit(alice)
            assert (answer.status_code, "This form has expired" in answer.text) == (400, True), names(stop, answer)


def rows_of_acme(cast: Cast, ids: dict[str, str]) -> list[str]:
    with cast.everything() as session:
        models = (User, Connection, UpstreamAccount, Number, OutboundRule, Schedule, Group, GroupMember, Guard)
        return [str(row) for model in models for row in session.exec(select(model).order_by(model.id)).all()]
