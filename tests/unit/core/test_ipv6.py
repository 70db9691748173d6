"""IPv6 where it goes wrong: the rules of RFC 5118 (sections 4.1 to 4.10), each as messages of our own."""

from __future__ import annotations

import pytest

from sipd.flow import Flow, Listener
from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.message.uri import Uri
from sipd.message.via import Via
from sipd.settings import Settings
from tests.unit.core.bench import Bench, End, table, tenant, wire

EDGE = "2001:db8::10"
PBX = "2001:db8::20"
PHONE = Flow("udp", "2001:db8::9:1", 5070, 0)
SDP = (
    "v=0\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\ns=Live\nc=IN IP6 2001:db8::20\nt=0 0\n"
    "m=audio 6000 RTP/AVP 2\na=rtcp:53020 IN IP4 192.0.2.20\n"
)


def bench() -> Bench:
    listeners = (
        Listener("udp", EDGE, 5060, EDGE, 5060), Listener("tcp", EDGE, 5060, EDGE, 5060),
        Listener("udp", "192.0.2.1", 5060, "192.0.2.1", 5060),
    )  # fmt: skip
    acme = tenant("acme", of_connection={"host": PBX, "sources": (PBX,)})
    return Bench(table(acme), Settings(listeners))


def register(to: Bench, *, uri: str = "sip:acme.example", via: str = "[2001:db8::9:1]:5070;branch=z9hG4bKr") -> bytes:
    to.edge.receive(
        wire(
            f"REGISTER {uri} SIP/2.0\nVia: SIP/2.0/UDP {via}\nMax-Forwards: 70\nFrom: <sip:101@acme.example>;tag=1\n"
            "To: <sip:101@acme.example>\nCall-ID: r\nCSeq: 1 REGISTER\n"
            'Contact: "Caller" <sip:101@[2001:db8::9:1]:5070>\nContent-Length: 0\n\n'
        ),
        PHONE,
        to.now,
    )
    to.collect()
    (data, flow), *others = to.sent
    assert flow[:3] == PHONE[:3]
    assert not others
    return data


class TestReferences:
    """4.1 to 4.4: brackets make an address a reference; what is after them is the port."""

    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("sip:[2001:db8::10]", "2001:db8::10", None),
            ("sip:101@[2001:db8::10]", "2001:db8::10", None),
            ("sip:[2001:db8::10:5070]", "2001:db8::10:5070", None),  # 4.3: the last group, no port
            ("sip:[2001:db8::10]:5070", "2001:db8::10", 5070),  # 4.4
            ("sip:[2001:DB8::A]", "2001:db8::a", None),
            ("sip:[::]", "::", None),
            ("sip:[::1];transport=tcp", "::1", None),
            ("sip:x@[::ffff:192.0.2.10]:5060", "::ffff:192.0.2.10", 5060),  # 4.10
            ("sip:[1:2:3:4:5:6:7:8]", "1:2:3:4:5:6:7:8", None),
        ],
    )
    def test_read(self, text: str, host: str, port: int | None) -> None:
        uri = Uri.parse(text)
        assert (uri.host, uri.port) == (host, port)
        assert Uri.parse(str(uri)) == uri
        via = Via.parse(text.replace("101@", "").replace("x@", "").replace("sip:", "SIP/2.0/TCP "))
        assert (via.host.lower(), via.port) == (host, port)

    @pytest.mark.parametrize(
        "host",
        [
            "2001:db8::10",  # 4.2: without brackets
            "[2001:db8:::10]", "[2001:db8:::192.0.2.1]",  # 4.10: what RFC 3261's ABNF lets in by mistake (RFC 3986)
            "[2001:db8::1::2]", "[1:2:3]", "[1:2:3:4:5:6:7:8:9]", "[12345::1]", "[::ffff:192.0.2.300]", "[::192.0.2]",
            "[]", "[:]", "[::1", "::1]", "[[::1]]", "[::1]x", "[::1]:", "[::1]:99999", "[192.0.2.1]", "[example.com]",
            "[fe80::1%25eth0]", "[.]", "[::1.]",
        ],
    )  # fmt: skip
    def test_refused(self, host: str) -> None:
        for parse, text in (
            (Uri.parse, f"sip:101@{host}"),
            (Uri.parse, f"sip:{host}"),
            (Via.parse, f"SIP/2.0/UDP {host}"),
        ):
            with pytest.raises(BadMessage):
                parse(text)

    def test_400_to_a_request_without_brackets(self) -> None:
        assert register(bench(), uri="sip:2001:db8::10").startswith(b"SIP/2.0 400 ")

    def test_own_address_as_request_uri(self) -> None:
        """4.1 is understood; it names no tenant, To does."""
        assert register(bench(), uri=f"sip:[{EDGE}]").startswith(b"SIP/2.0 401 ")


