"""Each leg by itself: challenges on it, its routes and targets, and nothing of the other leg on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.flow import Answer, Listener, Query
from sipd.message.auth import Credentials
from sipd.settings import Settings
from tests.unit.core.bench import PBX, Bench, connection, found, table, tenant, two_tenants
from tests.unit.core.talk import CHALLENGE, PHONE, Outgoing, Ringing, Talk, assert_nothing_left


class TestChallenges:
    """401 and 407 from the PBX are answered with the user's account, in a call too (RFC 3261 22)."""

    @pytest.mark.parametrize("status", [401, 407])
    @pytest.mark.parametrize("direction", ["in", "out"])
    def test_of_a_bye(self, direction: str, status: int) -> None:
        on = Talk() if direction == "in" else Outgoing()
        if isinstance(on, Outgoing):
            ok = on.answered()
            on.pbx.take("ACK")
            on.phone.send(on.phone.within(ok, "BYE", 9))
        else:
            on.phone.send(on.from_phone("BYE", 1))
        on.phone.take(200)
        bye = on.pbx.take("BYE")
        name = "WWW_Authenticate" if status == 401 else "Proxy_Authenticate"
        on.pbx.answer(bye, status, **{name: CHALLENGE.format("pbx", "n")})
        again = on.pbx.take("BYE")
        sent = Credentials.parse(again.get("authorization" if status == 401 else "proxy-authorization") or "")
        assert (sent.username, sent.uri) == ("101", again.uri)
        assert again.cseq.number == bye.cseq.number + 1
        on.pbx.answer(again, status, **{name: CHALLENGE.format("pbx", "n")})
        on.pbx.nothing()  # once is enough
        on.assert_nothing_left()

    def test_of_a_reinvite_towards_the_pbx_that_called(self) -> None:
        talk = Talk()
        talk.phone.send(talk.from_phone("INVITE", 1, body="hold", Contact="<sip:101@10.0.0.9:5062>"))
        talk.phone.take(100)
        first = talk.pbx.take("INVITE")
        talk.pbx.answer(first, 401, WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        talk.pbx.take("ACK")
        again = talk.pbx.take("INVITE")
        assert again.body == b"hold"
        assert again.cseq.number == first.cseq.number + 1
        talk.pbx.answer(again, 200)
        talk.phone.take(200)
        talk.phone.send(talk.from_phone("ACK", 1))
        assert talk.pbx.take("ACK").cseq.number == again.cseq.number

    def test_of_a_proxy_and_then_of_the_server_behind_it(self) -> None:
        on = Outgoing()
        on.pbx.answer(on.invite, 407, "a", Proxy_Authenticate=CHALLENGE.format("proxy", "n1"))
        on.pbx.take("ACK")
        second = on.pbx.take("INVITE")
        on.pbx.answer(second, 401, "b", WWW_Authenticate=CHALLENGE.format("pbx", "n2"))
        on.pbx.take("ACK")
        third = on.pbx.take("INVITE")
        proxy = Credentials.parse(third.get("proxy-authorization") or "")
        assert (proxy.realm, proxy.nonce, proxy.nc) == ("proxy", "n1", "00000002")
        assert Credentials.parse(third.get("authorization") or "").realm == "pbx"
        on.pbx.answer(third, 200, "c")
        on.phone.take(200)

    def test_a_challenge_never_reaches_a_phone(self) -> None:
        talk = Talk()
        talk.phone.send(talk.from_phone("INFO", 1))
        for _ in range(2):
            talk.pbx.answer(talk.pbx.take("INFO"), 401, WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        assert not talk.phone.take(403).has("www-authenticate")


class TestRoutes:
    """RFC 3261 12.1, 12.2, 16.12.1.2: loose and strict routers on the PBX's side."""

    PROXIES = "<sip:198.51.100.20;lr>, <sip:198.51.100.21;lr>"

    def test_the_pbx_calls_through_proxies(self) -> None:
        talk = Talk(Record_Route=self.PROXIES)
        assert talk.ok.get("record-route") == self.PROXIES
        talk.phone.send(talk.from_phone("BYE", 1))
        bye = talk.bench.end("198.51.100.20").take("BYE")
        assert bye.split("route") == self.PROXIES.split(", ")
        assert bye.uri == f"sip:{PBX}:5060"

    def test_a_call_to_the_pbx_through_proxies(self) -> None:
        on = Outgoing()
        ok = on.answered(Record_Route=self.PROXIES, Contact="<sip:x@10.1.1.1>")
        assert not ok.has("record-route")
        ack = on.bench.end("198.51.100.21").take("ACK")
        assert ack.split("route") == self.PROXIES.split(", ")[::-1]
        assert ack.uri == "sip:x@10.1.1.1"

    def test_a_strict_router_gets_itself_as_request_uri(self) -> None:
        talk = Talk(Record_Route="<sip:198.51.100.20>, <sip:198.51.100.21;lr>")
        talk.phone.send(talk.from_phone("BYE", 1))
        bye = talk.bench.end("198.51.100.20").take("BYE")
        assert bye.uri == "sip:198.51.100.20"
        assert bye.split("route") == ["<sip:198.51.100.21;lr>", f"<sip:{PBX}:5060>"]

    def test_requests_of_the_pbx_come_through_its_proxy(self) -> None:
        talk = Talk(Record_Route=self.PROXIES)
        proxy = talk.bench.end("198.51.100.20")
        proxy.send(talk.pbx.within(talk.ok, "BYE", 2))
        proxy.take(200)
        talk.phone.take("BYE")

    @pytest.mark.parametrize("value", ['"', "<sip:x", "nonsense", "<sip:>"])
    def test_a_route_that_cannot_be_used_is_refused_before_anything_rings(self, value: str) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register()
        uri = "sip:101@acme.example"
        more = {"Contact": f"<sip:{PBX}>", "Record_Route": value}
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", **more))
        pbx.take(400)
        phone.nothing()

    def test_a_2xx_whose_route_cannot_be_used_fails_the_call(self) -> None:
        on = Ringing()
        on.phone.answer(on.invite, 200, "p", Record_Route="nonsense")
        on.pbx.take(502)

    def test_a_caller_without_contact_is_reached_where_it_sent_from(self) -> None:
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX, 5099), bench.end(*PHONE)
        phone.register()
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c"))
        invite = phone.take("INVITE")
        phone.answer(invite, 200, "p")
        pbx.send(pbx.within(pbx.taken()[-1], "ACK", 1))
        phone.send(phone.back(invite, "p", "BYE", 1))
        assert pbx.take("BYE").uri == f"sip:{PBX}:5099"


class TestTargets:
    """Where requests in a dialog go: the PBX's Contact, a phone's flow."""

    def test_a_pbx_contact_by_name_is_looked_up(self) -> None:
        on = Outgoing()
        on.pbx.answer(on.invite, 200, "p", Contact="<sip:x@node2.pbx.example>")
        ok = on.phone.take(200)
        (query,) = on.bench.edge.lookups_to_start()
        assert query == Query("node2.pbx.example", 0, "udp")
        on.bench.edge.resolved(query, found("198.51.100.12"), on.bench.now)
        on.phone.send(on.phone.within(ok, "ACK", ok.cseq.number))
        assert on.bench.end("198.51.100.12").take("ACK").uri == "sip:x@node2.pbx.example"

    def test_a_name_that_is_not_found_leaves_the_known_way(self) -> None:
        on = Outgoing()
        on.pbx.answer(on.invite, 200, "p", Contact="<sip:x@inner.pbx>")
        ok = on.phone.take(200)
        on.bench.edge.resolved(Query("inner.pbx", 0, "udp"), Answer(), on.bench.now)
        on.phone.send(on.phone.within(ok, "ACK", ok.cseq.number))
        on.pbx.take("ACK")

    def test_a_pbx_contact_that_asks_for_tcp(self) -> None:
        talk = Talk(Contact=f"<sip:{PBX}:5070;transport=tcp>")
        talk.phone.send(talk.from_phone("BYE", 1))
        bye = talk.bench.end(PBX, 5070, "tcp").take("BYE")
        assert bye.via.transport == "TCP"

    def test_a_target_refresh_moves_the_pbx(self) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx("UPDATE", 2, Contact="<sip:198.51.100.11:5070>"))
        talk.phone.answer(talk.phone.take("UPDATE"), 200, Contact="<sip:10.0.0.9:5062>")
        talk.pbx.take(200)
        talk.phone.send(talk.from_phone("BYE", 1))
        assert talk.bench.end("198.51.100.11", 5070).take("BYE").uri == "sip:198.51.100.11:5070"

    def test_a_phone_behind_a_nat_is_reached_over_its_flow(self) -> None:
        talk = Talk()
        assert talk.invite.uri == "sip:101@10.0.0.9:5062"
        talk.pbx.send(talk.from_pbx("INFO", 2))
        talk.phone.take("INFO")

    def test_headers_in_a_contact_are_left_out_of_the_request_uri(self) -> None:
        """RFC 3261 19.1.1, table 1."""
        bench = Bench(two_tenants())
        pbx, phone = bench.end(PBX), bench.end(*PHONE)
        phone.register(Contact="<sip:101@10.0.0.9:5062?Subject=x>;expires=600")
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", Contact=f"<sip:{PBX}?Subject=x>"))
        invite = phone.take("INVITE")
        assert invite.uri == "sip:101@10.0.0.9:5062"
        phone.answer(invite, 200, "p", Contact="<sip:101@10.0.0.9:5062?Subject=y>")
        ok = pbx.taken()[-1]
        pbx.send(pbx.within(ok, "BYE", 2))
        assert [m.uri for m in phone.taken()] == ["sip:101@10.0.0.9:5062"] * 2

    def test_a_2xx_without_contact_is_acknowledged_at_the_request_uri(self) -> None:
        on = Outgoing()
        on.pbx.send(
            (
                f"SIP/2.0 200 OK\r\nVia: {on.invite.get('via')}\r\nFrom: {on.invite.get('from')}\r\n"
                f"To: {on.invite.get('to')};tag=p\r\nCall-ID: {on.invite.call_id}\r\nCSeq: {on.invite.get('cseq')}\r\n"
                "Content-Length: 0\r\n\r\n"
            ).encode()
        )
        ok = on.phone.take(200)
        on.phone.send(on.phone.within(ok, "ACK", ok.cseq.number))
        assert on.pbx.take("ACK").uri == on.invite.uri


