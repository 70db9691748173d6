"""A tenant's pages on its connections, and the switch. Ownership, roles, ids, methods: test_isolation_walk.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.connections.forms import ConnectionInput
from panel.models import Connection, OutboundRule, Tenant, UpstreamAccount
from panel.publishing.fake import FakeNode
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
HTMX = {"HX-Request": "true"}


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


def fields(**changed: object) -> dict[str, object]:
    given = {
        "name": "Main",
        "host": "192.0.2.10",
        "port": "",
        "transport": "udp",
        "sources": "192.0.2.10",
        "enabled": "1",
    }
    more = {"strategy": "on_behalf", "expires": "600", "internal_calls": "through_pbx"}
    return {**given, **more, **changed}


def one(cast: Cast) -> Connection:
    with cast.scope() as scope:
        found = scope.all(scope.select(Connection))
        scope.session.expunge_all()
        assert len(found) == 1
        return found[0]


def test_the_empty_page_says_what_to_do(alice: Browser) -> None:
    assert "Connect your PBX" in alice.get("/t/acme/connections").text


def test_create(cast: Cast, alice: Browser) -> None:
    sent = fields(host="PBX.example", sources="192.0.2.10\n192.0.2.0/28, 192.0.2.10")
    answer = alice.post("/t/acme/connections/new", data=sent)
    assert answer.status_code == 303
    made = one(cast)
    assert (made.host, made.registrar_domain, made.port, made.multi_tenant) == ("pbx.example", "pbx.example", 0, False)
    assert made.sources == ["192.0.2.10", "192.0.2.0/28"]
    with cast.scope() as scope:
        assert scope.get(Tenant, scope.tenant_id).default_connection_id == made.id
    assert "connection.created" in cast.actions()


@pytest.mark.parametrize(("host", "sources"), [("192.0.2.10", ["192.0.2.10"]), ("pbx.example", [])])
def test_without_sources_an_address_is_its_own(host: str, sources: list[str]) -> None:
    assert ConnectionInput(name="Office", host=host).row["sources"] == sources


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 'a"b'}, "name"),
        ({"host": "not a host"}, "host"),
        ({"host": ""}, "host"),
        ({"port": "70000"}, "port"),
        ({"transport": "sctp"}, "transport"),
        ({"sources": "192.0.2.1/24"}, "sources"),
        ({"sources": "nonsense"}, "sources"),
        ({"outbound_proxy": "http://x"}, "outbound_proxy"),
        ({"expires": "1"}, "expires"),
        ({"limit_calls": "0"}, "limit_calls"),
        ({"strategy": "proxy"}, "strategy"),
        ({"media": "x"}, "media"),
        ({"alternates": "not_a_host"}, "alternates"),
        ({"alternates": "192.0.2.10"}, "alternates"),
        ({"alternates": "b.example:70000"}, "alternates"),
        ({"alternates": "192.0.2.1"}, "alternates"),
        ({"alternates": " ".join(f"b{n}.example" for n in range(9))}, "alternates"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    cast: Cast, alice: Browser, sent: dict[str, object], field: str
) -> None:
    answer = alice.post("/t/acme/connections/new", data=fields(**sent))
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    with cast.scope() as scope:
        assert scope.count(Connection) == 0


def test_the_same_checks_while_typing(cast: Cast, alice: Browser) -> None:
    address = "/t/acme/connections/new"
    text = alice.htmx(
        address, query_string=fields(name="", sources="192.0.2.1/24", registrar_domain="pbx.acme.example")
    ).text
    assert "write the network as" in text
    assert "REGISTER sip:pbx.acme.example SIP/2.0" in text
    assert "Contact: &lt;sip:101@192.0.2.1:5060;local-domain=acme.tenantry.example&gt;" in text
    assert "Contact: &lt;sip:101@acme.tenantry.example&gt;" in text
    with cast.scope() as scope:
        assert scope.count(Connection) == 0


def test_relay_media_and_further_addresses_are_saved_in_their_order(cast: Cast, alice: Browser) -> None:
    sent = fields(strategy="relay", media="relay", alternates="Second.example:5070\n[2001:db8::2]:5060, third.example")
    assert alice.post("/t/acme/connections/new", data=sent).status_code == 303
    made = one(cast)
    assert (made.strategy, made.media) == ("relay", "relay")
    assert made.alternates == ["second.example:5070", "[2001:db8::2]:5060", "third.example"]
    page = alice.get(f"/t/acme/connections/{made.id}").text
    assert "second.example:5070\n[2001:db8::2]:5060\nthird.example" in page
    assert "once its phone has registered" in page
    entry = next(entry for entry in cast.audit() if entry.action == "connection.created")
    assert (entry.after["media"], entry.after["alternates"]) == ("relay", made.alternates)


def test_what_relaying_leads_to_is_said_while_typing(alice: Browser) -> None:
    sent = fields(strategy="relay", internal_calls="always_direct", alternates="192.0.2.77")
    text = alice.htmx("/t/acme/connections/new", query_string=sent).text
    assert "always go through the PBX" in text
    assert "is none of the sources" in text


def test_relayed_registrations_are_shown_and_cannot_be_renewed_by_us(
    cast: Cast, alice: Browser, node: FakeNode
) -> None:
    connection, user = cast.add_connection(strategy="relay"), cast.user_id("acme")
    row = {"tenant": cast.tenant_id("acme"), "user": user, "connection": connection, "state": "registered"}
    node.upstream = [{**row, "code": 200, "contact": "sip:101@acme.tenantry.example"}]
    text = alice.htmx(f"/t/acme/connections/{connection}").text
    assert "registered" in text
    assert "Renew now" not in text
    assert "1 of 1" in alice.htmx("/t/acme/connections").text


def test_edit(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    answer = alice.post(f"/t/acme/connections/{connection}", data=fields(name="Other", port="5070"))
    assert answer.status_code == 303
    assert (one(cast).name, one(cast).port) == ("Other", 5070)
    entry = next(entry for entry in cast.audit() if entry.action == "connection.updated")
    assert (entry.before["name"], entry.after["name"]) == ("Main", "Other")


def test_a_name_is_given_once(cast: Cast, alice: Browser) -> None:
    cast.add_connection()
    answer = alice.post("/t/acme/connections/new", data=fields())
    assert answer.status_code == 422
    assert "You have a connection named Main already" in answer.text


def test_the_switch_answers_with_its_card_and_the_mark(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    answer = alice.post(f"/t/acme/connections/{connection}/mode", data={"on": "1"}, headers=HTMX)
    assert answer.status_code == 200
    assert "On: your domain is the key to every call" in answer.text
    assert 'hx-swap-oob="innerHTML"' in answer.text
    assert "Saved, but not yet live" in answer.text
    assert one(cast).multi_tenant
    off = alice.post(f"/t/acme/connections/{connection}/mode")
    assert off.status_code == 303
    assert not one(cast).multi_tenant
    assert cast.actions()[-2:] == ["connection.mode_switched_on", "connection.mode_switched_off"]


def test_switching_to_what_is_changes_nothing(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    before = cast.actions()
    alice.post(f"/t/acme/connections/{connection}/mode")
    assert cast.actions() == before


def test_saving_the_form_leaves_the_switch_alone(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection(multi_tenant=True)
    alice.post(f"/t/acme/connections/{connection}", data=fields())
    assert one(cast).multi_tenant


def test_registrations_with_state_and_reason(cast: Cast, alice: Browser, node: FakeNode) -> None:
    connection = cast.add_connection()
    row = {"tenant": cast.tenant_id("acme"), "user": cast.user_id("acme"), "connection": connection}
    node.upstream = [{**row, "state": "refused", "code": 403, "reason": "Forbidden", "since": 1.7e9, "next": 1.9e9}]
    text = alice.htmx(f"/t/acme/connections/{connection}").text
    assert "<html" not in text
    assert "refused 403 Forbidden" in text
    assert "Renew now" in text
    node.stop()
    assert "No answer from local" in alice.htmx(f"/t/acme/connections/{connection}").text


def test_renew_now(cast: Cast, alice: Browser, node: FakeNode) -> None:
    connection = cast.add_connection()
    node.upstream = [{"tenant": cast.tenant_id("acme"), "connection": connection, "state": "trying"}]
    alice.post(f"/t/acme/connections/{connection}/renew")
    assert node.requests[-1] == {"do": "renew", "tenant": cast.tenant_id("acme"), "connection": connection}
    assert "1 registration will be sent again now" in alice.get(f"/t/acme/connections/{connection}").text


def test_renew_without_a_node(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    alice.post(f"/t/acme/connections/{connection}/renew")
    assert "No node answers (local)" in alice.get(f"/t/acme/connections/{connection}").text


def test_remove_takes_the_accounts_with_it(cast: Cast, alice: Browser) -> None:
    connection, tenant = cast.add_connection(), cast.tenant_id("acme")
    account = {"tenant_id": tenant, "user_id": cast.user_id("acme"), "connection_id": connection, "username": "x"}
    cast.add(UpstreamAccount(**account))
    assert alice.post(f"/t/acme/connections/{connection}/remove").location == "/t/acme/connections"
    with cast.scope() as scope:
        assert scope.count(Connection) == scope.count(UpstreamAccount) == 0


def test_a_connection_with_a_rule_is_not_removed(cast: Cast, alice: Browser) -> None:
    connection = cast.add_connection()
    cast.add(OutboundRule(tenant_id=cast.tenant_id("acme"), position=1, connection_id=connection))
    answer = alice.post(f"/t/acme/connections/{connection}/remove")
    assert answer.status_code == 422
    assert "an outbound rule leads there" in answer.text


def test_tls_and_the_number_shown(cast: Cast, alice: Browser) -> None:
    sent = fields(transport="tls", host="pbx.example", tls_client="PBX.example", caller_id="asserted")
    assert alice.post("/t/acme/connections/new", data=sent).status_code == 303
    made = one(cast)
    assert (made.transport, made.tls_verify, made.tls_client, made.caller_id) == (
        "tls",
        False,
        "pbx.example",
        "asserted",
    )
    page = alice.get(f"/t/acme/connections/{made.id}").text
    assert "transport=tls" in page
    again = fields(transport="auto", host="pbx.example", tls_verify="1")
    assert alice.post(f"/t/acme/connections/{made.id}", data=again).status_code == 303
    assert (one(cast).transport, one(cast).tls_verify, one(cast).tls_client) == ("auto", True, "")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"tls_client": "192.0.2.1"}, "tls_client"),
        ({"transport": "sctp"}, "transport"),
        ({"caller_id": "x"}, "caller_id"),
    ],
)
def test_what_no_tls_connection_can_be(alice: Browser, changed: dict[str, str], field: str) -> None:
    answer = alice.post("/t/acme/connections/new", data=fields(**{"transport": "tls", **changed}))
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
