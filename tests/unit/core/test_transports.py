"""All five transports in the core: what we call ourselves on each, whom a certificate makes believed, `sips:`."""

from __future__ import annotations

import pytest

from sipd.flow import TRANSPORTS, Flow, Listener, TlsName, expected_at, may_go
from sipd.message.scanner import scan
from sipd.routing.model import Table
from sipd.settings import Settings
from tests.unit.core.bench import PBX, Bench, End, ack_of, credentials, table, tenant, two_tenants

PUBLIC = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
IN_URI = {"udp": "", "tcp": ";transport=tcp", "tls": ";transport=tls", "ws": ";transport=ws", "wss": ";transport=ws"}
AOR = "sip:101@acme.example"


def bench(routing: Table | None = None) -> Bench:
    """Each transport behind a NAT of its own: what others reach differs from what is bound; also on IPv6."""
    listeners = [Listener(t, "10.0.0.1", 10_000 + i, f"{t}.edge.example", PUBLIC[t]) for i, t in enumerate(TRANSPORTS)]
    listeners += [Listener(t, "2001:db8::1", 10_000 + i, "2001:db8::99", PUBLIC[t]) for i, t in enumerate(TRANSPORTS)]
    return Bench(routing or two_tenants(), Settings(tuple(listeners)))


def end(on: Bench, transport: str, host: str, port: int = 5060) -> End:
    return End(on, Flow(transport, host, port, TRANSPORTS.index(transport) + (5 if ":" in host else 0)))


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::7"])
@pytest.mark.parametrize("transport", TRANSPORTS)
class TestEachTransport:
    def test_via_contact_and_the_way_of_a_call_follow_the_listener(self, transport: str, host: str) -> None:
        on = bench()
        phone = end(on, transport, host, 40_000)
        phone.register()
        pbx = end(on, "udp", PBX)
        pbx.send(pbx.request("INVITE", AOR, from_="sip:x@pbx.example", to=AOR, call_id="c", Contact=f"<sip:{PBX}>"))
        pbx.take(100)
        invite = phone.take("INVITE")
        public = f"{transport}.edge.example" if ":" not in host else "2001:db8::99"
        assert invite.via.transport == transport.upper()
        assert (invite.via.host, invite.via.port) == (public, PUBLIC[transport])
        shown = f"[{public}]" if ":" in public else public
        assert invite.contacts[0].uri_text == f"sip:{shown}:{PUBLIC[transport]}{IN_URI[transport]}"
        phone.answer(invite, 200, "p", body="answer")
        assert "udp.edge.example:5060" in pbx.take(200).contacts[0].uri_text

    def test_answers_say_where_the_request_came_from(self, transport: str, host: str) -> None:
        """RFC 3261 18.2.1 and RFC 3581; browsers write a sent-by that is none (RFC 7118 section 5)."""
        phone = end(bench(), transport, host, 40_000)
        text = phone.request("REGISTER", "sip:acme.example", from_=AOR, to=AOR, call_id="r")
        text = text.replace(phone.hostport, "df7jal23ls0d.invalid", 1)
        for sent in (text, text.replace(";rport", "").replace("z9hG4bK-", "z9hG4bK-other-").replace(": r\n", ": s\n")):
            phone.send(sent)
            via = phone.take(401).via
            assert via.params["received"] == host
            assert via.params.get("rport") == ("40000" if ";rport" in sent else None)


@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_browsers_are_challenged_with_md5_alone(transport: str) -> None:
    """JsSIP keeps the last challenge only."""
    phone = end(bench(), transport, "203.0.113.1")
    phone.send(phone.request("REGISTER", "sip:acme.example", from_=AOR, to=AOR, call_id="r"))
    (offer,) = phone.take(401).all("www-authenticate")
    assert "algorithm=MD5" in offer


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_restart_keeps(transport: str) -> None:
    """A browser is reached over its own connection only, which is gone."""
    on = bench()
    end(on, transport, "203.0.113.1").register()
    changes = on.edge.take_changes()
    after = bench()
    after.edge.restore(changes, after.now)
    kept = len(after.edge.registrations(None, after.now)["bindings"])
    assert kept == (0 if transport in ("ws", "wss") else 1)


class TestClientCertificate:
    """A connection with `tls_client` is believed only over TLS with that name."""

    def on(self) -> Bench:
        return bench(table(tenant("acme", of_connection={"transport": "tls", "tls_client": "pbx.example"})))

    def calls(self, on: Bench, flow: Flow) -> int:
        pbx = End(on, flow)
        call_id = f"{flow.port}-{on.now}"
        on.pass_time(60.0)
        pbx.send(pbx.request("INVITE", AOR, from_="sip:x@pbx.example", to=AOR, call_id=call_id, Contact=f"<sip:{PBX}>"))
        return [message.status for message in pbx.taken()][-1]

    def test_right_wrong_absent_and_gone(self) -> None:
        on = self.on()
        right, wrong, absent, plain = (
            Flow("tls", PBX, 1001, 2),
            Flow("tls", PBX, 1002, 2),
            Flow("tls", PBX, 1003, 2),
            Flow("tcp", PBX, 1004, 1),
        )
        on.edge.peer_verified(right, frozenset(("pbx.example", "other.example")))
        on.edge.peer_verified(wrong, frozenset(("other.example",)))
        assert self.calls(on, right) == 480  # believed; nobody is registered
        assert [self.calls(on, flow) for flow in (wrong, absent, plain)] == [403, 403, 403]
        on.edge.flow_lost(right, on.now)
        assert self.calls(on, right) == 403


