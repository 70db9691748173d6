"""Phones with flows of their own (RFC 5626), behind proxies (RFC 3327), behind NAT, and on the move."""

from __future__ import annotations

import pytest

from sipd.flow import Listener
from sipd.keepalive import GRACE, SILENT_AFTER
from sipd.message.message import Message
from sipd.settings import Settings
from sipd.trace import UNTRACED
from tests.unit.core.bench import EDGE, PBX, Bench, End, credentials, table, tenant, two_tenants

AOR, DOMAIN = "sip:101@acme.example", "sip:acme.example"
DEVICE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'
STUN = bytes.fromhex("000100002112a442") + bytes(12)


@pytest.fixture
def bench() -> Bench:
    return Bench(two_tenants())


def register(phone: End, contact: str, call_id: str = "", **headers: str) -> Message:
    """As a phone, with digest; the answer."""
    headers = {"Contact": contact, "Supported": "outbound, path", **headers}
    call_id = call_id or f"reg-{phone.hostport}"
    for _ in range(2):
        phone.send(phone.request("REGISTER", DOMAIN, from_=AOR, to=AOR, call_id=call_id, **headers))
        (answer,) = phone.taken()
        if answer.status != 401:
            break
        headers["Authorization"] = credentials(answer, "101", "REGISTER", DOMAIN)
    return answer


def flow(phone: End, number: int, **headers: str) -> Message:
    """Register one flow of the device."""
    return register(phone, f"<sip:101@{phone.hostport}>;{DEVICE};reg-id={number};expires=600", **headers)


def contacts(bench: Bench) -> list[str]:
    return [str(b["contact"]) for b in bench.edge.registrations("acme", bench.now)["bindings"]]


def called(bench: Bench, call_id: str = "c1") -> None:
    pbx = bench.end(PBX)
    pbx.send(pbx.request("INVITE", AOR, from_="sip:x@pbx.example", to=AOR, call_id=call_id, Contact=f"<sip:{PBX}>"))


