"""Transfers from the first call to the last BYE: the right two ends talk, nothing is left (RFC 3515, 3891, 5589)."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest

from sipd.message.message import Message
from tests.unit.core.bench import PBX, Bench, End, ack_of, credentials, table, tenant
from tests.unit.core.talk import assert_nothing_left

PHONES = {"101": "203.0.113.1", "102": "203.0.113.2", "103": "203.0.113.3"}


class Side:
    """An end's view of one call: enough to send requests in it, and to name it."""

    def __init__(self, end: End, call_id: str, local: str, remote: str, target: str, cseq: int) -> None:
        self.end, self.call_id, self.local, self.remote, self.target, self.cseq = (
            end,
            call_id,
            local,
            remote,
            target,
            cseq,
        )

    def send(self, method: str, body: str = "", **headers: str) -> None:
        self.cseq += 1
        head = f"{method} {self.target} SIP/2.0\nVia: SIP/2.0/{self.end.flow.transport.upper()} "
        head += f"{self.end.flow.host}:{self.end.flow.port};branch={self.end.branch()};rport\nMax-Forwards: 70\n"
        head += f"From: {self.local}\nTo: {self.remote}\nCall-ID: {self.call_id}\nCSeq: {self.cseq} {method}\n"
        head += f"Contact: <sip:{self.end.flow.host}:{self.end.flow.port}>\n"
        lines = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
        self.end.send(f"{head}{lines}Content-Length: {len(body)}\n\n{body}")

    @property
    def as_replaces(self) -> str:
        """This call, as whoever is referred to the other end of it shall name it (RFC 3891 section 6)."""
        tag = re.compile(r";tag=([^;]+)")
        theirs, mine = (found[1] for found in map(tag.search, (self.remote, self.local)) if found)
        return f"{self.call_id};to-tag={theirs};from-tag={mine}"


