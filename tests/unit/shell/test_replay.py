"""Captured requests against a table: the core decides, and what differs from the captured answer is said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipd import replay
from sipd.requests import together
from tests.unit.core.bench import PBX, Bench, request_text, table, tenant, two_tenants, wire
from tests.unit.shell import captures
from tests.unit.shell.captures import frame, ip, udp

EDGE = ("192.0.2.1", 5060)
AT = 1_700_000_000.0
TABLE = two_tenants()


def request(method: str, uri: str, number: int, from_: str = "sip:1@pbx.example", **headers: str) -> bytes:
    text = request_text(
        method, uri, from_=f"<{from_}>;tag=f{number}", to=f"<{from_ if method == 'REGISTER' else uri}>",
        call_id=f"c{number}", cseq=1,
        via=f"SIP/2.0/UDP {PBX}:5060", branch=f"z9hG4bK{number}", headers={"Contact": f"<sip:{PBX}>", **headers},
    )  # fmt: skip
    return wire(text)


def answer(data: bytes, status: int) -> bytes:
    return f"SIP/2.0 {status} Answer\r\n".encode() + data.partition(b"\r\n")[2]


def capture(*sent: tuple[str, bytes, bool]) -> bytes:
    """(address of the other end, message, whether it goes to the edge)."""
    packets = []
    for number, (host, data, there) in enumerate(sent):
        ends = ((host, 5060), EDGE) if there else (EDGE, (host, 5060))
        packets.append((AT + number, frame(1, ip(ends[0][0], ends[1][0], 17, udp(*ends, data)))))
    return captures.pcap(packets)


def test_requests_of_a_pbx() -> None:
    good, bad, lost = (
        request("INVITE", f"sip:101@{d}", n) for n, d in enumerate(("acme.example", "nope", "x.example"))
    )
    data = capture((PBX, good, True), (PBX, answer(good, 200), False), (PBX, bad, True), (PBX, answer(bad, 404), False),
                   ("203.0.113.7", lost, True))  # fmt: skip
    report = replay.run(data, TABLE)
    assert [(one.code, one.rule, one.target, one.answered) for one in report.decided] == [
        (0, "user", "phones of 101", 200), (404, "unknown-domain", "", 404), (403, "unknown-source", "", 0)
    ]  # fmt: skip
    assert report.differing == 0
    assert report.decided[0].tenant == "acme"
    assert report.rules() == {"user": 1, "unknown-domain": 1, "unknown-source": 1}


@pytest.mark.parametrize(("status", "differs"), [(404, True), (403, True), (486, False), (200, False), (401, False)])
def test_what_differs(status: int, differs: bool) -> None:
    good = request("INVITE", "sip:101@acme.example", 1)
    (one,) = replay.run(capture((PBX, good, True), (PBX, answer(good, status), False)), TABLE).decided
    assert one.differs is differs


def test_an_accepted_call_that_is_refused_now_differs() -> None:
    good = request("INVITE", "sip:101@gone.example", 1)
    (one,) = replay.run(capture((PBX, good, True), (PBX, answer(good, 200), False)), TABLE).decided
    assert (one.code, one.differs) == (404, True)


def test_phones_are_who_they_say() -> None:
    me = "sip:101@acme.example"
    data = capture(
        ("203.0.113.5", request("REGISTER", "sip:acme.example", 1, me), True),
        ("203.0.113.5", request("INVITE", "sip:9000@acme.example", 2, me), True),
        ("203.0.113.5", request("INVITE", "sip:102@acme.example", 3, me), True),
        ("203.0.113.5", request("INVITE", "sip:102@acme.example", 4, "sip:199@acme.example"), True),
        ("203.0.113.5", request("SUBSCRIBE2", "sip:102@acme.example", 5, me), True),
    )
    decided = replay.run(data, TABLE).decided
    assert (decided[0].code, decided[1].rule) == (200, "default-connection")
    assert decided[1].target == "sip:9000@pbx.example over udp:198.51.100.10:5060"
    assert decided[2].rule == "user"
    assert decided[3].code == 401
    assert decided[4].code in (405, 501)


def test_limits_count_no_call_twice() -> None:
    one = tenant("acme")
    limited = table(replace(one, limits=replace(one.limits, calls=1)))
    data = capture(*((PBX, request("INVITE", "sip:101@acme.example", n), True) for n in range(5)))
    assert [one.code for one in replay.run(data, limited).decided] == [0] * 5


def test_only_to_the_edge_and_once() -> None:
    good = request("INVITE", "sip:101@acme.example", 1)
    data = capture((PBX, good, True), (PBX, good, True), (PBX, good, False))
    assert len(replay.run(data, TABLE, EDGE[0]).decided) == 1
    assert len(replay.run(data, TABLE).decided) == 2


def test_a_trace_is_a_capture() -> None:
    """Secrets are gone from it, and bodies may be shorter than they say."""
    bench = Bench(TABLE)
    phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
    phone.register()
    sdp = "v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abcabcabcabcabcabcabcabcabcabc\r\n"
    uri = "sip:101@acme.example"
    text = pbx.request("INVITE", uri, from_="sip:1@x", to=uri, call_id="c1", Contact=f"<sip:{PBX}>",
                       Content_Type="application/sdp")  # fmt: skip
    pbx.send(wire(text.replace("Content-Length: 0", f"Content-Length: {len(sdp)}")) + sdp.encode())
    assert bench.edge.tracer is not None
    docs = [together(trace, None, "sdp") for trace in bench.edge.tracer]
    report = replay.run(json.dumps(docs).encode(), TABLE)
    assert report.faults == []
    assert [(one.method, one.code, one.rule) for one in report.decided] == [
        ("REGISTER", 200, "answered"), ("REGISTER", 200, "answered"), ("INVITE", 0, "user")
    ]  # fmt: skip
    one = json.dumps(docs[-1]).encode()
    assert len(replay.run(one, TABLE).decided) == 1


def test_a_text_of_messages() -> None:
    good = request("INVITE", "sip:101@acme.example", 1).replace(b"\r\n", b"\n").decode()
    other = good.replace("c1", "c2")
    text = f"--- udp:{PBX}:5060\n{good}\n--- tcp:[2001:db8::1]:5060\n{other}\n--- nowhere\n{good}\nrubbish\n"
    report = replay.run(text.encode(), TABLE, now=AT)
    assert [(one.source, one.code) for one in report.decided] == [
        ("udp:198.51.100.10:5060", 0), ("tcp:[2001:db8::1]:5060", 403)
    ]  # fmt: skip
    assert len(report.faults) == 2
    assert replay.run(b"no file of ours", TABLE).faults[0].offset == 0


def test_it_is_printed() -> None:
    good = request("INVITE", "sip:101@acme.example", 1)
    report = replay.run(capture((PBX, good, True), (PBX, answer(good, 404), False)), TABLE)
    lines = list(replay.lines(report, explained=True))
    assert lines[0].startswith("! ")
    assert "then 404  now to phones of 101, by rule user, tenant acme" in lines[1]
    assert "domain" in lines[3]
    assert lines[-2] == "1 differ from the captured answer."
    assert json.loads(json.dumps(replay.as_dict(report)))["differing"] == 1


GOOD = capture((PBX, request("INVITE", "sip:101@acme.example", 1), True))


@settings(max_examples=60)
@given(
    st.sampled_from(
        [GOOD, b"--- udp:192.0.2.1:5060\n" + request("INVITE", "sip:101@acme.example", 1), b'[{"messages":[{}]}]']
    ),
    st.data(),
)
def test_broken_files_never_raise(whole: bytes, data: st.DataObject) -> None:
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    report = replay.run(bytes(broken), TABLE)
    assert all(line.isprintable() for line in replay.lines(report, explained=True))
