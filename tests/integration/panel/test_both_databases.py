"""The same story on SQLite and PostgreSQL: what differs between them is where it would break."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from panel.errors import Invalid
from panel.models import (
    Group,
    GroupMember,
    Number,
    OutboundRule,
    OutboxMail,
    Schedule,
    Tenant,
    UpstreamAccount,
    User,
)
from panel.scope import ScopeError
from panel.signup import service
from panel.signup.forms import SignUp
from panel.signup.service import Place
from tests.cast import PASSWORD, PLATFORM, TESTER, Cast, link_in

DORA = {"organisation": "Blue Bird", "slug": "blue-bird", "email": "dora@bird.example", "password": PASSWORD}


def test_from_sign_up_to_suspension(cast: Cast) -> None:
    dora = cast.browser()
    dora.post("/signup", data=DORA)
    with cast.looking() as session:
        link = link_in(session.exec(select(OutboxMail.text)).one(), "/verify/")
    assert dora.post(link).location == "/t/blue-bird/"
    assert "Getting started" in dora.get("/t/blue-bird/").text
    root = cast.browser("root")
    rows = root.htmx("/provider/tenants?q=BLUE&sort=-created").text
    assert "blue-bird.tenantry.example" in rows
    assert "acme.tenantry.example" not in rows
    tenant = f"/provider/tenants/{cast.tenant_id('blue-bird')}"
    assert root.post(f"{tenant}/suspend", data={"reason": "Bills unpaid"}).status_code == 303
    assert root.post(f"{tenant}/enter", data={"reason": "Talks about bills"}).status_code == 303
    log = dora.get("/t/blue-bird/activity?q=bills").text
    assert "Nothing here" in log
    log = dora.get("/t/blue-bird/activity?q=support").text
    assert "Talks about bills" in log


def test_the_scope_holds(cast: Cast) -> None:
    with cast.database.session() as session, pytest.raises(ScopeError):
        session.exec(select(User)).all()
    with cast.scope("acme") as scope:
        assert {user.tenant_id for user in scope.all(select(User))} == {scope.tenant_id}


KINDS = ["upstream account", "number", "rule", "fall-back", "group member", "number of a group", "group", "user"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_database_itself_refuses_what_reaches_over_the_wall(cast: Cast, kind: str) -> None:
    """Even where our own guards are off: a row of acme cannot name what is globex's."""
    acme, foreign_user, foreign_connection = (
        cast.tenant_id("acme"),
        cast.user_id("globex"),
        cast.add_connection("globex"),
    )
    own_user, own_connection = cast.user_id("acme"), cast.add_connection("acme")
    globex = cast.tenant_id("globex")
    foreign_hours = cast.add(Schedule(tenant_id=globex, name="Office", time_zone="UTC"))
    foreign_group = cast.add(Group(tenant_id=globex, extension="200", name=""))
    own_group = cast.add(Group(tenant_id=acme, extension="200", name=""))
    sealed = {"extension": "150", "name": "", "sip_password": ""}
    rows = {
        "fall-back": OutboundRule(
            tenant_id=acme, position=1, connection_id=own_connection, fallback_id=foreign_connection
        ),
        "group member": GroupMember(tenant_id=acme, group_id=own_group, user_id=foreign_user, position=0),
        "number of a group": Number(tenant_id=acme, number="+491", group_id=foreign_group),
        "group": Group(tenant_id=acme, extension="201", name="", schedule_id=foreign_hours),
        "user": User(tenant_id=acme, schedule_id=foreign_hours, **sealed),
        "upstream account": UpstreamAccount(
            tenant_id=acme, user_id=own_user, connection_id=foreign_connection, username="x"
        ),
        "number": Number(tenant_id=acme, number="+491", user_id=foreign_user),
        "rule": OutboundRule(tenant_id=acme, position=1, connection_id=foreign_connection),
    }
    with pytest.raises(IntegrityError):
        cast.add(rows[kind])


def test_a_number_rings_a_user_or_is_forwarded_but_not_both(cast: Cast) -> None:
    acme, user = cast.tenant_id("acme"), cast.user_id("acme")
    group = cast.add(Group(tenant_id=acme, extension="200", name=""))
    for target in ({"user_id": user, "forward": "102"}, {"user_id": user, "group_id": group}, {}):
        with pytest.raises(IntegrityError):
            cast.add(Number(tenant_id=acme, number="+491", **target))


def test_of_two_at_once_one_gets_the_name(cast: Cast) -> None:
    """Both saw that it was free."""
    outcomes: list[str] = []
    together = threading.Barrier(2)

    def sign_up(email: str) -> None:
        data = SignUp(organisation="Blue Bird", slug="blue-bird", email=email, password=PASSWORD)
        together.wait(10)
        with cast.app.app_context(), cast.database.session() as session:
            try:
                service.sign_up(session, TESTER, data, Place(PLATFORM, "http://localhost"))
                outcomes.append("signed up")
            except Invalid:
                outcomes.append("refused")

    threads = [threading.Thread(target=sign_up, args=(f"{name}@bird.example",)) for name in ("dora", "emil")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["refused", "signed up"]
    with cast.looking() as session:
        assert len(session.exec(select(Tenant).where(Tenant.slug == "blue-bird")).all()) == 1


def test_deleting_a_tenant_takes_all_that_is_its(cast: Cast) -> None:
    tenant, connection = cast.tenant_id("acme"), cast.add_connection("acme")
    hours = cast.add(Schedule(tenant_id=tenant, name="Office", time_zone="UTC"))
    group = cast.add(Group(tenant_id=tenant, extension="200", name="", schedule_id=hours))
    cast.add(GroupMember(tenant_id=tenant, group_id=group, user_id=cast.user_id("acme"), position=0))
    cast.add(Number(tenant_id=tenant, number="1", group_id=group, schedule_id=hours))
    cast.add(OutboundRule(tenant_id=tenant, position=1, connection_id=connection, fallback_id=connection))
    with cast.everything() as session:
        session.delete(session.exec(select(Tenant).where(Tenant.slug == "acme")).one())
        session.commit()
        assert {user.tenant_id for user in session.exec(select(User)).all()} == {cast.tenant_id("globex")}
        for kind in (Schedule, Group, GroupMember, Number, OutboundRule):
            assert session.exec(select(kind)).all() == []