class TestSips:
    """RFC 3261 26.2.2: such a request goes over TLS, or not at all."""

    def test_only_phones_behind_tls_ring(self) -> None:
        on = bench()
        phones = {t: end(on, t, f"203.0.113.{n}", 40_000) for n, t in enumerate(TRANSPORTS, 1)}
        for phone in phones.values():
            phone.register(Contact=f"<sip:101@{phone.flow.host}:40000>")
        pbx = end(on, "udp", PBX)
        uri = "sips:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c", Contact=f"<sip:{PBX}>"))
        pbx.take(100)
        assert {t for t, phone in phones.items() if phone.taken()} == {"tls", "wss"}

    @pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
    def test_nobody_behind_tls(self, method: str) -> None:
        on = bench()
        phone = end(on, "tcp", "203.0.113.1")
        phone.register()
        pbx = end(on, "udp", PBX)
        uri = "SIPS:101@acme.example"
        pbx.send(pbx.request(method, uri, from_="sip:x@pbx.example", to=uri, call_id="c", Contact=f"<sip:{PBX}>"))
        assert pbx.taken()[-1].status == 480
        phone.nothing()

    @pytest.mark.parametrize(("transport", "goes"), [("udp", False), ("tcp", False), ("tls", True)])
    def test_out_through_a_pbx(self, transport: str, goes: bool) -> None:
        on = bench(table(tenant("acme", of_connection={"transport": transport, "port": 5070})))
        phone = end(on, "tls", "203.0.113.1", 40_000)
        phone.register()
        pbx = end(on, transport, PBX, 5070)
        uri = "sips:9000@acme.example"
        text = phone.request("INVITE", uri, from_=AOR, to=uri, call_id="c", Contact="<sip:101@203.0.113.1>")
        phone.send(text)
        challenge = phone.take(401)
        phone.send(ack_of(challenge, uri))
        signed = credentials(challenge, "101", "INVITE", uri)
        phone.send(
            phone.request(
                "INVITE", uri, from_=AOR, to=uri, call_id="c", Contact="<sip:101@203.0.113.1>", Authorization=signed
            )
        )
        phone.take(100)
        if goes:
            pbx.take("INVITE")
        else:
            pbx.nothing()
            assert phone.taken()[-1].status == 503


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_may_go(transport: str) -> None:
    flow = Flow(transport, "192.0.2.1", 1, 0)
    assert may_go("sip:a@b", flow)
    assert may_go("SIPS:a@b", flow) is (transport in ("tls", "wss"))


def test_names_to_verify_come_from_where_the_request_is_sent() -> None:
    on = bench(table(tenant("acme", strategy="on_behalf", of_connection={"transport": "tls", "port": 0})))
    on.pass_time(1.0)
    (name,) = on.edge.tls_names.values()
    assert list(on.edge.tls_names) == [("tls", PBX, 5061)]
    assert (name.name, name.verify) == (PBX, True)
    unchecked = tenant("acme", strategy="on_behalf", of_connection={"transport": "tls", "tls_verify": False})
    other = bench(table(unchecked))
    other.pass_time(1.0)
    assert [name.verify for name in other.edge.tls_names.values()] == [False]


def test_a_tenant_that_checks_no_certificate_weakens_no_other() -> None:
    """Catches: what is expected at an address kept by the address alone, where the PBX of two tenants is."""
    off, on_ = ({"transport": "tls", "port": 5061, "tls_verify": verify} for verify in (False, True))
    on = bench(table(tenant("acme", of_connection=off), tenant("globex", of_connection=on_)))
    globex, acme = on.end("203.0.113.1", 5062), on.end("203.0.113.2", 5062)
    globex.register("globex.example")
    acme.register("acme.example", "102")
    globex.call("+49", "globex.example")
    acme.call("+49", "acme.example", "102")
    sent = [(scan(data), flow) for data, flow in on.sent if flow.host == PBX]
    expected = {message.from_.uri.user: expected_at(flow) for message, flow in sent}
    assert expected == {"101": TlsName(PBX, verify=True), "102": TlsName(PBX, verify=False)}
    invite, flow = next((message, flow) for message, flow in sent if message.from_.uri.user == "101")
    on.sent.clear()
    pbx = End(on, flow)
    pbx.answer(invite, 200, "p", Contact=f"<sip:p@{PBX}:5061;transport=tls>")
    on.edge.hang_up("call-101-+49", None, 480, "Gone", on.now)
    on.collect()
    assert [expected_at(to) for _, to in on.sent if to.host == PBX] == [TlsName(PBX, verify=True)] * 2


@pytest.mark.parametrize(
    ("host", "transport", "number"),
    [
        ("198.51.100.1", "udp", 1),
        ("127.0.0.9", "udp", 0),
        ("2001:db8::9", "udp", 2),
        ("::1", "udp", 2),  # better than none
        ("198.51.100.1", "tls", 3),
        ("2001:db8::9", "tls", None),
    ],
)
def test_the_listener_that_sends_has_the_transport_family_and_reach(host: str, transport: str, number: int) -> None:
    listeners = [("udp", "127.0.0.1"), ("udp", "192.0.2.1"), ("udp", "2001:db8::1"), ("tls", "127.0.0.1")]
    settings = Settings(tuple(Listener(t, address, 1, address, 1) for t, address in listeners))
    flow = settings.flow_to(host, 0, transport)
    assert (flow.listener if flow else None) == number
    if flow is not None:
        assert flow.port == PUBLIC[transport]