class TestFlowsOfOneDevice:
    """RFC 5626: several flows to one phone, which is rung over one of them."""

    @pytest.fixture
    def ends(self, bench: Bench) -> list[End]:
        ends = [bench.end("203.0.113.1", 40_001, "tcp"), bench.end("203.0.113.1", 40_002, "tcp")]
        for number, end in enumerate(ends, 1):
            assert flow(end, number).status == 200
            bench.pass_time(1)
        return ends

    def test_both_are_kept_and_told(self, bench: Bench, ends: list[End]) -> None:
        assert contacts(bench) == [f"sip:101@{end.hostport}" for end in ends]
        answer = flow(ends[0], 1)
        assert {c.params["reg-id"] for c in answer.contacts} == {"1", "2"}
        assert answer.get("require") == "outbound"
        assert answer.get("flow-timer") == "120"

    def test_a_call_rings_the_phone_once_over_the_newest(self, bench: Bench, ends: list[End]) -> None:
        called(bench)
        ends[0].nothing()
        assert ends[1].take("INVITE").uri == f"sip:101@{ends[1].hostport}"

    @pytest.mark.parametrize("failure", ["430", "lost"])
    def test_the_other_is_rung_when_that_fails(self, bench: Bench, ends: list[End], failure: str) -> None:
        called(bench)
        invite = ends[1].take("INVITE")
        if failure == "430":
            ends[1].answer(invite, 430, "t")
        else:
            bench.edge.flow_lost(ends[1].flow, bench.now)
            bench.collect()
        again = ends[0].take("INVITE")
        assert again.uri == f"sip:101@{ends[0].hostport}"
        assert contacts(bench) == [f"sip:101@{ends[0].hostport}"]
        ends[0].answer(again, 200, "t")
        assert [m.status for m in bench.end(PBX).taken()] == [100, 200]

    def test_silence_over_udp_brings_the_other_in_seconds(self, bench: Bench) -> None:
        dead, good = bench.end("203.0.113.1", 5062), bench.end("203.0.113.1", 5063)
        flow(good, 1)
        bench.pass_time(1)
        flow(dead, 2)
        called(bench)
        bench.pass_time(6)
        good.take("INVITE")
        assert contacts(bench) == [f"sip:101@{good.hostport}"]

    def test_a_phone_that_is_busy_is_not_rung_again(self, bench: Bench, ends: list[End]) -> None:
        called(bench)
        ends[1].answer(ends[1].take("INVITE"), 486, "t")
        ends[0].nothing()
        assert [m.status for m in bench.end(PBX).taken()] == [100, 486]

    def test_a_message_goes_to_the_phone_once(self, bench: Bench, ends: list[End]) -> None:
        pbx = bench.end(PBX)
        pbx.send(pbx.request("MESSAGE", AOR, from_="sip:x@pbx.example", to=AOR, call_id="m"))
        ends[0].nothing()
        ends[1].answer(ends[1].take("MESSAGE"), 430, "t")
        ends[0].answer(ends[0].take("MESSAGE"), 200, "t")
        assert [m.status for m in pbx.taken()] == [200]

    def test_a_flow_is_renewed_from_another_address(self, bench: Bench, ends: list[End]) -> None:
        moved = bench.end("198.18.0.9", 40_009, "tcp")
        flow(moved, 2)
        assert contacts(bench) == [f"sip:101@{ends[0].hostport}", f"sip:101@{moved.hostport}"]

    def test_a_flow_is_taken_back_alone(self, bench: Bench, ends: list[End]) -> None:
        register(ends[1], f"<sip:101@{ends[1].hostport}>;{DEVICE};reg-id=2;expires=0")
        assert contacts(bench) == [f"sip:101@{ends[0].hostport}"]

    def test_the_device_without_flows_takes_their_place_and_gives_it_back(self, bench: Bench, ends: list[End]) -> None:
        register(ends[0], f"<sip:101@10.9.9.9>;{DEVICE}", Supported="path")
        assert contacts(bench) == ["sip:101@10.9.9.9"]
        flow(ends[0], 1)
        assert contacts(bench) == [f"sip:101@{ends[0].hostport}"]

    def test_a_device_counts_as_one_phone_with_a_limit_of_flows(self) -> None:
        acme = tenant("acme", extensions=("101",))
        bench = Bench(table(acme))
        for number in range(1, 7):
            assert flow(bench.end("203.0.113.1", 40_000 + number, "tcp"), number).status == 200
            bench.pass_time(1)
        assert contacts(bench) == [f"sip:101@203.0.113.1:{40_000 + number}" for number in (3, 4, 5, 6)]

    def test_a_restart_keeps_them(self, bench: Bench, ends: list[End]) -> None:
        again = Bench()
        again.now = bench.now
        again.edge.restore(bench.edge.take_changes(), again.now)
        assert contacts(again) == [f"sip:101@{end.hostport}" for end in ends]
        assert all(binding.outbound for binding in again.edge.registrar)


