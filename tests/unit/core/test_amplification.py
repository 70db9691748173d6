"""Nobody uses the edge to send more to others than was sent to it: a UDP source may be forged (docs/limits.md)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipd.flow import Flow
from tests.unit.core.bench import PBX, Bench, two_tenants, wire

HOST = "198.51.100.99"
ACME, AOR = "sip:acme.example", "sip:101@acme.example"
STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"t" * 12
METHODS = ("REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "BYE", "CANCEL", "ACK", "NOTIFY", "REFER", "FROB")
URIS = (ACME, AOR, "sip:192.0.2.1", "sip:101@nowhere.example", "tel:+4930", "http://x")
HEADERS = ("", "Require: nothing, at-all\n", "Contact: <sip:a@b>\n", "Content-Length: nonsense\n", "Expires: 1\n",
           "Event: presence\n", "Min-SE: 9\nSession-Expires: 10\n", "Proxy-Require: x\n", "Max-Forwards: 0\n",
           'Authorization: Digest username="1", realm="acme.example", nonce="x", uri="x", response="x"\n')  # fmt: skip
numbers = itertools.count()


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something that a stranger may send, the shorter the better for it."""
    method, uri, call_id = draw(st.sampled_from(METHODS)), draw(st.sampled_from(URIS)), next(numbers)
    tag = draw(st.sampled_from(("", ";tag=t")))
    via = draw(st.sampled_from(("x", f"{HOST}:5060", "x;rport", f"{HOST};rport")))
    text = (
        f"{method} {uri} SIP/2.0\nVia:SIP/2.0/UDP {via};branch=z9hG4bK{call_id}\nFrom:<{AOR}>;tag=1\nTo:<{uri}>{tag}\n"
    )
    text += f"Call-ID:{call_id}\nCSeq:1 {method}\n" + draw(st.sampled_from(HEADERS))
    return wire(text + "\n")


anything = st.one_of(
    requests(), st.binary(max_size=60), st.sampled_from([STUN, b"\r\n\r\n", b"\0\0", b"SIP/2.0 200\r\n"])
)
"""Each may come several times, as retransmissions do, and time may pass behind it."""
steps = st.lists(st.tuples(anything, st.integers(1, 4), st.sampled_from([0.0, 0.0, 0.6, 5.0, 40.0])), max_size=25)


@given(steps)
@settings(max_examples=300, deadline=None)
def test_after_its_first_answer_a_stranger_gets_no_more_than_it_sent(told: list[tuple[bytes, int, float]]) -> None:
    bench = Bench(two_tenants())
    heard = 0
    for data, times, seconds in told:
        for _ in range(times):
            heard += len(data)
            bench.edge.receive(data, Flow("udp", HOST, 6666, 0), bench.now)
            bench.collect()
        bench.pass_time(seconds)
        answers = [len(sent) for sent, flow in bench.sent if flow.host == HOST]
        assert sum(answers[1:]) <= heard
    assert not bench.edge.faults
    assert all(flow.host in (HOST, PBX) for _, flow in bench.sent)


@given(st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_all_ports_of_a_stranger_are_one(spread: int, again: int) -> None:
    bench = Bench(two_tenants())
    heard = 0
    for number in range(spread):
        end = bench.end(HOST, 1000 + number)
        data = wire(end.request("OPTIONS", "sip:192.0.2.1", from_="sip:a@b", to="sip:a@b", call_id=f"o{number}"))
        for _ in range(1 + again):
            heard += len(data)
            end.send(data)
    assert sum([len(data) for data, _ in bench.sent][1:]) <= heard


def test_a_phone_that_registers_gets_all_its_answers_at_once() -> None:
    """REGISTER, the larger 401, REGISTER with credentials, 200: and then it is no stranger."""
    bench = Bench(two_tenants())
    phone = bench.end(HOST)
    phone.register()
    for number in range(5):
        phone.send(phone.request("OPTIONS", ACME, from_=AOR, to=AOR, call_id=f"o{number}"))
        assert phone.taken()[-1].get("allow")


def test_the_second_phone_behind_an_address_asks_twice_at_most() -> None:
    bench = Bench(two_tenants())
    first, second = bench.end(HOST, 5060), bench.end(HOST, 5061)
    first.send(first.request("REGISTER", ACME, from_=AOR, to=AOR, call_id="a"))
    first.take(401)
    text = second.request("REGISTER", ACME, from_=AOR, to=AOR, call_id="b", Contact="<sip:101@10.0.0.9:5062>")
    second.send(text)
    second.send(text)
    assert second.taken()[-1].status == 401


def test_what_only_helps_is_left_out_before_the_answer_is() -> None:
    bench = Bench(two_tenants())
    monitor = bench.end(HOST)
    answers = []
    for number in range(4):
        monitor.send(
            monitor.request(
                "OPTIONS", "sip:192.0.2.1", from_="sip:monitor@example.net", to="sip:192.0.2.1", call_id=f"o{number}",
                Contact="<sip:monitor@198.51.100.99:5060>", User_Agent="monitor",
            )
        )  # fmt: skip
        answers += monitor.taken()
    assert [answer.status for answer in answers] == [200] * 4
    assert answers[0].has("allow")


def test_over_a_stream_nothing_is_held_back() -> None:
    bench = Bench(two_tenants())
    end = bench.end(HOST, 5062, "tcp")
    for number in range(10):
        end.send(end.request("REGISTER", ACME, from_=AOR, to=AOR, call_id=f"r{number}"))
    assert [len(m.all("www-authenticate")) for m in end.taken()] == [2] * 10


@pytest.mark.parametrize("tag", ["", ";tag=none"])
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "SUBSCRIBE", "BYE", "NOTIFY", "FROB"])
@pytest.mark.parametrize("header", ["", "Require: x\n", "Route: <nonsense\n", "Contact: <nonsense\n", "Event: \x01\n"])
def test_nothing_is_kept_of_what_a_stranger_asked(method: str, tag: str, header: str) -> None:
    bench = Bench(two_tenants())
    text = (
        f"{method} {AOR} SIP/2.0\nVia:SIP/2.0/UDP {HOST};branch=z9hG4bKa\nFrom:<sip:a@b>;tag=1\nTo:<{AOR}>{tag}\n"
        f"Call-ID:a\nCSeq:1 {method}\n{header}\n"
    )
    bench.edge.receive(wire(text), Flow("udp", HOST, 5060, 0), bench.now)
    bench.collect()
    assert len(bench.sent) <= 1
    assert bench.edge.vitals()["server_transactions"] == 0