class TestNothingOfTheOtherLeg:
    """RFC 7092, docs/decisions: the legs do not show each other's addresses, tags and Call-IDs."""

    def test_from_the_pbx_to_the_phone_and_back(self) -> None:
        talk = Talk(Record_Route="<sip:198.51.100.20;lr>")
        secrets = (PBX, "198.51.100.20", "tag=f-t", "Call-ID: t\r", talk.pbx.branch()[:20])
        for at in (talk.invite,):
            assert not [s for s in secrets if s.encode() in at.data]
        inner = (b"203.0.113.1", b"10.0.0.9", b"tag=p", talk.invite.call_id.encode())
        assert not [s for s in inner if s in talk.ok.data]

    def test_from_the_phone_to_the_pbx_and_back(self) -> None:
        on = Outgoing()
        inner = (b"203.0.113.1", b"10.0.0.9", b"call-101", b"tag=f-", b"sipsak", b"acme.example>;tag")
        assert not [s for s in inner if s in on.invite.data]
        ok = on.answered()
        outer = (PBX.encode(), on.invite.call_id.encode(), (on.invite.from_.tag or "-").encode(), b"tag=p")
        assert not [s for s in outer if s in ok.data]

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO"])
    def test_a_phone_claims_no_identity_inside_a_call(self, method: str) -> None:
        """RFC 3325 section 5."""
        talk = Talk()
        talk.phone.send(talk.from_phone(method, 1, P_Asserted_Identity="<sip:boss@acme.example>", X_Own="kept"))
        got = talk.pbx.take(method)
        assert not got.has("p-asserted-identity")
        assert got.has("x-own")

    @pytest.mark.parametrize("status", [180, 200, 486])
    def test_a_phone_claims_no_identity_in_its_answers(self, status: int) -> None:
        on = Ringing()
        on.phone.answer(on.invite, status, "p", P_Asserted_Identity="<sip:boss@acme.example>", X_Own="kept")
        got = on.pbx.take(status)
        assert not got.has("p-asserted-identity")
        assert got.has("x-own")

    def test_an_asserted_identity_that_is_to_stay_private_does_not_reach_a_phone(self) -> None:
        """RFC 3325 section 7."""
        on = Ringing(P_Asserted_Identity="<sip:chief@pbx.example>", Privacy="id")
        assert not on.invite.has("p-asserted-identity")
        on = Ringing(P_Asserted_Identity="<sip:chief@pbx.example>")
        assert on.invite.has("p-asserted-identity")

    @pytest.mark.parametrize("method", ["FROB", "PUBLISH"])
    def test_methods_that_the_edge_does_not_take_do_not_pass_inside_a_call(self, method: str) -> None:
        talk = Talk()
        talk.pbx.send(talk.from_pbx(method, 2))
        assert talk.pbx.take(501 if method == "FROB" else 405).has("allow")
        talk.phone.nothing()