class TestWhatIsNoFlow:
    """RFC 5626 section 6: when reg-id counts."""

    @pytest.mark.parametrize("number", ["0", "-1", "x", "2147483648", "99999999999", ""])
    def test_a_reg_id_that_is_none_is_400(self, bench: Bench, number: str) -> None:
        phone = bench.end("203.0.113.1", 5062)
        assert register(phone, f"<sip:101@10.0.0.9>;{DEVICE};reg-id={number or chr(34) * 2}").status == 400
        assert contacts(bench) == []

    def test_without_an_instance_it_is_no_flow(self, bench: Bench) -> None:
        answer = register(bench.end("203.0.113.1", 5062), "<sip:101@10.0.0.9>;reg-id=1")
        assert (answer.status, answer.get("require"), answer.get("flow-timer")) == (200, None, None)

    def test_two_contacts_cannot_both_be_this_flow(self, bench: Bench) -> None:
        phone = bench.end("203.0.113.1", 5062)
        both = f"<sip:101@10.0.0.9>;{DEVICE};reg-id=1, <sip:101@10.0.0.8>;{DEVICE};reg-id=2"
        assert register(phone, both).status == 400
        assert contacts(bench) == []

    def test_a_proxy_that_keeps_no_flow_is_439(self, bench: Bench) -> None:
        phone = bench.end("203.0.113.1", 5062)
        far = {"Via": "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKfar"}
        contact = f"<sip:101@10.0.0.9>;{DEVICE};reg-id=1"
        assert register(phone, contact, **far).status == 439
        assert contacts(bench) == []
        assert register(phone, contact, Path="<sip:proxy.example;lr>", **far).status == 439
        assert register(phone, contact, Path="<sip:proxy.example;lr;ob>", **far).status == 200
        answer = register(phone, contact, **(far | {"Supported": "path"}))
        assert (answer.status, answer.get("require")) == (200, None)


class TestKeepAlive:
    """RFC 5626 section 4.4, and NATs."""

    @pytest.mark.parametrize("ping", [b"\r\n\r\n", STUN], ids=["CRLF", "STUN"])
    def test_a_flow_that_falls_silent_is_dead(self, bench: Bench, ping: bytes) -> None:
        phone = bench.end("203.0.113.1", 5062)
        assert flow(phone, 1).get("flow-timer") == "28"
        for _ in range(10):
            bench.pass_time(28)
            bench.edge.receive(ping, phone.flow, bench.now)
            bench.collect()
        assert len(contacts(bench)) == 1
        bench.pass_time(28 * SILENT_AFTER + GRACE + 1)
        assert contacts(bench) == []
        assert [e["detail"]["reason"] for e in bench.events("binding.removed")] == ["flow silent"]  # type: ignore[index]

    def test_a_flow_that_was_never_kept_alive_is_left_alone(self, bench: Bench) -> None:
        flow(bench.end("203.0.113.1", 5062), 1)
        bench.pass_time(599)
        assert len(contacts(bench)) == 1

    def test_keep_alives_of_strangers_are_not_remembered(self, bench: Bench) -> None:
        bench.edge.receive(b"\r\n\r\n", bench.end("203.0.113.99", 5062).flow, bench.now)
        assert bench.edge.keepalive._heard == {}

    def asking(self) -> Bench:
        return Bench(two_tenants(), Settings(tuple(Listener(t, *EDGE, *EDGE) for t in ("udp", "tcp")), nat_ping=30))

    def test_a_phone_behind_nat_is_asked_for_as_long_as_it_is_registered(self) -> None:
        bench = self.asking()
        phone = bench.end("203.0.113.1", 5062)
        register(phone, "<sip:101@10.0.0.9:5060>;expires=120")
        bench.pass_time(91)
        asked = phone.taken()
        assert [m.method for m in asked] == ["OPTIONS"] * len(asked)
        assert len(asked) in (3, 4)
        assert {m.uri for m in asked} == {"sip:101@10.0.0.9:5060"}
        assert [m.cseq.number for m in asked] == list(range(1, len(asked) + 1))
        assert len({m.call_id for m in asked}) == 1
        phone.answer(asked[-1], 200, "t")
        assert bench.edge.counters["keepalives.answered"] == 1
        assert bench.edge.counters["stray"] == 0
        bench.pass_time(400)
        phone.taken()
        bench.pass_time(400)
        phone.nothing()
        assert len(bench.edge.keepalive) == 0

    @pytest.mark.parametrize(
        ("transport", "contact"),
        [
            ("udp", "<sip:101@203.0.113.1:5062>"),
            ("tcp", "<sip:101@10.0.0.9:5060;transport=tcp>"),
            ("udp", f"<sip:101@10.0.0.9:5060>;{DEVICE};reg-id=1"),
        ],
        ids=["no NAT", "a stream", "keeps its flow alive itself"],
    )
    def test_who_is_not_asked(self, transport: str, contact: str) -> None:
        bench = self.asking()
        phone = bench.end("203.0.113.1", 5062, transport)
        register(phone, contact)
        bench.pass_time(120)
        phone.nothing()

    def test_the_questions_leave_no_trace_and_no_transaction(self) -> None:
        bench = self.asking()
        phone = bench.end("203.0.113.1", 5062)
        register(phone, "<sip:101@10.0.0.9:5060>")
        bench.pass_time(31)
        assert phone.taken()
        assert bench.edge.vitals()["client_transactions"] == 0
        tracer = bench.edge.tracer
        assert tracer is not None
        tracer.take(bench.now + 10, everything=True)
        assert not [leg for trace in tracer for leg in trace.legs if leg.startswith(UNTRACED)]

    def test_who_takes_such_a_call_id_is_traced_all_the_same(self) -> None:
        bench = self.asking()
        pbx = bench.end(PBX)
        pbx.send(pbx.request("INVITE", AOR, from_="sip:x@pbx.example", to=AOR, call_id=f"{UNTRACED}1"))
        tracer = bench.edge.tracer
        assert tracer is not None
        tracer.take(bench.now + 10, everything=True)
        assert tracer.find(f"{UNTRACED}1", None) is not None