class Office:
    """Three phones of acme that call each other directly, and its PBX."""

    def __init__(self, transport: str = "udp", limits: object = None) -> None:
        direct = {"internal_calls": "always_direct"}
        self.bench = Bench(table(tenant("acme", extensions=tuple(PHONES), of_connection=direct)))
        self.pbx = self.bench.end(PBX)
        self.phones = {e: self.bench.end(host, 5062, transport) for e, host in PHONES.items()}
        for extension, phone in self.phones.items():
            phone.register(extension=extension, Contact=f"<sip:{extension}@10.0.0.9:5062>;expires=600")
        self.bench.events()

    def invite(self, extension: str, dialled: str, **more: str) -> Message | None:
        """Place a call with digest; what came at once other than the 100."""
        phone = self.phones[extension]
        uri, aor = dialled if ":" in dialled else f"sip:{dialled}@acme.example", f"sip:{extension}@acme.example"
        headers = {"Contact": f"<sip:{extension}@10.0.0.9:5062>", **more}
        call_id = f"c-{extension}-{uri.replace(':', '-').replace(';', '-')}-{len(more)}"
        phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers))
        challenge = phone.take(401)
        phone.send(ack_of(challenge, uri))
        headers["Authorization"] = credentials(challenge, extension, "INVITE", uri)
        phone.send(phone.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers))
        phone.take(100)
        mine = phone.taken()
        return mine[0] if mine else None

    def answer(self, caller: End, callee: End, tag: str) -> tuple[Side, Side]:
        """What rings is answered, and the ACKs pass; the call as each end sees it."""
        invite = callee.take("INVITE")
        callee.answer(invite, 200, tag)
        ok = caller.take(200)
        near = Side(
            caller, ok.call_id, ok.get("from") or "", ok.get("to") or "", ok.contacts[0].uri_text, ok.cseq.number - 1
        )
        near.send("ACK")
        callee.take("ACK")
        to = f"{invite.get('to')};tag={tag}"
        return near, Side(callee, invite.call_id, to, invite.get("from") or "", invite.contacts[0].uri_text, 0)

    def talk(self, extension: str, dialled: str, tag: str, **more: str) -> tuple[Side, Side]:
        assert self.invite(extension, dialled, **more) is None
        other = self.phones.get(dialled.removeprefix("sip:").partition("@")[0], self.pbx)
        return self.answer(self.phones[extension], other, tag)

    def called(self, extension: str, tag: str) -> tuple[Side, Side]:
        """The PBX calls a phone."""
        uri = f"sip:{extension}@acme.example"
        more = {"Contact": f"<sip:{PBX}:5060>"}
        self.pbx.send(self.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="in", **more))
        self.pbx.take(100)
        return self.answer(self.pbx, self.phones[extension], tag)

    def refer(self, here: Side, there: Side, refer_to: str) -> Message:
        """REFER to the other end, which takes it; as it came there."""
        here.send("REFER", Refer_To=refer_to, Referred_By="<sip:101@acme.example>")
        refer = there.end.take("REFER")
        there.end.answer(refer, 202)
        here.end.take(202)
        return refer

    def told(self, there: Side, here: Side, state: str, line: str) -> None:
        """A NOTIFY of how it goes (RFC 3515 2.4.4)."""
        there.send("NOTIFY", line, Event="refer", Subscription_State=state, Content_Type="message/sipfrag")
        notify = here.end.take("NOTIFY")
        assert notify.body == line.encode()
        here.end.answer(notify, 200)
        there.end.take(200)

    def hang_up(self, here: Side, there: Side) -> None:
        here.send("BYE")
        here.end.take(200)
        there.end.answer(there.end.take("BYE"), 200)

    def assert_ended(self, calls: int) -> None:
        self.bench.pass_time(400)
        edge = self.bench.edge
        assert_nothing_left(self.bench)
        kinds = [event["kind"] for event in edge.take_events() if str(event["kind"]).startswith("call.")]
        assert [kinds.count(f"call.{kind}") for kind in ("started", "answered", "ended")] == [calls] * 3
        for end in (self.pbx, *self.phones.values()):
            end.nothing()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_blind_among_phones(transport: str) -> None:
    """101 has 102 call 103, and hangs up before it rings."""
    office = Office(transport)
    a, b = office.talk("101", "102", "b")
    refer = office.refer(a, b, "<sip:103@acme.example>")
    assert (refer.get("refer-to"), refer.get("referred-by")) == ("<sip:103@acme.example>", "<sip:101@acme.example>")
    office.told(b, a, "active;expires=60", "SIP/2.0 100 Trying")
    office.hang_up(a, b)
    b2, c2 = office.talk("102", "103", "c", Referred_By="<sip:101@acme.example>")
    office.bench.pass_time(100)  # it rang for long: the first call's dialog is forgotten, but for this
    office.told(b, a, "terminated;reason=noresource", "SIP/2.0 200 OK")
    b2.send("INFO")
    c2.end.answer(c2.end.take("INFO"), 200)
    b2.end.take(200)
    office.hang_up(c2, b2)
    office.assert_ended(2)


def test_blind_that_fails_leaves_the_first_call() -> None:
    office = Office()
    a, b = office.talk("101", "102", "b")
    office.refer(a, b, "<sip:103@acme.example>")
    assert office.invite("102", "103") is None
    office.phones["103"].answer(office.phones["103"].take("INVITE"), 486, "c")
    office.phones["103"].take("ACK")
    refused = office.phones["102"].take(486)
    office.phones["102"].send(ack_of(refused, "sip:103@acme.example"))
    office.told(b, a, "terminated;reason=noresource", "SIP/2.0 486 Busy Here")
    office.hang_up(b, a)
    office.bench.pass_time(400)
    assert_nothing_left(office.bench)