class TestRecords:
    """One `call.ended` for each call, with who ended it."""

    def ended(self, bench: Bench) -> tuple[object, object, object]:
        (event,) = bench.events("call.ended")
        detail = event["detail"]
        assert isinstance(detail, dict)
        return detail["by"], detail["code"], detail["answered"]

    def test_no_way_to_the_pbx_is_the_edges(self) -> None:
        acme = tenant("acme", of_connection={"host": "pbx.example", "sources": ()})
        bench = Bench(table(acme))
        phone = bench.end(*PHONE)
        phone.register()
        phone.call("555")
        (query,) = bench.edge.lookups_to_start()
        bench.edge.resolved(query, Answer(), bench.now)
        bench.collect()
        phone.take(503)
        events = bench.edge.take_events()
        (refused,) = [e for e in events if e["kind"] == "refused"]
        assert refused["rule"] == "unreachable"
        (over,) = [e["detail"] for e in events if e["kind"] == "call.ended"]
        assert (over["by"], over["code"]) == ("edge", 503)

    def test_a_phone_that_never_answers_the_invite(self) -> None:
        on = Ringing()
        on.bench.pass_time(33)
        assert on.pbx.take(408)
        assert self.ended(on.bench)[:2] == ("edge", 408)

    def test_a_forward_that_fails_says_so_itself(self) -> None:
        acme = tenant("acme")
        users = (replace(acme.users[0], forward_no_answer="+49170", ring_seconds=10), acme.users[1])
        on = Ringing(table(replace(acme, users=users)))
        on.phone.answer(on.invite, 180, "p")
        on.bench.pass_time(10.1)
        invite = next(m for m in on.pbx.taken() if m.method == "INVITE" and not m.status)
        on.pbx.answer(invite, 486, "q")
        assert on.pbx.taken()[-1].status == 486
        assert self.ended(on.bench)[:2] == ("callee", 486)

    def test_each_refusal_of_a_passed_request_is_an_event(self) -> None:
        bench = Bench(two_tenants())
        pbx = bench.end(PBX)
        uri = "sip:101@acme.example"
        pbx.send(pbx.request("MESSAGE", uri, from_="sip:x@pbx.example", to=uri, call_id="m"))
        pbx.take(480)
        (refused,) = bench.events("refused")
        assert (refused["rule"], refused["tenant"]) == ("no-binding", "acme")

    def test_texts_in_records_have_a_bound(self) -> None:
        on = Ringing()
        uri = "sip:" + "9" * 2000 + "@acme.example"
        on.pbx.send(on.pbx.request("INVITE", uri, from_=uri, to=uri, call_id="long", Contact=f"<sip:{PBX}>"))
        on.pbx.take(404)
        uri = "sip:101@acme.example;x=" + "9" * 2000
        long = "sip:" + "9" * 2000 + "@pbx.example"
        on.pbx.send(on.pbx.request("INVITE", uri, from_=long, to=uri, call_id="long2", Contact=f"<sip:{PBX}>"))
        for event in on.bench.edge.take_events():
            assert all(len(str(value)) <= 300 for value in event["detail"].values())


