"""What outsiders and neighbours must not be able to do: make the edge shout, remember, believe or guess."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.message.message import Message
from sipd.routing.model import Group, Member
from tests.unit.core.bench import PBX, Bench, ack_of, table, tenant, two_tenants
from tests.unit.core.house import House, acme
from tests.unit.core.talk import PHONE, Outgoing, Talk
from tests.unit.core.test_subscriptions import Watching, assert_none

ACME = "sip:101@acme.example"
EDGE_URI = "sip:101@192.0.2.1"


class TestStrangers:
    """RFC 3261 26.3.2.4: who has not proved who it is gets one answer, and is forgotten."""

    @pytest.mark.parametrize("from_", [ACME, "sip:x@nowhere.example"])
    @pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "SUBSCRIBE"])
    def test_one_message_gets_one_answer(self, method: str, from_: str) -> None:
        """Catches: a forged source to which the edge repeats its refusal for half a minute."""
        bench = Bench(two_tenants())
        stranger = bench.end("203.0.113.66")
        headers = {"Contact": "<sip:a@h>", "Event": "dialog"}
        stranger.send(stranger.request(method, ACME, from_=from_, to=ACME, call_id="x", **headers))
        bench.pass_time(60)
        assert len(stranger.taken()) == 1

    def test_nothing_is_remembered(self) -> None:
        bench = Bench(two_tenants())
        stranger = bench.end("203.0.113.66")
        for number in range(50):
            for method in ("INVITE", "REGISTER", "OPTIONS"):
                uri = "sip:acme.example" if method == "REGISTER" else ACME
                stranger.send(stranger.request(method, uri, from_=ACME, to=ACME, call_id=f"x{number}"))
        assert len(bench.edge.layer) == 0

    def test_a_request_that_comes_again_is_challenged_again(self) -> None:
        bench = Bench(two_tenants())
        phone = bench.end(*PHONE)
        request = phone.request("INVITE", ACME, from_=ACME, to=ACME, call_id="x")
        for _ in range(2):
            phone.send(request)
            challenge = phone.take(401)
        phone.send(ack_of(challenge, ACME))
        phone.nothing()

    def test_a_wrong_password_is_answered_once_too(self) -> None:
        bench = Bench(two_tenants())
        phone = bench.end(*PHONE)
        phone.send(phone.request("INVITE", ACME, from_=ACME, to=ACME, call_id="x"))
        nonce = (phone.take(401).get("www-authenticate") or "").partition('nonce="')[2].partition('"')[0]
        proof = f'nonce="{nonce}", uri="{ACME}", response="{"0" * 32}", qop=auth, nc=00000001, cnonce="c"'
        wrong = f'Digest username="101", realm="acme.example", algorithm=MD5, {proof}'
        phone.send(phone.request("INVITE", ACME, from_=ACME, to=ACME, call_id="x", Authorization=wrong))
        bench.pass_time(60)
        assert len(phone.taken()) == 1


class TestNothingStays:
    def test_another_tag_in_a_subscription_is_481(self) -> None:
        """Catches: a request that is found and not answered, whose transaction stays for ever."""
        on = Watching()
        ok = on.accepted()
        on.phone.send(
            on.refresh(ok, 5).replace("From: <sip:101@acme.example>;tag=f-s", "From: <sip:101@acme.example>;tag=z")
        )
        on.phone.take(481)

    def test_streams_of_a_subscriber_that_are_gone(self) -> None:
        """Catches: a phone that comes over a new stream with each refresh, and each is remembered."""
        on = Watching(transport="tcp")
        ok = on.accepted()
        part = on.bench.edge.subscriptions
        for number in range(5):
            phone = on.bench.end("203.0.113.1", 41000 + number, "tcp")
            refresh = phone.within(ok, "SUBSCRIBE", 10 + number, Event="dialog", Contact="<sip:101@10.0.0.9:5062>")
            phone.send(refresh)
            on.pbx.answer(on.pbx.take("SUBSCRIBE"), 200, Expires="600", Contact=f"<sip:n@{PBX}>")
            phone.taken()
            on.bench.edge.flow_lost(on.phone.flow, on.bench.now)
            on.bench.collect()
            on.phone = phone
        assert list(part._on_flow) == [on.phone.flow]
        on.bench.edge.flow_lost(on.phone.flow, on.bench.now)
        on.bench.collect()
        assert on.pbx.take("SUBSCRIBE").expires == 0
        on.bench.pass_time(700)
        assert_none(on.bench)

    def test_events_that_a_dialog_waits_for(self) -> None:
        """Catches: NOTIFYs with ever new events, each of which is waited for."""
        on = Talk()
        for number in range(30):
            more = {"Event": f"e{number}", "Subscription_State": "active", "Contact": "<sip:a@h>"}
            on.phone.send(on.from_phone("NOTIFY", 10 + number, **more))
            on.pbx.answer(on.pbx.take("NOTIFY"), 200)
            on.phone.taken()
        dialogs = on.bench.edge.calls_.dialogs.values()
        assert max(len(dialog.usages) for dialog in dialogs) <= 8


class TestClaims:
    @pytest.mark.parametrize(
        "name",
        [
            "Identity",
            "P-Asserted-Service",
            "P-Served-User",
            "P-Charge-Info",
            "P-Private-Network-Indication",
            "P-Asserted-Identity",
            "History-Info",
        ],
    )
    def test_what_a_phone_claims_of_itself_stays_behind(self, name: str) -> None:
        """Catches: a header by which a PBX bills or believes, taken from a phone (RFC 3325, RFC 8224, RFC 5502)."""
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        phone.call("+49", **{name.replace("-", "_"): "<sip:boss@acme.example>"})
        assert not pbx.take("INVITE").has(name.lower())


def test_a_strict_route_becomes_a_request_uri_without_headers() -> None:
    """RFC 3261 12.2.1.1, 19.1.1: what stands in a Record-Route does not all belong there."""
    on = Outgoing()
    on.answered(Record_Route="<sip:p@198.51.100.10?X-Injected=1>")
    assert on.pbx.take("ACK").uri == "sip:p@198.51.100.10"


def test_a_user_and_a_group_with_one_id_are_two() -> None:
    """Catches: a forward from a user to a group that is taken for a loop, as both are called `x`."""
    made = acme({"101": {"forward_always": "600"}})
    group = Group("acme-101", "600", "Sales", True, "all", (Member(1, "acme-102"),))
    on = House(replace(made, groups=(group,)))
    phone = on.phone("102")
    on.rings("101")
    phone.take("INVITE")


class TestNeverAGuess:
    """A PBX in front of which multi-tenant mode is off names the tenant by `local-domain`."""

    def told(self, uri: str) -> Message:
        elsewhere = tenant("globex", of_connection={"sources": ("198.51.100.77",)})
        bench = Bench(table(tenant("acme", mode=False), elsewhere))
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        pbx.send(pbx.request("MESSAGE", uri, from_="sip:x@pbx.example", to=uri, call_id="m"))
        mine = pbx.taken() + phone.taken()
        return mine[0]

    def test_the_tenant_that_is_named(self) -> None:
        for uri in (EDGE_URI, f"{EDGE_URI};local-domain=acme.example", ACME):
            assert self.told(uri).method == "MESSAGE"

    @pytest.mark.parametrize("uri", [f"{EDGE_URI};local-domain=globex.example", "sip:101@globex.example"])
    def test_another_is_not_taken_for_the_only_one(self, uri: str) -> None:
        """Catches: a call for a tenant that moved, or switched its mode, delivered to its neighbour."""
        assert self.told(uri).status == 404
