"""From rows to a node and back: publish, hold back, roll back, wait for a node that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import col, select

from panel.actor import Actor
from panel.models import Connection, Domain, Node, NodeApplied, Part, Publication, Tenant, User
from panel.publishing import at_hand, service, words
from panel.publishing.fake import FakeNode
from panel.publishing.puller import Puller
from panel.publishing.service import Published
from panel.secrets import vault
from panel.users import service as users
from panel.users.forms import UserInput
from tests.cast import Cast

pytestmark = pytest.mark.integration
ROOT = Actor(None, "root")


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


def publish_all(cast: Cast) -> Published:
    with cast.app.test_request_context(), cast.database.session() as session:
        return service.publish_all(session, ROOT, vault(), cast.config, at_hand.delivery())


def publish(cast: Cast, slug: str = "acme") -> Published:
    with cast.app.test_request_context(), cast.scope(slug) as scope:
        return service.publish_tenant(scope, vault(), cast.config, at_hand.delivery())


def pending(cast: Cast, slug: str = "acme") -> service.Pending:
    with cast.app.test_request_context(), cast.scope(slug) as scope:
        return service.pending(scope)


def roll_back(cast: Cast, version: int) -> Published:
    with cast.app.test_request_context(), cast.database.session() as session:
        return service.roll_back(session, ROOT, at_hand.delivery(), version)


def add_user(cast: Cast, extension: str, slug: str = "acme") -> str:
    with cast.app.test_request_context(), cast.scope(slug) as scope:
        return users.create(scope, UserInput(extension=extension), []).id


def rename(cast: Cast, extension: str, name: str, slug: str = "acme") -> None:
    with cast.app.test_request_context(), cast.scope(slug) as scope:
        user = scope.get(User, cast.user_id(slug, extension))
        users.update(scope, user, UserInput(extension=extension, name=name), [])


def publications(cast: Cast) -> list[Publication]:
    with cast.looking() as session:
        found = list(session.exec(select(Publication).order_by(col(Publication.version))))
        session.expunge_all()
        return found


def test_the_first_publication_makes_all_tenants_live(cast: Cast, node: FakeNode) -> None:
    published = publish_all(cast)
    assert (published.version, published.changed, published.ms) == (1, True, 1.5)
    assert node.version == 1
    assert {part.get("slug") for part in node.parts.values()} == {None, "acme", "globex"}
    assert words.verdict(published) == ("Live: version 1 is enforced, 1.5 ms after the edge got it.", "success")


def test_publishing_again_changes_nothing(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    again = publish_all(cast)
    assert (again.version, again.changed, node.version) == (1, False, 1)
    assert len(publications(cast)) == 1


def test_what_is_saved_is_pending_until_it_is_published(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    assert not pending(cast)
    add_user(cast, "150")
    waiting = pending(cast)
    assert [(change.verb, change.subject) for change in waiting.changes] == [("added", "user 150")]
    assert not pending(cast, "globex")
    publish(cast)
    assert not pending(cast)


def test_an_owner_publishes_its_own_tenant_and_nobody_else(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    add_user(cast, "150")
    add_user(cast, "250", "globex")
    publish(cast)
    extensions = {user["extension"] for part in node.parts.values() for user in part.get("users", [])}
    assert "150" in extensions
    assert "250" not in extensions
    assert pending(cast, "globex")


def test_only_changed_parts_are_sent(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    node.requests.clear()
    rename(cast, "101", "Ann")
    publish(cast)
    loads = [request for request in node.requests if request["do"] == "load"]
    assert [len(load["parts"]) for load in loads] == [1]


def test_a_reader_cannot_publish(cast: Cast) -> None:
    with cast.app.test_request_context(), cast.scope(role="read_only") as scope, pytest.raises(PermissionError):
        service.publish_tenant(scope, vault(), cast.config, at_hand.delivery())


def test_a_tenant_with_errors_stays_as_it_was_and_others_go_live(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    add_user(cast, "150")
    with cast.everything() as session:
        domain = session.exec(select(Domain).where(Domain.tenant_id == cast.tenant_id("globex"))).first()
        assert domain is not None
        domain.name = cast.config.edge_hosts[0]
        session.commit()
    add_user_unchecked(cast, "globex")
    published = publish_all(cast)
    assert published.changed
    assert published.held == {cast.tenant_id("globex")}
    assert any(problem.is_error for problem in published.problems)
    assert "What has errors stays as it was." in words.verdict(published)[0]
    with cast.looking() as session:
        stored = session.exec(select(Publication).where(Publication.version == 2)).one()
    assert {change["tenant_id"] for change in stored.diff} == {cast.tenant_id("acme")}
    assert stored.problems


def add_user_unchecked(cast: Cast, slug: str) -> None:
    from panel import audit

    with cast.everything() as session:
        user = User(tenant_id=cast.tenant_id(slug), extension="199", name="", sip_password="")
        session.add(user)
        audit.record(session, ROOT, "user.created", user)
        session.commit()


def test_two_tenants_on_one_address_with_the_mode_off(cast: Cast, node: FakeNode) -> None:
    cast.add_connection("acme")
    assert publish(cast, "acme").held == frozenset()
    cast.add_connection("globex")
    second = publish(cast, "globex")
    assert second.held == {cast.tenant_id("globex")}
    assert "multi-tenant mode off" in " ".join(problem.message for problem in second.problems)
    assert words.verdict(second)[1] == "danger"
    switch_on(cast, "acme")
    switch_on(cast, "globex")
    assert publish_all(cast).held == frozenset()


def switch_on(cast: Cast, slug: str) -> None:
    from panel.connections import service as connections

    with cast.app.test_request_context(), cast.scope(slug) as scope:
        for connection in scope.all(scope.select(Connection)):
            connections.set_mode(scope, connection, True)


def test_who_is_live_is_not_pushed_out_by_who_comes_later(cast: Cast, node: FakeNode) -> None:
    cast.add_connection("acme")
    publish(cast, "acme")
    rename(cast, "101", "Ann")
    cast.add_connection("globex")
    published = publish_all(cast)
    assert published.held == {cast.tenant_id("globex")}
    assert not pending(cast, "acme")


def test_roll_back_is_a_new_version_and_keeps_what_is_saved(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    rename(cast, "101", "Ann")
    publish(cast)
    back = roll_back(cast, 1)
    assert (back.version, node.version) == (3, 3)
    first, _, third = publications(cast)
    assert first.hash == third.hash
    assert third.reason == "Rolled back to version 1"
    assert [change.subject for change in pending(cast).changes] == ["user 101 (Ann)"]


def test_roll_back_leaves_the_suspended_suspended_and_the_gone_gone(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    with cast.everything() as session:
        session.get_one(Tenant, cast.tenant_id("acme")).status = "suspended"
        session.commit()
    rename(cast, "101", "Ann")
    publish(cast)
    roll_back(cast, 1)
    acme = next(part for part in node.parts.values() if part.get("slug") == "acme")
    assert acme["suspended"] is True
    assert acme["users"][0]["name"] != "Ann"


def test_a_node_that_is_away_gets_it_when_it_is_back(cast: Cast) -> None:
    published = publish_all(cast)
    assert [outcome.outcome for outcome in published.outcomes] == ["unreachable"]
    assert words.verdict(published)[0].startswith("Stored as version 1. It goes live as soon as local is back")
    puller = make_puller(cast)
    puller.round(0.0)
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as node:
        puller.round(1.0)
        assert node.version == 1
        node.forget()
        puller.round(2.0)
        assert node.version == 1
    puller.close()
    with cast.looking() as session:
        done = session.exec(select(NodeApplied)).one()
        assert (done.outcome, done.ms) == ("applied", 1.5)
        assert session.exec(select(Node)).one().state == "up"


def make_puller(cast: Cast) -> Puller:
    with cast.app.app_context():
        return Puller(cast.database, vault(), cast.config)


def test_a_refused_table_is_told_and_not_sent_again_and_again(cast: Cast, node: FakeNode) -> None:
    node.refuse = [{"path": "tenants[acme]", "message": "This is not liked.", "severity": "error"}]
    published = publish_all(cast)
    assert words.verdict(published)[1] == "danger"
    with cast.looking() as session:
        assert session.exec(select(Node)).one().state == "refused"
        assert session.exec(select(NodeApplied)).one().problems[0]["message"] == "This is not liked."
    node.requests.clear()
    puller = make_puller(cast)
    for second in range(3):
        puller.round(float(second))
    puller.close()
    assert [request["do"] for request in node.requests].count("load") == 0


def test_a_table_that_another_process_published_is_known_at_once(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    with cast.everything() as session:
        assert len(session.exec(select(Part)).all()) == 3


def test_audit_names_the_publication(cast: Cast, node: FakeNode) -> None:
    publish(cast)
    entry = next(entry for entry in cast.audit() if entry.action == "publication.created")
    assert entry.tenant_id == cast.tenant_id("acme")
    assert entry.after["version"] == 1


def test_some_tenants_alone_as_suspending_needs_it(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    add_user(cast, "250", "globex")
    with cast.everything() as session:
        session.get_one(Tenant, cast.tenant_id("acme")).status = "suspended"
        session.commit()
    ids = [cast.tenant_id("acme")]
    with cast.app.test_request_context(), cast.database.session() as session:
        done = service.publish_tenants(session, ROOT, vault(), cast.config, at_hand.delivery(), ids, "suspended")
    assert done.version == node.version == 2
    assert next(part for part in node.parts.values() if part.get("slug") == "acme")["suspended"] is True
    assert pending(cast, "globex")


def test_a_tenant_that_is_gone_leaves_the_table(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    gone = cast.tenant_id("globex")
    with cast.everything() as session:
        session.delete(session.get_one(Tenant, gone))
        session.commit()
    assert publish_all(cast).changed
    assert {part.get("slug") for part in node.parts.values()} == {None, "acme"}
    roll_back(cast, 1)
    assert {part.get("slug") for part in node.parts.values()} == {None, "acme"}


def set_status(cast: Cast, status: str, slug: str = "acme") -> Published:
    with cast.everything() as session:
        session.exec(select(Tenant).where(Tenant.slug == slug)).one().status = status
        session.commit()
    with cast.app.test_request_context(), cast.database.session() as session:
        return service.publish_status(session, ROOT, at_hand.delivery(), cast.tenant_id(slug))


def test_a_suspension_is_live_at_once_and_takes_no_draft_along(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    add_user(cast, "555")
    suspended = set_status(cast, "suspended")
    assert suspended.changed
    assert suspended.version == node.version == 2
    part = node.parts[publications(cast)[-1].manifest["tenants"][cast.tenant_id("acme")]]
    assert part["suspended"] is True
    assert "555" not in {user["extension"] for user in part["users"]}
    assert pending(cast).changes, "the draft is still to be published"

    resumed = set_status(cast, "active")
    assert (resumed.version, node.version) == (3, 3)
    assert publications(cast)[-1].hash == publications(cast)[0].hash


def test_a_suspension_of_a_tenant_that_was_never_live_publishes_nothing(cast: Cast, node: FakeNode) -> None:
    assert not set_status(cast, "suspended").changed
    assert publications(cast) == []


def test_rolling_back_does_not_bring_a_suspension_back(cast: Cast, node: FakeNode) -> None:
    publish_all(cast)
    set_status(cast, "suspended")
    set_status(cast, "active")
    add_user(cast, "555")
    publish(cast)
    roll_back(cast, 2)
    part = node.parts[publications(cast)[-1].manifest["tenants"][cast.tenant_id("acme")]]
    assert part["suspended"] is False
