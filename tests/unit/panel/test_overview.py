"""A tenant's first page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from panel.models import Event, Node, Part, UpstreamAccount
from panel.models.base import utc_now
from panel.overview import service
from panel.overview.service import Facts
from panel.publishing.live import State, Upstream
from tests.cast import Browser, Cast

NOTHING = Facts(
    users=0,
    connections=0,
    switched_on=0,
    credentials=0,
    published=False,
    pending=False,
    registered=0,
    failing=0,
    phones=0,
    calls=0,
)
ALL = Facts(
    users=1,
    connections=1,
    switched_on=1,
    credentials=1,
    published=True,
    pending=False,
    registered=1,
    failing=0,
    phones=1,
    calls=1,
)
KEYS = ["verify", "connect", "users", "mode", "publish", "registrations", "call"]


def states(known: Facts) -> dict[str, str]:
    return {step.key: step.state for step in service.steps(known)}


def test_at_first_the_pbx_is_the_next_step() -> None:
    assert list(states(NOTHING)) == KEYS
    assert states(NOTHING) == {"verify": "done", "connect": "next", **dict.fromkeys(KEYS[2:], "later")}


def test_in_the_end_all_is_done() -> None:
    assert set(states(ALL).values()) == {"done"}


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [("users", 0, "users"), ("switched_on", 0, "mode"), ("published", False, "publish"), ("pending", True, "publish")],
)
def test_each_step_looks_at_its_own_fact(field: str, value: int, key: str) -> None:
    changed = states(replace(ALL, **{field: value}))
    assert [name for name, state in changed.items() if state != "done"] == [key]
    assert changed[key] == "next"


def test_the_page_shows_its_own_tenant_only(cast: Cast, alice: Browser) -> None:
    page = alice.get("/t/acme/").text
    assert "acme.tenantry.example" in page
    assert "globex" not in page
    assert 'aria-current="page"' in page


def test_htmx_gets_the_live_part(alice: Browser) -> None:
    answer = alice.htmx("/t/acme/")
    assert "<html" not in answer.text
    assert "Getting started" in answer.text


def test_facts_are_read_live(cast: Cast) -> None:
    connection_id = cast.add_connection("acme", multi_tenant=True)
    user_id, tenant_id = cast.user_id("acme"), cast.tenant_id("acme")
    cast.add(UpstreamAccount(tenant_id=tenant_id, user_id=user_id, connection_id=connection_id, username="u"))
    cast.add_connection("globex", multi_tenant=True)
    with cast.everything() as session:
        session.add(Part(hash="a" * 64, kind="tenant", tenant_id=tenant_id, body="{}"))
        session.commit()
    with cast.scope("acme", role="read_only") as scope:
        known = service.facts(scope, True, State())
    assert known == Facts(
        users=2,
        connections=1,
        switched_on=1,
        credentials=1,
        published=True,
        pending=True,
        registered=0,
        failing=0,
        phones=0,
        calls=0,
    )


def test_the_last_state_of_a_registration_counts(cast: Cast) -> None:
    node_id = cast.add(Node(name="local", control="unix:x"))
    for number, (slug, user, state) in enumerate(
        [
            ("acme", "1", "registered"),
            ("acme", "2", "registered"),
            ("acme", "1", "refused"),
            ("globex", "3", "registered"),
        ]
    ):
        cast.add(
            Event(
                node_id=node_id,
                event_id=number,
                at=utc_now(),
                kind="registration.changed",
                tenant_id=cast.tenant_id(slug),
                user_id=user,
                connection_id="c",
                detail={"state": state},
            )
        )
    with cast.scope("acme") as scope:
        assert service.registered(scope) == 1


def upstream(state: str) -> Upstream:
    return Upstream("u", "c", state, code=0, reason="", contact="", since=None, next=None, expires=None)


def test_the_nodes_tell_how_things_stand(cast: Cast) -> None:
    now = State([upstream(state) for state in ("registered", "refused", "unreachable", "trying")])
    with cast.scope("acme") as scope:
        known = service.facts(scope, False, now)
    assert (known.registered, known.failing) == (1, 2)


def test_of_a_node_that_is_away_the_events_tell(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "registered", lambda _: 7)
    with cast.scope("acme") as scope:
        assert service.facts(scope, False, State(away=["local"])).registered == 7


def test_what_fails_is_said(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from panel.overview import views

    monkeypatch.setattr(views.live, "registrations", lambda _: State([upstream("refused")]))
    assert "1 of your users is not accepted" in cast.browser("alice").get("/t/acme/").text
