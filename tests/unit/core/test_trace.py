"""What is kept of calls and other requests: which messages, why it went so, within which bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sipd import ladder
from sipd.flow import Flow, Listener
from sipd.requests import for_tenant, together
from sipd.settings import Settings
from sipd.trace import Trace, TraceLimits, Tracer
from tests.unit.core.bench import EDGE, PBX, Bench, End, credentials, table, tenant, two_tenants

CALLER = "sip:+4930@pbx.example"


def tracer(bench: Bench) -> Tracer:
    assert bench.edge.tracer is not None
    return bench.edge.tracer


def found(bench: Bench, name: str) -> Trace:
    trace = tracer(bench).find(name)
    assert trace is not None
    return trace


def titles(trace: Trace) -> list[str]:
    """`in INVITE`, `out 180 Reason`, with the leg."""
    return [f"{m.leg} {m.way} {ladder.title(m.data.decode())}" for m in trace.messages]


def started(bench: Bench, call_id: str = "c1", dialled: str = "101") -> tuple[End, End]:
    phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
    phone.register()
    invite(pbx, call_id, dialled)
    return phone, pbx


def invite(pbx: End, call_id: str, dialled: str = "101", domain: str = "acme.example") -> None:
    uri = f"sip:{dialled}@{domain}"
    headers = {"Contact": f"<sip:{PBX}>"}
    pbx.send(pbx.request("INVITE", uri, from_=CALLER, to=uri, call_id=call_id, **headers))


def answered(bench: Bench) -> tuple[End, End]:
    phone, pbx = started(bench)
    bench.now += 0.25
    there = phone.take("INVITE")
    phone.answer(there, 180, "t")
    bench.now += 2
    phone.answer(there, 200, "t")
    pbx.take(100), pbx.take(180)
    pbx.send(pbx.within(pbx.take(200), "ACK", 1))
    bench.now += 10
    phone.send(phone.back(there, "t", "BYE", 1))
    bye = pbx.take("BYE")
    pbx.answer(bye, 200)
    return phone, pbx


GOLDEN = """\
call in  4b227777d4dd1fc61c6f884f
  from sip:+4930@pbx.example  to sip:101@acme.example
  tenant acme, user acme-101, connection acme-pbx
  TIME  200 Normal Clearing, ended by callee
  rang after 0.250 s, answered after 2.250 s, talk 10.000 s, in all 12.250 s
  leg 0: Call-ID c1
  leg 1: Call-ID ef2d127de37b942baad06145e54b0c61

    0.000  yes  source            198.51.100.10 over udp belongs to acme/acme-
                                  pbx (mode on), globex/globex-pbx (mode on)
    0.000  yes  domain            acme.example is acme's, connected from this
                                  source
    0.000  yes  user              '101' leads to 101
    0.000  yes  decision          rule user
    0.000  yes  ring              phones of user 101: 1, parallel
    0.000  yes  leg               INVITE to sip:101@10.0.0.9:5062

           198.51.100.10:5060     sipd                   203.0.113.1:5062
    0.000  |--INVITE------------->|                      |
    0.000  |<-100 Trying----------|                      |
    0.000  |                      |--INVITE------------->|
    0.250  |                      |<-180 Reason----------|
    0.250  |<-180 Reason----------|                      |
    2.250  |                      |<-200 Reason----------|
    2.250  |<-200 Reason----------|                      |
    2.250  |--ACK---------------->|                      |
    2.250  |                      |--ACK---------------->|
   12.250  |                      |<-BYE-----------------|
   12.250  |                      |--200 OK (BYE)------->|
   12.250  |<-BYE-----------------|                      |
   12.250  |--200 Reason (BYE)--->|                      |"""


def test_a_call_as_a_ladder() -> None:
    bench = Bench(two_tenants())
    answered(bench)
    doc = together(found(bench, "c1"), None, "sdp")
    assert doc is not None
    drawn = "\n".join(line.rstrip() for line in ladder.lines(doc, 80))
    assert drawn.replace(ladder.moment(doc["since"]), "TIME") == GOLDEN


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_ladder_fits_whatever_the_number_of_its_ends(width: int) -> None:
    bench = Bench(two_tenants())
    for number in range(9):
        bench.end(f"203.0.113.{number}", 5062).register(User_Agent=f"phone {number}")
    invite(bench.end(PBX), "c1")
    doc = together(found(bench, "c1"), None, "sdp")
    assert doc is not None
    assert all(len(line.rstrip()) <= width + 1 for line in ladder.Ladder(doc, width).lines())


def test_no_foreign_byte_moves_the_cursor() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    uri = "sip:101@acme.example"
    text = pbx.request("INVITE", uri, from_=CALLER, to=uri, call_id="c\x1b[2Jx", Subject="\x1b[31m\u202ered\x07")
    pbx.send(text)
    pbx.send(b"\x1b[2J \x07 SIP/2.0\r\nVia: x\r\n\r\n")
    for trace in tracer(bench):
        doc = together(trace, None, "all")
        assert doc is not None
        assert all(line.isprintable() for line in ladder.lines(doc, 100, full=True))


def test_a_refused_request_has_its_rule_and_steps() -> None:
    bench = Bench(two_tenants())
    invite(bench.end(PBX), "c1", domain="nobody.example")
    trace = found(bench, "c1")
    assert (trace.kind, trace.code, trace.rule) == ("request", 404, "unknown-domain")
    assert [(step["rule"], step["passed"]) for step in trace.steps] == [
        ("source", True), ("domain", False), ("unknown-domain", False)
    ]  # fmt: skip
    assert titles(trace) == ["0 in INVITE", "0 out 404 Not Found"]


def test_a_challenge_and_what_follows_are_one_call() -> None:
    bench = Bench(two_tenants())
    phone = bench.end("203.0.113.1", 5062)
    phone.register()
    phone.call("9000")
    trace = found(bench, "call-101-9000")
    assert (trace.kind, trace.direction, trace.user) == ("call", "out", "acme-101")
    assert titles(trace)[:5] == [
        "0 in INVITE", "0 out 401 Unauthorized", "0 in ACK", "0 in INVITE", "0 out 100 Trying"
    ]  # fmt: skip
    assert ("decision", "rule default-connection") in [(s["rule"], s["sentence"]) for s in trace.steps]
    assert trace.about()["legs"] == ["call-101-9000", trace.legs[1]]


def test_registrations_are_rings() -> None:
    bench = Bench(two_tenants(strategy="on_behalf"))
    phone = bench.end("203.0.113.1", 5062)
    for _ in range(10):
        phone.register()
    bench.pass_time(5)
    pbx = bench.end(PBX)
    sent = next(m for m in pbx.taken() if m.method == "REGISTER" and "acme.example" in m.contacts[0].uri_text)
    pbx.answer(sent, 403)
    ours = found(bench, "reg-203.0.113.1:5062")
    assert (ours.kind, ours.tenant, ours.user, ours.code) == ("registration", "acme", "acme-101", 200)
    assert len(ours.messages) == TraceLimits().ring
    theirs = found(bench, sent.call_id)
    assert (theirs.kind, theirs.tenant, theirs.connection, theirs.code) == ("upstream", "acme", "acme-pbx", 403)
    assert theirs.steps[-1]["rule"] == "refused"


def test_what_cannot_be_read_is_kept_by_its_source() -> None:
    bench = Bench(two_tenants())
    bench.end(PBX).send(b"nonsense\r\n\r\n")
    trace = found(bench, f"unreadable from udp:{PBX}:5060")
    assert trace.kind == "request"
    assert trace.messages[0].data == b"nonsense\r\n\r\n"


def test_the_same_call_id_on_two_calls_shows_the_request_in_both() -> None:
    """A proxy as PBX sends our own call back to us."""
    bench = Bench(two_tenants())
    phone, pbx = started(bench)
    phone.take("INVITE")
    phone.call("102")
    out = next(m for m in pbx.taken() if m.method == "INVITE")
    invite(pbx, out.call_id, "101")
    second = found(bench, out.call_id)
    assert second.kind == "call"
    assert titles(second)[0] == "0 in INVITE"
    assert [step["rule"] for step in second.steps][:3] == ["source", "domain", "user"]
    first = found(bench, "call-101-102")
    assert second is not first


def test_limits_of_a_call() -> None:
    limits = TraceLimits(messages=10, head=4, trace_bytes=100_000)
    trace = filled(limits, 50)
    assert [m.no for m in trace.messages] == [0, 1, 2, 3, 44, 45, 46, 47, 48, 49]
    assert trace.dropped == 40
    small = filled(replace(limits, trace_bytes=300), 50)
    assert small.size <= 300
    assert small.messages[-1].no == 49


def filled(limits: TraceLimits, count: int) -> Trace:
    one = Tracer(limits=limits)
    for number in range(count):
        one.received(message("c1", number), Flow("udp", PBX, 5060, 0), float(number), "c1", [])
    trace = one.find("c1")
    assert trace is not None
    return trace


def message(call_id: str, number: int) -> bytes:
    return f"INFO sip:a SIP/2.0\r\nCall-ID: {call_id}\r\nCSeq: {number} INFO\r\n\r\n".encode()


def test_limits_of_memory() -> None:
    limits = TraceLimits(notes=50, total_bytes=5_000, others=30, calls=30)
    one = Tracer(limits=limits)
    for number in range(1000):
        one.received(message(f"c{number}", 1), Flow("udp", PBX, 5060, 0), float(number), f"c{number}", [])
    one.sort()
    assert len(one) <= 30
    assert one.held <= 5_000
    assert one.find("c999") is not None
    assert one.find("c1") is None
    assert one.counters["trace.evicted"] >= 970
    assert len(one._legs) <= 30


def test_a_message_is_given_to_the_store_once() -> None:
    bench = Bench(two_tenants())
    started(bench)
    assert tracer(bench).take(bench.now) == []  # it has not settled
    batches = [b for b in tracer(bench).take(bench.now + 2) if b.about["kind"] == "call"]
    assert [m.no for b in batches for m in b.messages] == [0, 1, 2]
    assert tracer(bench).take(bench.now + 10) == []
    bench.pass_time(1)  # the INVITE is sent again
    batches = tracer(bench).take(bench.now + 2)
    assert [m.no for b in batches for m in b.messages] == [3]
    assert batches[0].steps == []


def test_sampling_keeps_calls_whole_or_not_at_all() -> None:
    listeners = tuple(Listener(t, *EDGE, *EDGE) for t in ("udp", "tcp"))
    bench = Bench(two_tenants(), Settings(listeners, trace_sample=0.5))
    phone, pbx = bench.end("203.0.113.1", 5062), bench.end(PBX)
    phone.register()
    for number in range(60):
        invite(pbx, f"call{number}")
    calls = [t for t in tracer(bench) if t.kind == "call"]
    assert 10 < len(calls) < 50
    assert all(len(t.legs) == 2 for t in calls)
    assert not [t for t in tracer(bench) if t.kind == "request"]


def test_off_is_off() -> None:
    bench = Bench(two_tenants(), Settings(tuple(Listener(t, *EDGE, *EDGE) for t in ("udp", "tcp")), trace=False))
    answered(bench)
    assert bench.edge.tracer is None
    assert bench.edge.vitals()["traces"] == 0


def test_a_limit_and_a_forward_are_steps() -> None:
    routing = table(tenant("acme"))
    first = routing.tenants[0]
    users = (replace(first.users[0], forward_always="102"), first.users[1])
    bench = Bench(replace(routing, tenants=(replace(first, users=users),)))
    invite(bench.end(PBX), "c1")
    steps: list[dict[str, Any]] = found(bench, "c1").steps
    assert ("forward", "101 forwards to 102: unconditional") in [(s["rule"], s["sentence"]) for s in steps]
    assert found(bench, "c1").rule == "no-binding"


def test_hang_up_ends_both_legs_and_only_the_tenants_own() -> None:
    bench = Bench(two_tenants())
    phone, pbx = started(bench)
    there = phone.take("INVITE")
    phone.answer(there, 200, "t")
    pbx.take(100)
    pbx.send(pbx.within(pbx.take(200), "ACK", 1))
    phone.take("ACK")
    (call,) = bench.edge.calls(None, bench.now)
    assert bench.edge.hang_up(call["id"], "globex", 480, "x", bench.now) == ""
    assert bench.edge.hang_up("c1", "acme", 480, "Over", bench.now) == call["id"]
    bench.collect()
    for end in (phone, pbx):
        assert end.take("BYE").get("reason") == 'SIP;cause=480;text="Over"'
    (record,) = bench.events("call.ended")
    assert record["detail"]["by"] == "operator"  # type: ignore[index]
    assert bench.edge.hang_up(call["id"], None, 480, "Over", bench.now) == ""


def test_hang_up_before_the_answer_refuses_the_caller() -> None:
    bench = Bench(two_tenants())
    phone, pbx = started(bench)
    phone.answer(phone.take("INVITE"), 180, "t")
    pbx.take(100), pbx.take(180)
    assert bench.edge.hang_up("c1", None, 603, "Decline", bench.now)
    bench.collect()
    pbx.take(603)
    assert phone.take("CANCEL").get("reason") == 'SIP;cause=603;text="Decline"'


def test_who_takes_the_call_id_of_another_tenants_call_learns_nothing() -> None:
    bench = Bench(two_tenants())
    phone, _ = started(bench)
    there = phone.take("INVITE")
    thief = bench.end("203.0.113.66", 5062)
    thief.register("globex.example")
    me, uri = "sip:101@globex.example", "sip:9000@globex.example"
    for method, to, call_id in (
        (method, to, call_id)
        for call_id in ("c1", there.call_id)
        for method, to in (("INVITE", uri), ("REGISTER", "sip:globex.example"), ("MESSAGE", uri))
    ):
        steal(thief, method, to, me, call_id)
    phone.answer(there, 180, "t")
    phone.answer(there, 200, "t")
    of_acme = found(bench, bench.edge.calls("acme", bench.now)[0]["id"])
    assert of_acme.tenant == "acme"
    assert of_acme.user == "acme-101"
    theirs = [trace for trace in tracer(bench) if trace.tenant == "globex"]
    assert len([trace for trace in theirs if trace.kind == "call"]) == 2
    said = b"".join(m.data for trace in theirs for m in trace.messages)
    assert b"acme" not in said
    assert b"+4930" not in said
    assert all("acme" not in step["sentence"] for trace in theirs for step in trace.steps)


def steal(thief: End, method: str, uri: str, me: str, call_id: str) -> None:
    """A request of a phone with that Call-ID, with digest."""
    to = me if method == "REGISTER" else uri
    headers = {"Contact": "<sip:101@10.0.0.9:5062>"}
    thief.send(thief.request(method, uri, from_=me, to=to, call_id=call_id, **headers))
    challenge = next(m for m in thief.taken() if m.status == 401)
    headers["Authorization"] = credentials(challenge, "101", method, uri)
    thief.send(thief.request(method, uri, from_=me, to=to, call_id=call_id, **headers))
    assert 401 not in [m.status for m in thief.taken()]


def test_a_tenant_is_not_told_who_shares_its_source() -> None:
    bench = Bench(two_tenants())
    started(bench)
    (source,) = [step for step in found(bench, "c1").steps if step["rule"] == "source"]
    assert "globex" in source["sentence"]
    assert for_tenant(source)["sentence"] == f"{PBX} over udp is where a connection sends from"


def test_what_a_stranger_said_under_the_same_call_id_before_is_not_the_tenants() -> None:
    bench = Bench(two_tenants())
    stranger = bench.end("203.0.113.77", 5062)
    aor = "sip:101@acme.example"
    stranger.send(stranger.request("REGISTER", "sip:acme.example", from_=aor, to=aor, call_id="x", Contact="<sip:a@b>"))
    bench.pass_time(40)  # else they would be merged requests (RFC 3261 8.2.2.2)
    thief = bench.end("203.0.113.66", 5062)
    steal(thief, "REGISTER", "sip:globex.example", "sip:101@globex.example", "x")
    trace = found(bench, "x")
    assert trace.tenant == "globex"
    assert {m.flow.host for m in trace.messages} == {"203.0.113.66"}
    assert trace.from_text == "sip:101@globex.example"
    assert tracer(bench).held == sum(t.size for t in tracer(bench))


def test_a_subscription_and_its_legs_are_one_trace() -> None:
    bench = Bench(two_tenants())
    phone = bench.end("203.0.113.1", 5062)
    phone.register()
    me, uri = "sip:101@acme.example", "sip:102@acme.example"
    headers = {"Event": "dialog", "Expires": "600", "Contact": "<sip:101@10.0.0.9:5062>"}
    phone.send(phone.request("SUBSCRIBE", uri, from_=me, to=uri, call_id="s1", **headers))
    headers["Authorization"] = credentials(phone.take(401), "101", "SUBSCRIBE", uri)
    phone.send(phone.request("SUBSCRIBE", uri, from_=me, to=uri, call_id="s1", **headers))
    there = bench.end(PBX).take("SUBSCRIBE")
    trace = found(bench, there.call_id)
    assert (trace.kind, trace.tenant, trace.legs) == ("subscription", "acme", ["s1", there.call_id])
    assert titles(trace)[-1] == "1 out SUBSCRIBE"