def test_a_fault_of_ours_costs_one_call_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(two_tenants())
    pbx, phone = bench.end(PBX), bench.end(*PHONE)
    phone.register()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(bench.edge.calls_, "invite", broken)
    uri = "sip:101@acme.example"
    pbx.send(pbx.request("INVITE", uri, from_="sip:x@y", to=uri, call_id="c", Contact=f"<sip:{PBX}>"))
    assert [m.status for m in pbx.taken()] == [100, 500]
    assert bench.edge.counters["faults"] == 1
    bench.edge.faults.clear()
    assert len(bench.events("call.ended")) == 1
    bench.pass_time(100)
    assert_nothing_left(bench)


class TestIpv6:
    """RFC 3261 19.1.1, 25.1: IPv6 addresses stand in brackets."""

    def bench(self, **of_connection: object) -> Bench:
        listeners = tuple(Listener(t, "2001:db8::1", 5060, "2001:db8::1", 5060) for t in ("udp", "tcp"))
        link = {"host": "2001:db8::10", "sources": ("2001:db8::10",), **of_connection}
        return Bench(table(tenant("acme", of_connection=link)), Settings(listeners))

    def test_a_call_both_ways(self) -> None:
        bench = self.bench()
        pbx, phone = bench.end("2001:db8::10"), bench.end("2001:db8::99", 5062)
        pbx_via = "[2001:db8::10]"
        uri = "sip:101@acme.example"

        def bracketed(text: str) -> str:
            return text.replace("UDP 2001:db8::99", "UDP [2001:db8::99]").replace("UDP 2001:db8::10", f"UDP {pbx_via}")

        send_pbx, send_phone = pbx.send, phone.send
        pbx.send = lambda t: send_pbx(bracketed(t) if isinstance(t, str) else t)  # type: ignore[method-assign]
        phone.send = lambda t: send_phone(bracketed(t) if isinstance(t, str) else t)  # type: ignore[method-assign]
        phone.register(Contact="<sip:101@[2001:db8::99]:5062>")
        more = {"Contact": "<sip:[2001:db8::10]:5060>"}
        pbx.send(pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="c", **more))
        pbx.take(100)
        invite = phone.take("INVITE")
        assert invite.uri == "sip:101@[2001:db8::99]:5062"
        assert invite.via.host == "2001:db8::1"
        assert invite.contacts[0].uri.host == "2001:db8::1"
        phone.answer(invite, 200, "p", Contact="<sip:101@[2001:db8::99]:5062>")
        ok = pbx.take(200)
        pbx.send(pbx.within(ok, "ACK", 1))
        phone.take("ACK")
        phone.send(phone.back(invite, "p", "BYE", 1))
        phone.take(200)
        assert pbx.take("BYE").uri == "sip:[2001:db8::10]:5060"

    @pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
    def test_a_registrar_domain_that_is_an_address(self, method: str) -> None:
        bench = self.bench(registrar_domain="2001:db8::10")
        pbx, phone = bench.end("2001:db8::10"), bench.end("2001:db8::99", 5062)
        send = phone.send
        phone.send = lambda t: send(t.replace("UDP 2001:db8::99", "UDP [2001:db8::99]"))  # type: ignore[method-assign, union-attr, arg-type]
        phone.register()
        if method == "INVITE":
            phone.call("55")
        else:
            from tests.unit.core.bench import credentials

            uri, aor = "sip:55@acme.example", "sip:101@acme.example"
            phone.send(phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m"))
            header = credentials(phone.take(401), "101", "MESSAGE", uri)
            phone.send(phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m", Authorization=header))
        got = pbx.take(method)
        assert got.uri == "sip:55@[2001:db8::10]"
        assert got.from_.uri_text == "sip:101@[2001:db8::10]"


def test_a_connection_without_account_is_refused_with_its_rule() -> None:
    acme = tenant("acme", strategy="on_behalf")
    users = tuple(replace(user, upstream=()) for user in acme.users)
    other = connection("other", source="198.51.100.99", strategy="on_behalf")
    bench = Bench(table(replace(acme, users=users, connections=(*acme.connections, other))))
    phone = bench.end(*PHONE)
    phone.register()
    phone.call("55")
    phone.take(403)
    assert [e["rule"] for e in bench.events("refused")] == ["no-account"]
