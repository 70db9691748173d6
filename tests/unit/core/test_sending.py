"""One request, several targets (RFC 3263 4.3), and TCP for what is too large for UDP (RFC 3261 18.1.1)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sipd import hunting, sending
from sipd.flow import Answer, Flow, Query
from sipd.message.message import Message
from sipd.routing.model import OutboundRule
from tests.unit.core.bench import Bench, End, ack_of, connection, credentials, found, table, tenant
from tests.unit.core.talk import CHALLENGE, PHONE, assert_nothing_left

A, B, C = "198.51.100.51", "198.51.100.52", "198.51.100.53"
QUERY = Query("pbx.example", 0, "udp")


class Dialling:
    """A phone that calls out through a PBX with three targets, A before B before C."""

    def __init__(self, *targets: str, body: str = "", **of_connection: object) -> None:
        link = {"host": "pbx.example", "port": 0, **of_connection}
        self.bench = Bench(table(tenant("acme", of_connection=link)))
        self.phone = self.bench.end(*PHONE)
        self.phone.register()
        self.call(body)
        (query,) = self.bench.edge.lookups_to_start()
        assert query == QUERY
        self.bench.edge.resolved(query, found(*(targets or (A, B, C)), ttl=600), self.bench.now)
        self.bench.collect()

    def end(self, host: str, port: int = 5060, transport: str = "udp") -> End:
        return self.bench.end(host, port, transport)

    def call(self, body: str = "", dialled: str = "555", call_id: str = "c1") -> None:
        uri, aor = f"sip:{dialled}@acme.example", "sip:101@acme.example"
        headers = {"Contact": "<sip:101@10.0.0.9:5062>"}
        if body:
            headers["Content-Type"] = "application/sdp"
        for _ in range(2):
            text = self.phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers)
            self.sent = text.replace("Content-Length: 0\n\n", f"Content-Length: {len(body)}\n\n{body}")
            self.phone.send(self.sent)
            (answer,) = self.phone.taken()
            if answer.status == 401:
                self.phone.send(ack_of(answer, uri))
                headers["Authorization"] = credentials(answer, "101", "INVITE", uri)

    def hang_up_by_phone(self, ok: Message) -> None:
        self.phone.send(self.phone.within(ok, "ACK", ok.cseq.number))
        self.phone.send(self.phone.within(ok, "BYE", ok.cseq.number + 1))

    def cancel(self) -> None:
        self.phone.send(self.sent.replace("INVITE", "CANCEL"))

    def lost(self, end: End) -> None:
        self.bench.edge.flow_lost(end.flow, self.bench.now)
        self.bench.collect()

    def assert_nothing_left(self) -> None:
        self.bench.pass_time(400)
        assert_nothing_left(self.bench)


class TestTheNextTarget:
    def test_the_first_answers(self) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 180, "a")
        on.phone.take(180)
        on.bench.pass_time(20)
        on.end(B).nothing()

    def test_silence_is_not_waited_for_long(self) -> None:
        on = Dialling()
        first = on.end(A).take("INVITE")
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        second = on.end(B).take("INVITE")
        assert second.via.branch != first.via.branch
        for name in ("call-id", "from", "cseq", "contact", "to"):
            assert second.get(name) == first.get(name)
        assert second.uri == first.uri

    def test_the_silent_one_is_sent_nothing_more(self) -> None:
        on = Dialling()
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).take("INVITE"), 100)
        on.bench.pass_time(40)
        on.end(A).nothing()

    def test_503_goes_on_at_once(self) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 503, "a")
        on.end(A).take("ACK")
        on.end(B).answer(on.end(B).take("INVITE"), 180, "b")
        on.phone.take(180)

    def test_a_lost_stream_goes_on_at_once(self) -> None:
        on = Dialling(f"{A}:5060/tcp", f"{B}:5060/tcp")
        on.end(A, transport="tcp").take("INVITE")
        on.lost(on.end(A, transport="tcp"))
        invite = on.end(B, transport="tcp").take("INVITE")
        assert invite.via.transport == "TCP"

    def test_a_stream_that_is_lost_while_it_rings_is_the_end(self) -> None:
        on = Dialling(f"{A}:5060/tcp", f"{B}:5060/tcp")
        a = on.end(A, transport="tcp")
        a.answer(a.take("INVITE"), 180, "a")
        on.phone.take(180)
        on.lost(a)
        on.phone.take(503)
        on.end(B, transport="tcp").nothing()

    def test_via_and_contact_are_those_of_the_flow(self) -> None:
        on = Dialling(A, f"{B}:5070/tcp")
        first = on.end(A).take("INVITE")
        on.end(A).answer(first, 503, "a")
        second = on.end(B, 5070, "tcp").take("INVITE")
        assert (first.via.transport, second.via.transport) == ("UDP", "TCP")
        assert first.contacts[0].uri.param("transport") is None
        assert second.contacts[0].uri.param("transport") == "tcp"

    @pytest.mark.parametrize("status", [404, 486, 480, 500, 603])
    def test_any_other_refusal_is_the_answer(self, status: int) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), status, "a")
        on.phone.take(status)
        on.end(B).nothing()
        on.assert_nothing_left()

    def test_only_the_last_failure_is_told(self) -> None:
        on = Dialling(A, B)
        on.end(A).answer(on.end(A).take("INVITE"), 503, "a")
        on.phone.nothing()
        on.bench.pass_time(33)
        on.end(B).taken()
        on.phone.take(408)
        on.assert_nothing_left()

    def test_503_of_the_last_is_told(self) -> None:
        on = Dialling(A, B)
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(B).answer(on.end(B).take("INVITE"), 503, "b")
        on.phone.take(500)  # not our own word that we are overloaded (RFC 3261 16.7 step 6)

    def test_only_those_that_a_listener_reaches(self) -> None:
        on = Dialling(f"{A}:5061/tls", B)
        on.end(B).take("INVITE")

    def test_a_challenge_is_answered_where_it_came_from_and_then_goes_on(self) -> None:
        on = Dialling()
        b = on.end(B)
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        first = b.take("INVITE")
        b.answer(first, 401, "b", WWW_Authenticate=CHALLENGE.format("pbx", "n1"))
        ack, again = b.taken()
        assert (ack.method, again.method) == ("ACK", "INVITE")
        assert again.has("authorization")
        assert again.cseq.number == first.cseq.number + 1
        b.answer(again, 503, "b")
        third = on.end(C).take("INVITE")
        assert third.cseq == again.cseq


def test_a_fault_in_the_next_try_is_told() -> None:
    bench = Bench()
    told: list[str] = []

    class Asker:
        def on_failure(self, sent: sending.Sending, thing: str, reason: str, now: float) -> None:
            told.append(f"{thing} {reason}")

    def build(flow: Flow, branch: str) -> bytes:
        if flow.host == B:
            raise ZeroDivisionError
        return b"OPTIONS sip:x SIP/2.0\r\n\r\n"

    flows = [Flow("udp", host, 5060, 0) for host in (A, B)]
    bench.edge.sender.request("OPTIONS", flows, build, (Asker(), "thing"), bench.now)
    bench.pass_time(sending.OTHER_SECONDS + 0.1)
    assert told == ["thing transport error"]
    assert bench.edge.counters["faults"] == 1
    bench.pass_time(60)
    assert len(told) == 1


class TestGivingUp:
    def test_a_cancel_goes_to_the_target_that_is_tried(self) -> None:
        on = Dialling()
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).take("INVITE"), 180, "b")
        on.phone.take(180)
        on.cancel()
        cancel = on.end(B).take("CANCEL")
        on.end(B).answer(cancel, 200)
        on.end(A).nothing()

    def test_a_cancel_ends_the_search(self) -> None:
        on = Dialling()
        on.end(A).taken()
        on.cancel()
        assert [m.status for m in on.phone.taken()] == [200, 487]
        on.bench.pass_time(60)
        on.end(B).nothing()
        on.assert_nothing_left()

    def test_a_503_after_the_cancel_is_the_end(self) -> None:
        on = Dialling()
        a = on.end(A)
        invite = a.take("INVITE")
        a.answer(invite, 180, "a")
        on.cancel()
        a.answer(invite, 503, "a")
        on.bench.pass_time(60)
        on.end(B).nothing()

    def test_a_late_ringing_is_cancelled(self) -> None:
        on = Dialling()
        first = on.end(A).take("INVITE")
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(A).answer(first, 180, "late")
        cancel = on.end(A).take("CANCEL")
        assert cancel.via.branch == first.via.branch
        assert 180 not in [m.status for m in on.phone.taken()]

    def test_a_late_2xx_is_acknowledged_and_ended(self) -> None:
        on = Dialling()
        first = on.end(A).take("INVITE")
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        second = on.end(B).take("INVITE")
        on.end(A).answer(first, 200, "late")
        ack, bye = on.end(A).taken()
        assert (ack.method, bye.method) == ("ACK", "BYE")
        assert ack.to.tag == bye.to.tag == "late"
        on.end(A).answer(first, 200, "late")
        on.end(A).take("ACK")  # the same 2xx again: the same ACK again
        on.end(A).answer(bye, 200)
        on.end(B).answer(second, 200, "b")
        ok = on.phone.take(200)
        on.hang_up_by_phone(ok)
        assert [m.method for m in on.end(B).taken()] == ["ACK", "BYE"]

    def test_a_late_refusal_is_acknowledged_and_of_no_interest(self) -> None:
        on = Dialling()
        first = on.end(A).take("INVITE")
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(A).answer(first, 486, "late")
        on.end(A).take("ACK")
        on.phone.nothing()
        on.end(B).answer(on.end(B).take("INVITE"), 486, "b")
        on.phone.take(486)
        on.assert_nothing_left()


class TestMemory:
    def again(self, on: Dialling) -> None:
        on.phone.taken()
        on.call(dialled="556", call_id="c2")

    def test_a_silent_target_comes_last_for_a_while(self) -> None:
        on = Dialling()
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).taken()[0], 486, "b")
        on.end(B).taken()
        self.again(on)
        on.end(A).nothing()
        on.end(B).take("INVITE")

    def test_the_preferred_one_is_used_again_later(self) -> None:
        on = Dialling()
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).taken()[0], 486, "b")
        on.bench.pass_time(sending.DOWN_SECONDS)
        on.end(B).taken()
        self.again(on)
        on.end(A).take("INVITE")

    def test_one_request_finds_out_whether_it_is_back(self) -> None:
        on = Dialling(A, B)
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).taken()[0], 486, "b")
        on.bench.pass_time(sending.DOWN_SECONDS)
        on.end(B).taken()
        self.again(on)
        probe = on.end(A).take("INVITE")
        on.call(dialled="557", call_id="c3")
        on.end(A).nothing()
        on.end(B).take("INVITE")
        on.end(A).answer(probe, 180, "a")
        on.phone.taken()
        on.call(dialled="558", call_id="c4")
        on.end(A).take("INVITE")

    @pytest.mark.parametrize(("asked", "kept"), [(60, 60), (100_000, sending.MAX_DOWN_SECONDS)])
    def test_retry_after_is_kept(self, asked: int, kept: float) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 503, "a", Retry_After=str(asked))
        on.end(A).taken()
        on.end(B).answer(on.end(B).take("INVITE"), 486, "b")
        on.bench.pass_time(kept - 1)
        on.end(B).taken()
        self.again(on)
        on.end(A).nothing()
        on.end(B).answer(on.end(B).take("INVITE"), 486, "b")
        on.end(B).taken()
        on.bench.pass_time(2)
        on.phone.taken()
        on.call(dialled="557", call_id="c3")
        on.end(A).take("INVITE")

    def test_503_without_a_time_is_forgotten(self) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 503, "a")
        on.end(A).taken()
        on.end(B).answer(on.end(B).take("INVITE"), 486, "b")
        self.again(on)
        on.end(A).take("INVITE")

    def test_when_all_are_down_all_are_tried(self) -> None:
        on = Dialling(A, B)
        for target in (A, B):
            on.end(target).answer(on.end(target).take("INVITE"), 503, "x", Retry_After="60")
            on.end(target).taken()
        on.phone.take(500)
        self.again(on)
        on.end(A).take("INVITE")

    def test_it_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sending, "MEMORY", 3)
        memory = sending.Memory()
        for port in range(10):
            memory.keep(("udp", A, port), 10.0)
        assert len(memory) == 3
        assert memory.holds(("udp", A, 9), 9.0)
        assert not memory.holds(("udp", A, 9), 10.0)
        assert not memory.holds(("udp", A, 1), 9.0)


LARGE = "v=0\r\n" + "a=candidate:1 1 udp 1 192.0.2.1 40000 typ host\r\n" * 30


class TestLarge:
    def test_a_large_request_goes_over_tcp(self) -> None:
        on = Dialling(A, body=LARGE)
        invite = on.end(A, transport="tcp").take("INVITE")
        assert invite.via.transport == "TCP"
        assert invite.contacts[0].uri.param("transport") == "tcp"
        on.end(A).nothing()

    def test_a_small_one_does_not(self) -> None:
        on = Dialling(A, body="v=0\r\n")
        on.end(A).take("INVITE")

    def test_refused_tcp_falls_back_to_udp_at_once_and_is_remembered(self) -> None:
        on = Dialling(A, body=LARGE)
        on.end(A, transport="tcp").take("INVITE")
        on.lost(on.end(A, transport="tcp"))
        invite = on.end(A).take("INVITE")
        assert (invite.via.transport, invite.contacts[0].uri.param("transport")) == ("UDP", None)
        on.end(A).answer(invite, 486, "a")
        on.end(A).take("ACK")
        on.phone.taken()
        on.call(LARGE, "556", "c2")
        on.end(A).answer(on.end(A).take("INVITE"), 486, "a")
        on.end(A).take("ACK")
        on.bench.pass_time(sending.NO_TCP_SECONDS + 1)
        on.phone.taken()
        on.phone.register()
        on.call(LARGE, "557", "c3")
        for query in on.bench.edge.lookups_to_start():
            on.bench.edge.resolved(query, found(A), on.bench.now)
        on.bench.collect()
        on.end(A, transport="tcp").take("INVITE")

    def test_tcp_that_is_swallowed_costs_little(self) -> None:
        on = Dialling(A, body=LARGE)
        on.bench.pass_time(sending.SWITCHED_SECONDS + 0.1)
        on.end(A).answer(on.end(A).take("INVITE"), 180, "a")
        on.phone.take(180)

    def test_fall_back_is_to_the_same_target_first(self) -> None:
        on = Dialling(A, B, body=LARGE)
        on.bench.pass_time(sending.SWITCHED_SECONDS + 0.1)
        on.end(A).take("INVITE")
        on.bench.pass_time(sending.INVITE_SECONDS + 0.1)
        on.end(B, transport="tcp").take("INVITE")

    def test_503_over_tcp_is_not_asked_again_over_udp(self) -> None:
        on = Dialling(A, B, body=LARGE)
        a = on.end(A, transport="tcp")
        a.answer(a.take("INVITE"), 503, "a")
        on.end(B, transport="tcp").take("INVITE")
        on.end(A).nothing()

    def test_a_request_to_a_phone_stays_on_its_flow(self) -> None:
        bench = Bench(table(tenant("acme", of_connection={"internal_calls": "always_direct"})))
        caller, callee = bench.end("203.0.113.7", 5062), bench.end(*PHONE)
        caller.register(extension="102")
        callee.register()
        on = Dialling.__new__(Dialling)
        on.bench, on.phone = bench, callee
        on.call(LARGE, dialled="102")
        invite = caller.take("INVITE")
        assert len(invite.data) > sending.LARGE_REQUEST
        assert invite.via.transport == "UDP"
        bench.pass_time(3)
        bench.end("203.0.113.7", 5062, "tcp").nothing()


class TestAnotherWay:
    """A fall-back connection behind the targets of the first."""

    def dialled(self) -> Dialling:
        acme = tenant("acme", of_connection={"host": A})
        spare = connection("spare", source=B, host=B, strategy="none")
        rule = OutboundRule("r", 1, "", 0, "", "acme-pbx", fallback="spare")
        on = Dialling.__new__(Dialling)
        on.bench = Bench(table(replace(acme, connections=(*acme.connections, spare), outbound=(rule,))))
        on.phone = on.bench.end(*PHONE)
        on.phone.register()
        on.call()
        return on

    def test_it_is_not_kept_waiting_by_silence(self) -> None:
        on = self.dialled()
        on.end(A).take("INVITE")
        on.bench.pass_time(hunting.LIFE_SECONDS + 0.1)
        on.end(B).answer(on.end(B).take("INVITE"), 486, "b")
        on.phone.take(486)
        on.assert_nothing_left()

    def test_the_last_way_has_all_the_time(self) -> None:
        on = self.dialled()
        on.bench.pass_time(hunting.LIFE_SECONDS + 20)
        invite = on.end(B).taken()[0]
        on.end(B).answer(invite, 486, "b")
        on.phone.take(486)

    def test_a_late_2xx_of_the_first_way_is_ended(self) -> None:
        on = self.dialled()
        first = on.end(A).take("INVITE")
        on.bench.pass_time(hunting.LIFE_SECONDS + 0.1)
        on.end(A).taken()
        on.end(A).answer(first, 200, "late")
        ack, bye = (m for m in on.end(A).taken() if m.method != "CANCEL")
        assert (ack.method, bye.method) == ("ACK", "BYE")
        on.phone.nothing()
        on.end(B).answer(on.end(B).take("INVITE"), 200, "b")
        on.phone.take(200)


MOODS = ("silent", "late", "503", "lost", "busy", "answers", "challenges")


class TestByChance:
    """Targets that are silent, slow, refuse, or answer, and a caller who may give up: it always ends, and once."""

    @pytest.mark.parametrize("seed", range(60))
    def test_it_ends_once_and_leaves_nothing(self, seed: int) -> None:
        chance = random.Random(seed)
        stream = chance.choice(["udp", "tcp"])
        on = Dialling(*(f"{host}:5060/{stream}" for host in (A, B, C)), body=chance.choice(["", LARGE]))
        ends = [on.end(host, transport=transport) for host in (A, B, C) for transport in ("udp", "tcp")]
        moods = {host: chance.choice(MOODS) for host in (A, B, C)}
        waiting: list[tuple[End, Message]] = []
        told: list[int] = []
        for _ in range(100):
            on.bench.pass_time(chance.uniform(0.1, 2.0))
            for end in ends:
                for message in end.taken():
                    self.play(on, end, message, moods[end.flow.host], waiting)
            if waiting and chance.random() < 0.1:
                end, message = waiting.pop(0)
                end.answer(message, 200, f"late-{end.flow.host}")
            for answer in on.phone.taken():
                if answer.cseq.method == "INVITE" and answer.status >= 200:
                    told.append(answer.status)
                    if answer.status < 300:
                        on.hang_up_by_phone(answer)
                    else:
                        on.phone.send(ack_of(answer, "sip:555@acme.example"))
            if not told and chance.random() < 0.01:
                on.cancel()
        assert len(set(told)) <= 1
        on.bench.pass_time(400)
        for end in ends:
            for message in end.taken():
                self.play(on, end, message, "answers", [])
        on.bench.pass_time(400)
        told += [m.status for m in on.phone.taken() if m.cseq.method == "INVITE" and m.status >= 200]
        assert told
        assert_nothing_left(on.bench)

    def play(self, on: Dialling, end: End, message: Message, mood: str, waiting: list[tuple[End, Message]]) -> None:
        if message.status or message.method == "ACK" or mood == "silent":
            return
        if message.method != "INVITE":
            end.answer(message, 200, "x")
        elif mood == "late":
            waiting.append((end, message))
        elif mood == "lost" and end.flow.reliable:
            on.lost(end)
        elif mood == "challenges" and not message.has("authorization"):
            end.answer(message, 401, "x", WWW_Authenticate=CHALLENGE.format("pbx", f"n-{end.flow.host}"))
        else:
            end.answer(message, {"503": 503, "busy": 486}.get(mood, 200), f"t-{end.flow.host}")


class TestOtherRequests:
    def registering(self, *targets: str) -> Bench:
        link = {"host": "pbx.example", "port": 0}
        bench = Bench(table(tenant("acme", strategy="on_behalf", extensions=("101",), of_connection=link)))
        bench.pass_time(0.1)
        (query,) = bench.edge.lookups_to_start()
        bench.edge.resolved(query, found(*targets, ttl=3600), bench.now)
        bench.collect()
        return bench

    def test_a_registration_goes_on_and_returns(self) -> None:
        bench = self.registering(A, B)
        first = bench.end(A).take("REGISTER")
        bench.pass_time(sending.OTHER_SECONDS + 0.1)
        bench.end(A).taken()
        second = bench.end(B).take("REGISTER")
        assert second.call_id == first.call_id
        assert second.cseq.number > first.cseq.number
        bench.end(B).answer(second, 200, "b", Contact=f"{second.get('contact')}", Expires="300")
        (state,) = bench.edge.registrations(None, bench.now)["upstream"]
        assert state["state"] == "registered"
        bench.pass_time(state["next"] - bench.now + 0.1)
        leaving = bench.end(B).take("REGISTER")
        assert leaving.expires == 0
        bench.end(A).nothing()
        bench.end(B).answer(leaving, 200, "b")
        bench.pass_time(0.1)
        third = bench.end(A).take("REGISTER")
        assert third.cseq.number > leaving.cseq.number > second.cseq.number
        bench.end(B).nothing()

    def test_a_registration_that_no_target_takes_is_unreachable(self) -> None:
        bench = self.registering(A, B)
        bench.pass_time(sending.OTHER_SECONDS + 33)
        (state,) = bench.edge.registrations(None, bench.now)["upstream"]
        assert state["state"] == "unreachable"

    def test_a_message_goes_on(self) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 486, "a")
        on.end(A).take("ACK")
        on.phone.send(ack_of(on.phone.take(486), "sip:555@acme.example"))
        aor, uri = "sip:101@acme.example", "sip:555@acme.example"
        on.phone.send(on.phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m"))
        proof = credentials(on.phone.take(401), "101", "MESSAGE", uri)
        on.phone.send(on.phone.request("MESSAGE", uri, from_=aor, to=uri, call_id="m", Authorization=proof))
        on.end(A).taken()
        on.bench.pass_time(sending.OTHER_SECONDS + 0.1)
        on.end(A).taken()
        on.end(B).answer(on.end(B).take("MESSAGE"), 200, "b")
        on.phone.take(200)

    def test_a_subscription_goes_on(self) -> None:
        on = Dialling()
        on.end(A).answer(on.end(A).take("INVITE"), 486, "a")
        on.end(A).take("ACK")
        on.phone.send(ack_of(on.phone.take(486), "sip:555@acme.example"))
        aor, uri = "sip:101@acme.example", "sip:555@acme.example"
        headers = {"Contact": "<sip:101@10.0.0.9:5062>", "Event": "dialog", "Expires": "600"}
        on.phone.send(on.phone.request("SUBSCRIBE", uri, from_=aor, to=uri, call_id="s", **headers))
        headers["Authorization"] = credentials(on.phone.take(401), "101", "SUBSCRIBE", uri)
        on.phone.send(on.phone.request("SUBSCRIBE", uri, from_=aor, to=uri, call_id="s", **headers))
        first = on.end(A).take("SUBSCRIBE")
        on.end(A).answer(first, 503, "a")
        second = on.end(B).take("SUBSCRIBE")
        assert (second.call_id, second.cseq) == (first.call_id, first.cseq)
        on.end(B).answer(second, 200, "b", Expires="600", Contact=f"<sip:{B}>")
        on.phone.take(200)

    def test_a_bye_follows_the_dialog_and_goes_on(self) -> None:
        on = Dialling()
        a = on.end(A)
        a.answer(a.take("INVITE"), 200, "a", Contact="<sip:x@node.pbx.example>")
        ok = on.phone.take(200)
        (query,) = on.bench.edge.lookups_to_start()
        on.bench.edge.resolved(query, found(B, A, C, ttl=600), on.bench.now)
        on.hang_up_by_phone(ok)
        assert [m.method for m in a.taken()] == ["ACK", "BYE"]  # it is one of them, and knows the call
        on.bench.pass_time(sending.OTHER_SECONDS + 0.1)
        a.taken()
        bye = on.end(B).take("BYE")
        assert bye.uri == "sip:x@node.pbx.example"

    def test_nothing_is_found(self) -> None:
        bench = Bench(table(tenant("acme", of_connection={"host": "pbx.example", "port": 0})))
        phone = bench.end(*PHONE)
        phone.register()
        phone.call("555")
        bench.edge.resolved(QUERY, Answer(), bench.now)
        bench.collect()
        phone.take(503)