class TestReceived:
    """4.5: `received` comes with and without brackets; we write it as the ABNF has it, without."""

    @pytest.mark.parametrize("received", ["[2001:db8::9:255]", "2001:db8::9:255"])
    def test_both_are_read(self, received: str) -> None:
        via = Via.parse(f"SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3-111")
        assert via.params["received"] == received

    @pytest.mark.parametrize("received", ["", ";received=[2001:db8::9:255]", ";received=2001:db8::9:255"])
    def test_ours_takes_the_place_of_what_the_sender_says(self, received: str) -> None:
        answer = scan(register(bench(), via=f"[2001:db8::77]:5070{received};branch=z9hG4bKr"))
        assert answer.via.params["received"] == PHONE.host
        assert b"received=2001:db8::9:1" in answer.data

    def test_same_host_needs_none(self) -> None:
        assert "received" not in scan(register(bench())).via.params

    def test_rport(self) -> None:
        answer = scan(register(bench(), via="[2001:db8::9:1]:1;rport;branch=z9hG4bKr"))
        assert (answer.via.params["received"], answer.via.params["rport"]) == (PHONE.host, "5070")


class Calling:
    """A PBX with an IPv6 address calls a phone with one."""

    def __init__(self) -> None:
        self.bench = bench()
        self.pbx, self.phone = End(self.bench, Flow("udp", PBX, 5060, 0)), End(self.bench, PHONE)
        self.phone.register(Contact="<sip:101@[2001:db8::9:1]:5070>;expires=600")

    def invite(self, *more_vias: str) -> Message:
        vias = "".join(f"Via: {via}\n" for via in (f"SIP/2.0/UDP [{PBX}];branch=z9hG4bKi", *more_vias))
        self.pbx.send(
            f"INVITE sip:101@acme.example SIP/2.0\n{vias}Max-Forwards: 70\nFrom: <sip:x@[{PBX}]>;tag=1\n"
            f"To: <sip:101@acme.example>\nCall-ID: i@[{PBX}]\nCSeq: 1 INVITE\nContact: <sip:x@[{PBX}]:5060>\n"
            f"Content-Type: application/sdp\nContent-Length: {len(SDP)}\n\n{SDP}"
        )
        self.pbx.take(100)
        return self.phone.take("INVITE")


def test_a_call_over_ipv6() -> None:
    """4.7, 4.9: bodies with IPv6 and with both kinds of address pass untouched; our own addresses have brackets."""
    calling = Calling()
    invite = calling.invite()
    assert invite.uri == "sip:101@[2001:db8::9:1]:5070"
    assert invite.body == SDP.encode()
    assert (invite.via.host, invite.contacts[0].uri.host) == (EDGE, EDGE)
    assert b"[2001:db8::10]:5060" in invite.lines("via")
    assert invite.from_.uri.host == PBX
    calling.phone.answer(invite, 200, "p", Contact="<sip:101@[2001:db8::9:1]:5070>")
    ok = calling.pbx.take(200)
    assert ok.contacts[0].uri.host == EDGE
    calling.pbx.send(calling.pbx.within(ok, "ACK", 1))
    assert calling.phone.take("ACK").uri == "sip:101@[2001:db8::9:1]:5070"
    calling.phone.send(calling.phone.back(invite, "p", "BYE", 1))
    calling.phone.take(200)
    bye = calling.pbx.take("BYE")
    assert bye.uri == f"sip:x@[{PBX}]:5060"
    check(bye)


def test_vias_of_both_kinds() -> None:
    """4.8: an answer goes back through all of them, as they were."""
    calling = Calling()
    others = ("SIP/2.0/UDP 192.0.2.3:5060;branch=z9hG4bK1", "SIP/2.0/TCP [::ffff:192.0.2.4]:5062;branch=z9hG4bK2")
    calling.phone.answer(calling.invite(*others), 486, "p")
    assert [(via.host, via.port) for via in calling.pbx.take(486).vias] == [
        (PBX, None), ("192.0.2.3", 5060), ("::ffff:192.0.2.4", 5062),
    ]  # fmt: skip


def test_an_ipv6_contact_over_ipv4_and_the_other_way() -> None:
    """4.8: Contact of one kind, packets of the other: a phone is reached where it sends from (NAT64)."""
    for host, listener, contact in (("192.0.2.50", 2, "[2001:db8::50]"), ("2001:db8::50", 0, "192.0.2.50")):
        made = bench()
        phone = End(made, Flow("udp", host, 5070, listener))
        phone.register(Contact=f"<sip:101@{contact}>;expires=600")
        End(made, Flow("udp", PBX, 5060, 0)).send(
            f"INVITE sip:101@acme.example SIP/2.0\nVia: SIP/2.0/UDP [{PBX}];branch=z9hG4bKi\nMax-Forwards: 70\n"
            "From: <sip:x@x>;tag=1\nTo: <sip:101@acme.example>\nCall-ID: i\nCSeq: 1 INVITE\nContact: <sip:x@x>\n\n"
        )
        got = phone.take("INVITE")
        assert got.uri == f"sip:101@{contact}"
        assert (":" in got.via.host) == (":" in host)