def test_blind_of_a_caller_at_the_pbx_to_a_phone() -> None:
    office = Office()
    x, a = office.called("101", "a")
    refer = office.refer(a, x, "<sip:103@acme.example>")
    assert refer.get("refer-to") == "<sip:103@pbx.example>"
    office.hang_up(a, x)
    uri = "sip:103@acme.example"
    more = {"Contact": f"<sip:{PBX}:5060>"}
    office.pbx.send(office.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="x2", **more))
    office.pbx.take(100)
    x2, c = office.answer(office.pbx, office.phones["103"], "c")
    office.told(x, a, "terminated;reason=noresource", "SIP/2.0 200 OK")
    office.hang_up(c, x2)
    office.assert_ended(2)


def replaces_in(refer: Message) -> str:
    """The Replaces of a Refer-To."""
    found = re.search(r"Replaces=([^&>]+)", refer.get("refer-to") or "")
    assert found
    return unquote(found[1])


def other_phone_of_103(office: Office) -> End:
    """A second phone of 103's, which must not ring."""
    phone = office.bench.end("203.0.113.33", 5063)
    phone.register(extension="103", Contact="<sip:103@10.0.0.88:5062>;expires=600")
    return phone


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_attended_among_phones(transport: str) -> None:
    """101 talks with 102 and 103, and has 102 take its place with 103."""
    office = Office(transport)
    a1, b = office.talk("101", "102", "b")
    a2, c = office.talk("101", "103", "c")
    other = other_phone_of_103(office)
    refer = office.refer(a1, b, f"<sip:103@acme.example?Replaces={quote(a2.as_replaces, safe='')}>")
    named = replaces_in(refer)
    assert office.invite("102", "103", Replaces=named, Require="replaces") is None
    other.nothing()
    invite = office.phones["103"].taken()[-1]
    assert invite.get("replaces") == f"{c.call_id};to-tag=c;from-tag={c.remote.partition(';tag=')[2]}"
    office.phones["103"].answer(invite, 200, "c2")
    ok = office.phones["102"].take(200)
    b2 = Side(
        office.phones["102"], ok.call_id, ok.get("from") or "", ok.get("to") or "", ok.contacts[0].uri_text,
        ok.cseq.number - 1,
    )  # fmt: skip
    b2.send("ACK")
    office.phones["103"].take("ACK")
    office.hang_up(c, a2)  # 103 ends the call that was replaced
    office.told(b, a1, "terminated;reason=noresource", "SIP/2.0 200 OK")
    office.hang_up(a1, b)
    b2.send("INFO")
    info = office.phones["103"].take("INFO")
    assert info.to.tag == "c2"
    office.phones["103"].answer(info, 200)
    office.phones["102"].take(200)
    b2.send("BYE")
    office.phones["102"].take(200)
    office.phones["103"].answer(office.phones["103"].take("BYE"), 200)
    office.assert_ended(3)


def test_attended_of_a_caller_at_the_pbx_with_a_phone() -> None:
    office = Office()
    x, a1 = office.called("101", "a")
    a2, c = office.talk("101", "103", "c")
    other = other_phone_of_103(office)
    refer = office.refer(a1, x, f"<sip:103@acme.example?Replaces={quote(a2.as_replaces, safe='')}>")
    uri = "sip:103@acme.example"
    more = {"Contact": f"<sip:{PBX}:5060>", "Replaces": replaces_in(refer)}
    office.pbx.send(office.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="x2", **more))
    office.pbx.take(100)
    x2, c2 = office.answer(office.pbx, office.phones["103"], "c2")
    other.nothing()
    office.hang_up(c, a2)
    office.told(x, a1, "terminated;reason=noresource", "SIP/2.0 200 OK")
    office.hang_up(a1, x)
    office.hang_up(x2, c2)
    office.assert_ended(3)