class TestProxiesBeforeAPhone:
    """Path (RFC 3327)."""

    PATH = "<sip:near.example;lr>, <sip:far.example;lr;x=1>"

    def test_what_goes_to_the_phone_takes_it(self, bench: Bench) -> None:
        proxy, pbx = bench.end("203.0.113.7", 5060), bench.end(PBX)
        answer = register(proxy, "<sip:101@10.0.0.9>", Path=self.PATH)
        assert answer.split("path") == self.PATH.split(", ")
        called(bench)
        invite = proxy.take("INVITE")
        assert (invite.uri, invite.split("route")) == ("sip:101@10.0.0.9", self.PATH.split(", "))
        for method in ("MESSAGE", "SUBSCRIBE"):
            more = {"Event": "x", "Contact": f"<sip:{PBX}>"} if method == "SUBSCRIBE" else {}
            pbx.send(pbx.request(method, AOR, from_="sip:x@pbx.example", to=AOR, call_id=method, **more))
            assert proxy.take(method).split("route") == self.PATH.split(", ")

    @pytest.mark.parametrize("path", ["<sip:a", ", ".join(["<sip:a;lr>"] * 6), f"<sip:{'a' * 1100};lr>"])
    def test_what_cannot_be_kept_is_400(self, bench: Bench, path: str) -> None:
        assert register(bench.end("203.0.113.7"), "<sip:101@10.0.0.9>", Path=path).status == 400
        assert contacts(bench) == []


class TestAPhoneThatMoves:
    """One binding for a phone without instance that goes on with its Call-ID (RFC 3261 10.2.4)."""

    def test_its_new_address_takes_the_place_of_the_old(self, bench: Bench) -> None:
        phone, moved = bench.end("203.0.113.1", 5062), bench.end("198.18.0.9", 5062)
        register(phone, "<sip:101@10.0.0.9:5062>", call_id="same")
        for _ in range(5):
            moved.request("REGISTER", DOMAIN, from_=AOR, to=AOR, call_id="same")  # its CSeq goes on
        register(moved, "<sip:101@10.7.7.7:5062>", call_id="same")
        assert contacts(bench) == ["sip:101@10.7.7.7:5062"]
        called(bench)
        phone.nothing()
        moved.take("INVITE")

    def test_another_call_id_or_user_part_is_another_phone(self, bench: Bench) -> None:
        phone = bench.end("203.0.113.1", 5062)
        register(phone, "<sip:101@10.0.0.9>", call_id="same")
        register(phone, "<sip:101@10.0.0.8>", call_id="other")
        register(phone, "<sip:a-b@10.0.0.7>", call_id="same")
        assert len(contacts(bench)) == 3
