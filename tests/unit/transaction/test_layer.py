"""How the layer finds the transaction of a message, and what it says by itself."""

from __future__ import annotations

import pytest

from sipd.flow import Flow
from sipd.message.scanner import scan
from sipd.timers import Timers
from sipd.transaction.layer import Layer, Timing, cancel_request
from tests.unit.transaction.ladder import TCP, UDP, Recorder, request, response

COOKIE_ONLY = {"Via": "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"}
RFC2543 = {"Via": "SIP/2.0/UDP 192.0.2.1:5060"}


class TestMatching:
    """17.2.3 and 17.1.3."""

    @pytest.mark.parametrize(
        "via",
        [
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKb",
            "SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bKa",
            "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKa",
        ],
    )
    def test_another_branch_or_sent_by_is_another_request(self, via: str) -> None:
        wire = Recorder()
        assert wire.receive(request()) == [">> INVITE"]
        assert wire.receive(request(Via=via)) == [">> INVITE"]

    def test_sent_by_does_not_care_for_case(self) -> None:
        wire = Recorder()
        wire.receive(request(Via="SIP/2.0/UDP a.Example;branch=z9hG4bKa"))
        assert wire.receive(request(Via="SIP/2.0/UDP A.example;branch=z9hG4bKa")) == []

    def test_phones_behind_different_nats_are_told_apart(self) -> None:
        wire = Recorder()
        via = "SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bK1"
        wire.receive(request("REGISTER", Via=via), UDP)
        assert wire.receive(request("REGISTER", Via=via), UDP._replace(host="203.0.113.9")) == [">> REGISTER"]

    def test_another_method_is_another_request(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"))
        assert wire.receive(request("MESSAGE")) == [">> MESSAGE"]

    def test_another_cseq_is_another_request(self) -> None:
        """aiosip and others keep the branch when they send a request once more with credentials."""
        wire = Recorder()
        wire.receive(request("REGISTER", CSeq="1 REGISTER"))
        assert wire.receive(request("REGISTER", CSeq="2 REGISTER")) == [">> REGISTER"]
        assert wire.receive(request("REGISTER", CSeq="2 REGISTER")) == []

    @pytest.mark.parametrize("changes", [RFC2543, COOKIE_ONLY])
    def test_rfc2543(self, changes: dict[str, str]) -> None:
        wire = Recorder()
        assert wire.receive(request(**changes)) == [">> INVITE"]
        assert wire.receive(request(**changes)) == []
        assert wire.receive(request(**changes, **{"Call-ID": "call2"})) == [">> INVITE"]
        assert wire.receive(request(**changes, CSeq="2 INVITE")) == [">> INVITE"]
        assert wire.receive(request(**changes, From="<sip:a@b>;tag=x")) == [">> INVITE"]
        wire.respond(486, wire.requests[0])
        assert wire.receive(request("ACK", **changes, To="<sip:101@acme.example>;tag=to1")) == []
        assert wire.requests[0].state == "confirmed"

    def test_ack_of_a_2xx_has_no_transaction(self) -> None:
        wire = Recorder()
        assert wire.receive(request("ACK")) == [">> ACK"]
        assert len(wire.layer) == 0

    def test_response_with_several_vias_is_stray(self) -> None:
        """8.1.3.3: it was meant for another, as in `bcast` of RFC 4475."""
        wire = Recorder()
        wire.request("OPTIONS")
        wire.take()
        answer = response(200, "OPTIONS")
        second = answer.replace(b"\r\nFrom", b", SIP/2.0/UDP 255.255.255.255\r\nFrom", 1)
        assert wire.receive(second) == [">> stray 200"]
        assert wire.receive(answer) == [">> 200"]

    def test_response_of_another_method_or_branch_is_stray(self) -> None:
        wire = Recorder()
        wire.request()
        wire.take()
        assert wire.receive(response(200, "CANCEL")) == [">> stray 200"]
        assert wire.receive(response(200, branch="z9hG4bKb")) == [">> stray 200"]


class TestWhereAnswersGo:
    """RFC 3261 18.2.2 and RFC 3581 4."""

    @pytest.mark.parametrize(
        ("via", "port"),
        [
            ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport", 61000),
            ("SIP/2.0/UDP 203.0.113.7:5070;branch=z9hG4bKa", 5070),
            ("SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKa", 5060),
            ("SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKa;maddr=198.51.100.1", 5060),
            ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa", 61000),  # behind a NAT that it does not know of
        ],
    )
    def test_udp(self, via: str, port: int) -> None:
        wire = Recorder()
        source = Flow("udp", "203.0.113.7", 61000, 3)
        wire.receive(request(Via=via), source)
        assert wire.requests[0].source == source
        assert wire.requests[0].flow == Flow("udp", "203.0.113.7", port, 3)

    def test_stream(self) -> None:
        wire = Recorder()
        wire.receive(request(Via="SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKa"), TCP)
        assert wire.requests[0].flow == TCP


class TestAck:
    def test_of_a_refusal(self) -> None:
        """17.1.1.3: Request-URI, top Via, From, Call-ID and Route of the INVITE, To of the response."""
        wire = Recorder()
        data = request(Route="<sip:p1;lr>, <sip:p2;lr>", Contact="<sip:x@y>", Max_Forwards="7")
        wire.layer.request(data, "INVITE", "z9hG4bKa", UDP, None, 0.0)
        wire.receive(response(486, tag="theirs"))
        ack = scan(wire.sent[-1][0])
        assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", "sip:101@acme.example", "1 ACK")
        assert [via.branch for via in ack.vias] == ["z9hG4bKa"]
        assert (ack.from_.tag, ack.to.tag, ack.call_id, ack.max_forwards) == ("from1", "theirs", "call1", 7)
        assert ack.split("route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
        assert (ack.contacts, ack.body) == ([], b"")


class TestCancel:
    def test_of_a_known_invite(self) -> None:
        wire = Recorder()
        wire.receive(request())
        wire.respond(180)
        assert wire.receive(request("CANCEL")) == ["<< 200", ">> CANCEL"]
        assert scan(wire.sent[-1][0]).to.tag == "to1", "the tag of the answers to the INVITE (9.2)"
        assert wire.receive(request("CANCEL")) == ["<< 200"]
        assert wire.respond(487) == ["<< 487"]

    def test_after_the_final_answer_it_is_still_answered(self) -> None:
        wire = Recorder()
        wire.receive(request())
        wire.respond(200)
        assert wire.receive(request("CANCEL")) == ["<< 200", ">> CANCEL"]

    def test_of_nothing(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS"))
        assert wire.receive(request("CANCEL")) == ["<< 481"]
        assert scan(wire.sent[-1][0]).to.tag
        assert wire.receive(request("CANCEL")) == ["<< 481"]

    def test_rfc2543(self) -> None:
        wire = Recorder()
        wire.receive(request(**RFC2543))
        assert wire.receive(request("CANCEL", **RFC2543)) == ["<< 200", ">> CANCEL"]

    def test_ours(self) -> None:
        """9.1"""
        wire = Recorder()
        tx = wire.layer.request(request(Route="<sip:p;lr>"), "INVITE", "z9hG4bKa", UDP, None, 0.0)
        cancel = scan(cancel_request(tx))
        assert (cancel.method, cancel.uri, str(cancel.cseq)) == ("CANCEL", "sip:101@acme.example", "1 CANCEL")
        assert (cancel.via.branch, cancel.to.tag, cancel.from_.tag) == ("z9hG4bKa", None, "from1")
        assert cancel.get("route") == "<sip:p;lr>"
        wire.receive(response(180))
        wire.layer.request(cancel.data, "CANCEL", tx.branch, tx.flow, None, 0.0)
        assert wire.take() == ["<< CANCEL"]
        assert wire.receive(response(200, "CANCEL")) == [">> 200"]
        assert wire.receive(response(487)) == ["<< ACK", ">> 487"]

    def test_ours_waits_for_a_provisional_answer_and_is_sent_once(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.layer.cancel(tx, [("Reason", "SIP;cause=200")], wire.now)
        assert wire.take() == ["<< INVITE"]
        assert wire.receive(response(100)) == [">> 100", "<< CANCEL"]
        assert scan(wire.sent[-1][0]).get("reason") == "SIP;cause=200"
        assert wire.receive(response(180)) == [">> 180"]
        assert wire.receive(response(200, "CANCEL")) == [">> 200"]
        assert wire.receive(response(487)) == ["<< ACK", ">> 487"]
        wire.pass_time(100)
        assert len(wire.layer) == len(wire.timers) == 0

    def test_ours_is_not_sent_after_the_final_answer(self) -> None:
        for status in (200, 486):
            wire = Recorder()
            tx = wire.request()
            wire.layer.cancel(tx, [], wire.now)
            wire.receive(response(status))
            wire.layer.cancel(tx, [], wire.now)
            assert "<< CANCEL" not in wire.take()

    def test_the_user_is_told_when_no_final_answer_comes(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(180))
        wire.layer.cancel(tx, [], wire.now)
        wire.receive(response(200, "CANCEL"))
        assert wire.pass_time(100) == ["32 timeout"]
        assert len(wire.layer) == len(wire.timers) == 0

    def test_an_answer_that_comes_in_spite_of_it_is_kept_as_ever(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.receive(response(180))
        wire.layer.cancel(tx, [], wire.now)
        wire.receive(response(200, "CANCEL"))
        wire.pass_time(31)
        assert wire.receive(response(200)) == [">> 200"]
        wire.pass_time(60)
        assert wire.receive(response(200)) == [">> 200"]

    def test_destroy(self) -> None:
        wire = Recorder()
        tx = wire.request()
        wire.layer.destroy(tx)
        assert wire.take() == ["<< INVITE"]
        assert wire.pass_time(100) == []
        assert tx.terminated
        assert len(wire.layer) == 0


class TestMerged:
    """8.2.2.2"""

    def test_same_request_by_another_path(self) -> None:
        wire = Recorder()
        wire.receive(request(branch="z9hG4bKa"))
        wire.receive(request(branch="z9hG4bKb"))
        first, second = wire.requests
        assert not wire.layer.merged(first.request)
        assert wire.layer.merged(second.request)

    def test_other_requests(self) -> None:
        wire = Recorder()
        wire.receive(request())
        for n, changes in enumerate(
            ({"CSeq": "2 INVITE"}, {"Call-ID": "c2"}, {"From": "<sip:a@b>;tag=2"}, {"To": "<sip:a@b>;tag=2"})
        ):
            wire.receive(request(branch=f"z9hG4bK{n}x", **changes))
            assert not wire.layer.merged(wire.requests[-1].request), changes

    def test_after_the_first_has_ended(self) -> None:
        wire = Recorder()
        wire.receive(request("OPTIONS", branch="z9hG4bKa"))
        wire.respond(200)
        wire.pass_time(32)
        wire.receive(request("OPTIONS", branch="z9hG4bKb"))
        assert not wire.layer.merged(wire.requests[-1].request)


class TestStreams:
    def test_the_end_of_one_concerns_only_its_own(self) -> None:
        wire = Recorder()
        other = TCP._replace(port=40001)
        wire.request("OPTIONS", TCP, "z9hG4bK1")
        wire.request("OPTIONS", other, "z9hG4bK2")
        wire.request("OPTIONS", UDP, "z9hG4bK3")
        wire.take()
        wire.layer.flow_lost(TCP, wire.now)
        assert wire.take() == ["transport error"]
        assert wire.layer.clients == 2
        wire.layer.flow_lost(TCP, wire.now)
        assert wire.take() == []


def test_above_the_limit_requests_are_refused_without_a_transaction() -> None:
    wire = Recorder()
    wire.layer = Layer(wire, wire._send, Timers(), limit=1)
    assert wire.receive(request(branch="z9hG4bKa")) == [">> INVITE"]
    assert wire.receive(request(branch="z9hG4bKb")) == ["<< 503"]
    assert scan(wire.sent[-1][0]).get("retry-after")
    assert wire.receive(request("ACK", branch="z9hG4bKb")) == [">> ACK"]
    assert wire.layer.servers == 1


def test_timing_can_be_set() -> None:
    wire = Recorder()
    wire.layer = Layer(wire, wire._send, wire.timers, Timing(t1=0.1, t2=0.2, t4=1))
    wire.request("OPTIONS")
    wire.take()
    assert wire.pass_time(1) == [f"{time} << OPTIONS" for time in ("0.1", "0.3", "0.5", "0.7", "0.9")]
    assert wire.receive(response(200, "OPTIONS")) == [">> 200"]
    wire.pass_time(2.1)
    assert len(wire.layer) == 0