def test_attended_of_a_phone_with_an_end_at_the_pbx() -> None:
    """102 is referred to an end at the PBX: its Replaces goes there, as the PBX knows the call."""
    office = Office()
    a1, b = office.talk("101", "102", "b")
    a2, y = office.talk("101", "555", "y")
    refer = office.refer(a1, b, f"<sip:555@pbx.example?Replaces={quote(a2.as_replaces, safe='')}>")
    assert (refer.get("refer-to") or "").startswith("<sip:555@acme.example?")
    named = replaces_in(refer)
    assert named.startswith(y.call_id)
    assert office.invite("102", "555", Replaces=named) is None
    invite = office.pbx.take("INVITE")
    assert (invite.uri, invite.get("replaces")) == ("sip:555@pbx.example", named)
    assert invite.from_.uri_text == "sip:102@pbx.example"
    office.pbx.answer(invite, 200, "y2")
    ok = office.phones["102"].take(200)
    office.phones["102"].send(office.phones["102"].within(ok, "ACK", ok.cseq.number))
    office.pbx.take("ACK")
    office.hang_up(y, a2)
    office.told(b, a1, "terminated;reason=noresource", "SIP/2.0 200 OK")
    office.hang_up(a1, b)
    office.phones["102"].send(office.phones["102"].within(ok, "BYE", 99))
    office.phones["102"].take(200)
    office.pbx.answer(office.pbx.take("BYE"), 200)
    office.assert_ended(3)


class TestRules:
    """RFC 3891 section 3, by the edge, which knows the state of the call."""

    def pbx_invites(self, office: Office, replaces: str, uri: str = "sip:101@acme.example") -> int:
        more = {"Contact": f"<sip:{PBX}:5060>", "Replaces": replaces}
        call_id = f"r{len(replaces)}"
        office.pbx.send(office.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id=call_id, **more))
        office.pbx.take(100)
        mine = office.pbx.taken()
        return mine[0].status if mine else 0

    def test_no_such_call_is_481(self) -> None:
        office = Office()
        assert self.pbx_invites(office, "nobody;to-tag=1;from-tag=2") == 481
        office.phones["101"].nothing()

    @pytest.mark.parametrize("value", ["x", "x;to-tag=1", "x;to-tag=1;from-tag=2, y;to-tag=1;from-tag=2", ";to-tag=1"])
    def test_one_that_cannot_be_read_is_400(self, value: str) -> None:
        assert self.pbx_invites(Office(), value) == 400

    def test_an_answered_call_is_not_early(self) -> None:
        office = Office()
        x, _ = office.called("101", "a")
        assert self.pbx_invites(office, x.as_replaces + ";early-only") == 486
        assert self.pbx_invites(office, x.as_replaces) == 0
        office.phones["101"].take("INVITE")

    def test_a_call_that_ended_is_603(self) -> None:
        office = Office()
        x, a = office.called("101", "a")
        office.hang_up(x, a)
        assert self.pbx_invites(office, x.as_replaces) == 603

    def test_what_rings_is_its_callers_to_replace(self) -> None:
        office = Office()
        assert office.invite("101", "102") is None
        invite = office.phones["102"].take("INVITE")
        office.phones["102"].answer(invite, 180, "b")
        ringing = office.phones["101"].take(180)
        at_caller = f"{ringing.call_id};to-tag={ringing.from_.tag};from-tag={ringing.to.tag}"
        at_callee = f"{invite.call_id};to-tag=b;from-tag={invite.from_.tag}"
        assert self.pbx_invites(office, at_callee) == 481
        assert self.pbx_invites(office, at_caller + ";early-only") == 0
        assert office.phones["101"].take("INVITE").get("replaces") == at_caller + ";early-only"
        office.phones["102"].nothing()

    def test_a_phone_that_refuses_it_is_not_forwarded(self) -> None:
        office = Office()
        x, _ = office.called("101", "a")
        assert self.pbx_invites(office, x.as_replaces) == 0
        office.phones["101"].answer(office.phones["101"].take("INVITE"), 486, "n")
        office.pbx.take(486)
        office.phones["101"].take("ACK")

    def test_another_tenants_call_is_unknown(self) -> None:
        office = Office()
        office.bench.load(table(tenant("acme", extensions=tuple(PHONES)), tenant("globex")))
        globex = office.bench.end("203.0.113.9", 5062)
        globex.register("globex.example")
        x, _ = office.called("101", "a")
        assert self.pbx_invites(office, x.as_replaces, "sip:101@globex.example") == 481
        globex.nothing()
