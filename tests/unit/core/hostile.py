"""Peers that know SIP and mean no good, for an edge that is in the middle of everything.

`Siege` is an edge with registered phones, upstream registrations, calls that ring, talk and re-negotiate, and requests
passed on; its peers then answer with absurd headers, change what they sent before, send junk, and let time pass. What
they do is drawn from a `Fate`: from a seed in the test suite, from the fuzzer's bytes in `tests/fuzz`.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from sipd.flow import Answer, Flow, Query, Target
from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.framing import Framer, FramingError
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.routing.lookup import compile_table
from sipd.routing.model import Group, Member, Number, OutboundRule, Schedule, Table, Tenant
from tests.unit.core import judge
from tests.unit.core.bench import PBX, Bench, End, ack_of, connection, credentials, table, tenant

RELAY_PBX = "198.51.100.30"
"""Of a tenant whose phones hold its accounts."""
MAX_OUTPUTS = 40
"""Messages that one input, or one timer, may cause here: two tenants, four phones, a few calls."""
MAX_GROWTH = 1200
"""Bytes by which an answer to a stranger may be larger than what it answers."""
AFTERWARDS = 900.0
"""Seconds after which all that waits for answers has given up."""

URIS = (
    "sip:101@acme.example", "sip:102@acme.example", "sip:101@globex.example", "sip:999@acme.example",
    "sip:acme.example", "sip:192.0.2.1", "sip:101@192.0.2.1;local-domain=acme.example", "sip:+49@pbx.example",
    "sips:101@acme.example", "sip:10%31@acme.example", "sip:a%0d%0aX-Injected:%201@acme.example",
    "sip:%00@acme.example", "sip:[2001:db8::1]:5060", "sip:x@[::ffff:192.0.2.1]", "tel:+4930",
    "urn:service:sos", "sip:%80%ff@acme.example", "sip:a@b;lr;maddr=239.0.0.1;ttl=9",
    "sip:a@nowhere.invalid;transport=ws", "sip:a@nowhere.invalid:0", "sip:a@nowhere.invalid;transport=tls",
    "sip:", "sip:a@h;transport=%00", "sip:a@h;x=%0d%0aX-Injected:%201",
    "sip:a@h?Route=%3Csip:evil%3E&X-Injected=1", "*", "sip:a@198.51.100.10;maddr=192.0.2.1",
    "sip:a@192.0.2.1:5060;transport=TCP", "sip:101@acme.example;" + "p=1;" * 60, "sip:a@h;a=1;a=1",
    "sip:a@h;a=1;a=2", "sip:" + "u" * 900 + "@h", "sip:u:p%20w@h", "sip:u;x=y@h", "sip:-@h", "sip:@h",
    "sip:a@" + "h" * 300, "sip:a@h..h", "sip:a@1.2.3.4.5", "sip:a@[::1", "sip:a@::1", "SIP:A@H", "http://h/",
    "mailto:a@h",
)  # fmt: skip
WRAPS = (
    "{}", "<{}>", '"x" <{}>', "x <{}>;tag=h1", "<{}>;tag=h2;tag=h3", "<{}>;q=0.5;expires=3", '"\\"\\\\" <{}>',
    "<{}>,<{}>", "<{}>;lr", "<{}>;expires=99999999999999999999", "<{}>;expires=-1",
    '<{}>;+sip.instance="<urn:uuid:1>";reg-id=1', '<{}>;q="0.5"', "<{}>;q=nan", "<{}>;q=inf", "<{}>;tag=",
    "<{}>;tag", '"a, b" <{}>', "\u00e4 <{}>", "<{}", "<{}>;x=\u00e4", '<{}>;x="\\', "<{}>;tag=h4 ;",
    "\udcff <{}>", "<{}>;+sip.instance=\"<\\\r\n >\"", "<{}>\r\n ;tag=h5",
)  # fmt: skip
SCALARS = (
    "0", "1", "5", "60", "3600", "4294967295", "4294967296", "99999999999999999999", "-1", "", " ", "1.5",
    "\u0663", "0x10", "1 2", "007", "1;duration=3600", "18 (busy)", "a", "\u00b2", "2147483647", "2147483648",
    "1e3", "1,2", "90;refresher=uac",
)  # fmt: skip
CREDENTIALS = (
    'Digest username="101",realm="x",nonce="n",uri="sip:x",response="0"',
    'Digest username="102",realm="x",nonce="n",uri="sip:x",response="0"',
    'Digest username="101",username="102",realm="x",nonce="n",uri="sip:x",response="0"',
    'Digest username="101",realm="x",nonce="n",uri="sip:x",\r\n response="0"', "Digest", "Bearer x", "",
    'Digest username="101@pbx.example",realm="",nonce="",uri="",response=""', "\udcff", "Digest " + "a=b," * 40,
)  # fmt: skip
CHALLENGES = (
    'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"', 'Digest realm="r", nonce="n2", stale=true',
    "Digest", "Basic x", 'Digest realm="r", nonce="n3", algorithm=SHA-256, qop="auth,auth-int"',
    'Digest realm="\\"", nonce="\\\\"', "", 'Digest realm="r", nonce="n4", qop="auth-int"',
    'Digest realm="r", nonce="n5", opaque="\\" \\\\ "', "Digest realm=r",
    'Digest realm="\u00e4\udcff", nonce="\u20ac", qop=auth', 'Digest realm="a\r\n b", nonce="n6", qop=auth',
    "Digest ,", 'Digest realm="r", nonce="\\\x00", qop="auth", opaque="\\\x00"',
    'Digest realm="r", nonce="n7", algorithm=MD5-sess',
)  # fmt: skip
TOKENS = (
    "100rel", "timer", "replaces", "", ",", "a b", "x" * 300, "outbound, 100rel", "\u00e4", "tdialog", "id",
    "none", "user;id", '"', "<", "dialog", "message-summary", "presence", "active;expires=60",
    "terminated;reason=x", "pending", "refer;id=5", "call@x;to-tag=1;from-tag=2", ";;", "call;to-tag",
    "application/sdp", "text/plain;charset=\"", "multipart/mixed;boundary=", "1 1 INVITE",
    "99999999999 1 INVITE", "1", "x y z", "SIP;cause=200", "sip:a@h?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2",
    "<sip:a@h?Replaces=c%3Bto-tag%3D%0D%0AX-Injected%3A1>", "<sip:a@h?Replaces=%FF>", "a;b=\\", "\\", "=",
    "c;to-tag==;from-tag", "c%00;to-tag=1;from-tag=2", "Digest", "Wed, 32 Foo 2026 99:99:99 GMT",
    "Sat, 13 Nov 2010 23:29:00 GMT",
)  # fmt: skip
ADDRESSES = (
    "Contact", "From", "To", "Route", "Record-Route", "Refer-To", "Referred-By", "P-Asserted-Identity",
    "P-Preferred-Identity", "Remote-Party-ID", "Diversion", "History-Info", "Path", "Service-Route", "m", "r",
    "b",
)  # fmt: skip
NUMBERS = (
    "Expires", "Min-Expires", "Retry-After", "RSeq", "Max-Forwards", "Session-Expires", "Min-SE", "x",
    "Content-Length", "l", "Timestamp", "MIME-Version",
)  # fmt: skip
OTHERS = (
    "Require", "Supported", "Unsupported", "Proxy-Require", "Allow", "Event", "Subscription-State", "Replaces",
    "Target-Dialog", "RAck", "Reason", "Privacy", "Content-Type", "Date", "Warning", "Accept", "User-Agent",
    "Call-ID", "Join", "SIP-ETag", "SIP-If-Match", "Content-Disposition", "Subject", "k", "o", "c",
    "Geolocation", "Identity",
)  # fmt: skip
ASKING = ("WWW-Authenticate", "Proxy-Authenticate", "Authorization", "Proxy-Authorization", "Authentication-Info")
METHODS = (
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "PRACK", "UPDATE", "SUBSCRIBE", "NOTIFY",
    "REFER", "MESSAGE", "PUBLISH", "invite", "X" * 60, "~!%",
)  # fmt: skip
SIGNED = ("INVITE", "INVITE", "REGISTER", "REGISTER", "MESSAGE", "OPTIONS", "REFER", "SUBSCRIBE", "NOTIFY")
STATUSES = (
    100, 180, 183, 199, 200, 202, 204, 299, 300, 302, 305, 380, 400, 401, 401, 401, 403, 404, 407, 407, 408,
    416, 420, 422, 423, 430, 480, 481, 482, 486, 487, 488, 491, 500, 501, 503, 504, 513, 580, 600, 603, 606,
    699,
)  # fmt: skip
VIAS = (
    "SIP/2.0/UDP 203.0.113.66:9;branch=z9hG4bKx", "SIP/2.0/UDP [2001:db8::9];branch=z9hG4bKy;rport",
    "SIP / 2.0 / TCP h : 7", "SIP/2.0/UDP h;rport=abc;received=;branch=",
    "SIP/2.0/UDP h;maddr=255.255.255.255;ttl=255", "SIP/2.0/UDP h;branch=\"z\"",
    "SIP/2.0/UDP a, SIP/2.0/UDP b;branch=z9hG4bKb", "SIP/2.0/UDP h;received=\"\\\"\r\n \"",
    "SIP/2.0/UDP h;\u00e4", "SIP/2.0/UDP", "SIP/2.0/UDP h:99999",
    "SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bKw", "SIP/2.0/UDP h;received=1.1.1.1,",
)  # fmt: skip
SCRATCHES = (b"", b"\0", b"\r", b"\n", b"\xff", b'"', b"\\", b",", b"<", b"%", b" ")
IN_DIALOG = re.compile(rb"^(?:to|t)[ \t]*:[^\r]*;[ \t]*tag", re.IGNORECASE | re.MULTILINE).search
BODIES = ("", "v=0\r\n", "\r\n\r\nINVITE sip:x SIP/2.0\r\n\r\n", "\x00\udcff", "m" * 1500)


FITTING = {
    1: "RSeq", 2: "Contact", 3: "Contact", 401: "WWW-Authenticate", 407: "Proxy-Authenticate", 422: "Min-SE",
    423: "Min-Expires", 503: "Retry-After",
}  # fmt: skip
"""The header that an answer of this class or status is read for."""


class Fate(random.Random):
    """Chance that is drawn from bytes, so that a fuzzer can shape it; zeros when they are used up."""

    def __new__(cls, data: bytes) -> Fate:
        return super().__new__(cls)

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._pos = 0

    @property
    def spent(self) -> bool:
        return self._pos >= len(self._data)

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        taken = self._data[self._pos : self._pos + size]
        self._pos += size
        return int.from_bytes(taken.ljust(size, b"\0")) >> (size * 8 - k)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def on_wire(text: str) -> bytes:
    """With the line ends of SIP."""
    return encode(text.replace("\n", "\r\n"))


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def neighbourhoods() -> list[Table]:
    """Tables that follow on each other while calls go on: the whole one, and what somebody took out of it."""
    acme, globex = _busy_house(), tenant("globex", strategy="on_behalf")
    link = acme.connections[0]
    mode_off = replace(link, multi_tenant=False, sources=("198.51.100.77",))
    changed = (
        acme,
        replace(acme, users=acme.users[1:], groups=(), numbers=()),
        replace(acme, users=acme.users[:1], groups=tuple(replace(g, members=g.members[:1]) for g in acme.groups)),
        replace(acme, connections=(link,), outbound=()),
        replace(acme, connections=(mode_off,), outbound=()),
        replace(acme, users=tuple(replace(user, upstream=()) for user in acme.users), connections=(), outbound=()),
        replace(acme, suspended=True),
        replace(acme, schedules=(), users=tuple(replace(user, do_not_disturb=True) for user in acme.users)),
    )
    initech = tenant("initech", strategy="relay", of_connection={"source": RELAY_PBX})
    elsewhere = replace(initech, connections=(replace(initech.connections[0], registrar_domain="other.example"),))
    whole = [table(each, globex, initech) for each in changed]
    return [*whole, table(globex, initech), table(acme, elsewhere), table(acme)]


def _busy_house() -> Tenant:
    """acme with groups of each kind, serial forks, closed hours, and a fall-back whose name may not be found."""
    made = _house()
    members = tuple(Member(place, user.id) for place, user in enumerate(made.users))
    groups = tuple(
        Group(f"g{place}", f"60{place}", "Team", True, kind, members, member_seconds=5, forward_no_answer="102")
        for place, kind in enumerate(("all", "in_turn", "round_robin"))
    )
    users = (replace(made.users[0], fork="serial", serial_seconds=5), *made.users[1:])
    named = connection(
        "named", source="198.51.100.20", host="nowhere.invalid", port=0, transport="auto", strategy="none"
    )
    return replace(
        made, users=users, groups=groups, connections=(*made.connections, named),
        schedules=(Schedule("never", "Never", "UTC"),),
        numbers=(
            Number("n1", "+4950", group="g1", schedule="never", forward_closed="600"),
            Number("n2", "+4951", group="g2"),
            Number("n3", "+4952", forward="+4930"),
        ),
        outbound=(
            OutboundRule("o1", 1, "+49", 0, "", made.connections[0].id, fallback="named"),
            OutboundRule("o2", 2, "00", 2, "+", "named", fallback=made.connections[0].id),
        ),
    )  # fmt: skip


def _house() -> Tenant:
    """acme, where forwards lead in a circle, out of the house, and to nobody."""
    made = tenant("acme", strategy="on_behalf", extensions=("101", "102", "103"))
    rules = {"102": {"forward_busy": "101", "forward_no_answer": "+4930", "forward_unreachable": "103"},
             "103": {"forward_unreachable": "102", "forward_busy": "103"}}  # fmt: skip
    return replace(made, users=tuple(replace(user, **rules.get(user.extension, {})) for user in made.users))


class Siege:
    """An edge, its peers, and what they have sent and got so far."""

    def __init__(self) -> None:
        self.tables = self.neighbourhoods()
        self.bench = self.make_bench(self.tables[0])
        self.found = True
        """Whether names are found now; a resolver that fails says nothing."""
        self.slow = False
        """Whether answers to look-ups come when the next thing has happened."""
        self.asking: list[tuple[Query, Answer]] = []
        self.pbx = self.bench.end(PBX)
        self.phones = [
            self.bench.end("203.0.113.1", 5062), self.bench.end("203.0.113.2", 40000, "tcp"),
            self.bench.end("203.0.113.3", 5062),
        ]  # fmt: skip
        self.relay_pbx, self.relayed = self.bench.end(RELAY_PBX), self.bench.end("203.0.113.4", 5062)
        """A phone with an account there: what it sends passes, its credentials too."""
        self.stranger = self.bench.end("203.0.113.66", 6666)
        self.ends = [
            self.pbx, *self.phones, self.relay_pbx, self.relayed, self.stranger,
            self.bench.end("203.0.113.67", 7777, "tcp"),
        ]  # fmt: skip
        self.asked: list[tuple[Message, Flow]] = []
        """Requests of the edge: they can be answered, now and later."""
        self.told: list[tuple[Message, Flow]] = []
        """Answers of the edge: they make dialogs."""
        self.templates: list[tuple[bytes, Flow]] = []
        """What the peers sent while all was well."""
        self.log: list[str] = []
        self._judged: set[bytes] = set()
        """Retransmissions need no second look."""
        self._open_everything()

    def neighbourhoods(self) -> list[Table]:
        return neighbourhoods()

    def make_bench(self, routing: Table) -> Bench:
        return Bench(routing, replace(Bench().settings, mute_after=100_000))  # bans would end the siege

    def left(self) -> Counter[str]:
        """What the edge still remembers."""
        return judge.sizes(self.bench.edge)

    # -- the ordinary day

    def _open_everything(self) -> None:
        bench, pbx = self.bench, self.pbx
        bench.pass_time(0.5)  # upstream registrations are on their way
        registers = pbx.taken()
        pbx.answer(registers[0], 200, "r", Contact=f"{registers[0].get('contact')}")
        self.asked += [(message, pbx.flow) for message in registers]
        for phone, extension in zip(self.phones, ("101", "101", "102"), strict=True):
            phone.register(extension=extension, Contact=f"<sip:{extension}@{phone.flow.host}:5062>;expires=600")
        self._keep_sending()
        self.phones[2].call("+49", extension="102", Supported="100rel")
        self._note()
        self._talk()
        self._send(pbx, "INVITE", "sip:101@acme.example", "rings", Contact=f"<sip:{PBX}>", Supported="100rel, timer")
        self._send(pbx, "MESSAGE", "sip:101@acme.example", "text", Content_Type="text/plain")
        for event in ("message-summary", "dialog", "presence"):
            headers = {"Event": event, "Contact": f"<sip:{PBX}>", "Expires": "300"}
            self._send(pbx, "SUBSCRIBE", "sip:101@acme.example", f"watch-{event}", **headers)
        self._open_relayed()
        self._note()

    def _open_relayed(self) -> None:
        """A phone that holds its account has registered; one call of it waits for credentials, one rings, one talks."""
        pbx = self.relay_pbx
        self.relayed.send(self.of_relayed("REGISTER", "sip:initech.example", "r"))
        asked = pbx.take("REGISTER")
        pbx.answer(asked, 200, "r", Contact=f"{asked.get('contact')}")
        self.relayed.take(200)
        for status in (407, 180, 200):
            self.relayed.send(self.of_relayed("INVITE", "sip:+49@initech.example", f"relayed-{status}"))
            invite = pbx.take("INVITE")
            self.asked.append((invite, pbx.flow))
            pbx.answer(invite, status, "r", Proxy_Authenticate=CHALLENGES[0])
            pbx.taken()  # ACK
        self.relayed.send(self.of_relayed("MESSAGE", "sip:102@initech.example", "relayed-text"))

    def of_relayed(self, method: str, uri: str, call_id: str, **headers: str) -> str:
        """A request of the phone that holds its account."""
        aor = "sip:101@initech.example"
        to = aor if method == "REGISTER" else uri
        headers.setdefault("Contact", "<sip:101@203.0.113.4:5062>")
        return self.relayed.request(method, uri, from_=aor, to=to, call_id=call_id, **headers)

    def _send(self, end: End, method: str, uri: str, call_id: str, **headers: str) -> None:
        end.send(end.request(method, uri, from_="sip:x@pbx.example", to=uri, call_id=call_id, **headers))

    def _talk(self) -> None:
        """A call between PBX and 102, with a re-INVITE and an INFO under way."""
        pbx, phone = self.pbx, self.phones[2]
        self._send(pbx, "INVITE", "sip:102@acme.example", "talk", Contact=f"<sip:{PBX}>")
        pbx.taken()
        invite = phone.take("INVITE")
        phone.answer(invite, 200, "p", body="answer")
        ok = pbx.take(200)
        pbx.send(pbx.within(ok, "ACK", 1))
        self.told.append((ok, pbx.flow))
        pbx.send(pbx.within(ok, "INVITE", 2, Contact=f"<sip:{PBX}>"))
        phone.send(phone.back(invite, "p", "INFO", 1))

    def _keep_sending(self) -> None:
        """Remember what the ends send from now on."""
        receive = self.bench.edge.receive

        def remembered(data: bytes, flow: Flow, now: float) -> None:
            if len(self.templates) < 40:
                self.templates.append((data, flow))
            receive(data, flow, now)

        self.bench.edge.receive = remembered  # type: ignore[method-assign]

    def _note(self) -> list[tuple[bytes, Flow]]:
        """Sort what the edge sent since the last look."""
        self.bench.collect()
        sent, self.bench.sent = self.bench.sent, []
        for data, flow in sent:
            try:
                message = scan(data)
                check(message)
            except BadMessage:  # an answer that mirrors a malformed request
                continue
            (self.told if message.status else self.asked).append((message, flow))
        del self.asked[:-60], self.told[:-60]
        return sent

    # -- one thing that happens

    def strike(self, data: bytes, flow: Flow) -> None:
        """Bytes arrive; what comes of it must hold."""
        self.log.append(f"{flow[:3]} >> {data!r}")
        edge = self.bench.edge
        if flow.reliable:
            self._frame(data, flow)
        else:
            edge.receive(data, flow, self.bench.now)
        sent = self.judge()
        if flow[:3] == self.stranger.flow[:3] and not data.startswith(b"SIP/2.0"):
            self.judge_stranger(data, sent)

    def _frame(self, data: bytes, flow: Flow) -> None:
        edge, framer = self.bench.edge, Framer()
        try:
            frames = framer.feed(data)
        except FramingError as error:
            frames = error.before
            edge.bad_frame(error, flow, self.bench.now)
        for frame in frames:
            if isinstance(frame, bytes):
                edge.receive(frame, flow, self.bench.now)

    def judge(self) -> list[tuple[bytes, Flow]]:
        """No fault, few messages, and each as it should be."""
        edge = self.bench.edge
        if edge.tracer is not None:  # as the shell does: it sorts what was noted, and writes it
            for batch in edge.tracer.take(self.bench.now, everything=True):
                json.dumps([batch.about, batch.steps, [said.as_dict("all") for said in batch.messages]]).encode()
        for fault in edge.faults:
            raise fault
        sent = self._note()
        assert len(sent) <= MAX_OUTPUTS, f"{len(sent)} messages at once"
        for data, _ in sent:
            if data not in self._judged:
                self._judged.add(data)
                self._judge_one(data)
        for query in edge.lookups_to_start():
            there = (Target(PBX, 5060, "udp"),) if query.host == "nowhere.invalid" and self.found else ()
            self.asking.append((query, Answer(there, 60.0 if self.found else 0.0)))
        if not self.slow:
            self.resolve()
        if edge.tracer is not None:
            edge.tracer.take(self.bench.now)
        for record in (*edge.take_events(), *edge.take_changes()):  # no store and no database takes half characters
            json.dumps(record, ensure_ascii=False).encode()
        return sent

    def resolve(self) -> None:
        """Names that were asked for are answered; what goes out then is no answer to what arrives next."""
        asking, self.asking = self.asking, []
        for query, answer in asking:
            self.bench.edge.resolved(query, answer, self.bench.now)
            for data, _ in self._note():
                self._judge_one(data)

    def change(self, number: int) -> None:
        """Another table, in the middle of everything."""
        self.log.append(f"-- table {number}")
        self.bench.edge.load(compile_table(self.tables[number]), self.bench.now)
        self.judge()

    def _judge_one(self, data: bytes) -> None:
        judge.shape(data)
        if not self._mirrors_a_fault(data):
            judge.whole(data)
        assert b"\r\nx-injected" not in data.partition(b"\r\n\r\n")[0].lower(), data

    def _mirrors_a_fault(self, data: bytes) -> bool:
        """Answers to malformed requests repeat their From, To and the like as they were."""
        if not data.startswith(b"SIP/2.0 "):
            return False
        try:
            check(scan(data))
        except BadMessage:
            return data[8:9] in b"45"
        return False

    def judge_stranger(self, data: bytes, sent: Sequence[tuple[bytes, Flow]]) -> None:
        """Nobody gains by asking for others: one answer at most, to who asked, and not much larger. Who knows Call-ID
        and tags of a dialog is no stranger to it (RFC 3261 12.2.2); and who holds an account, its PBX is asked."""
        if IN_DIALOG(data):
            return
        sent = [(each, flow) for each, flow in sent if flow.host != RELAY_PBX or not each.startswith(b"REGISTER ")]
        assert len(sent) <= 2, sent
        for answer, flow in sent:
            assert flow.host == self.stranger.flow.host, (flow, answer)
            assert answer.startswith(b"SIP/2.0 "), answer
        assert sum(len(answer) for answer, _ in sent) <= len(data) + MAX_GROWTH, (data, sent)

    def wait(self, seconds: float) -> None:
        """Time passes; each timer is judged by itself."""
        self.log.append(f"-- {seconds} s")
        bench, until = self.bench, self.bench.now + seconds
        while (due := bench.edge.next_timer()) is not None and due <= until:
            bench.now = max(bench.now, due)
            bench.edge.handle_timer(bench.now)
            self.judge()
        bench.now = until

    def finish(self) -> None:
        """All peers fall silent, the calls that talk are ended, the table is emptied: nothing is left."""
        self.slow = False
        self.resolve()
        self.wait(AFTERWARDS)
        calls = self.bench.edge.calls_
        for call in list(calls.calls.values()):
            assert call.pair is not None, "a call that was never answered goes on for ever"
            calls.hang_up(call, 200, "Siege Over", self.bench.now)
        self.log.append("-- empty table")
        self.bench.load(table())
        self.wait(AFTERWARDS)
        left = self.left()
        assert not left, f"left after {2 * AFTERWARDS} s: {left}"


class Attack:
    """Draws from a `Fate` what the peers do."""

    def __init__(self, siege: Siege, chance: random.Random) -> None:
        self.siege = siege
        self.chance = chance

    def step(self) -> None:
        kinds: tuple[Callable[[], None], ...] = (
            self._answer, self._answer, self._answer, self._answer, self._repeat, self._repeat, self._repeat,
            self._inside, self._inside, self._inside, self._fresh, self._fresh, self._signed, self._signed,
            self._junk, self._wait, self._lose, self._change, self._busy, self._busy, self._relayed, self._relayed,
        )  # fmt: skip
        self.chance.choice(kinds)()

    # -- what is drawn

    def value(self, name: str) -> str:
        chance = self.chance
        if name in ADDRESSES or chance.random() < 0.03:
            return chance.choice(WRAPS).replace("{}", chance.choice(URIS))
        if name in NUMBERS:
            return chance.choice(SCALARS)
        if name in ASKING:
            return chance.choice(CHALLENGES)
        if name in ("Via", "v"):
            return chance.choice(VIAS)
        return chance.choice(TOKENS)

    def header(self) -> tuple[str, str]:
        chance = self.chance
        group = chance.choice((ADDRESSES, ADDRESSES, NUMBERS, OTHERS, OTHERS, ASKING, ("Via", "v")))
        name = chance.choice(group)
        return name, self.value(name)

    def headers(self, most: int = 4) -> str:
        drawn = [self.header() for _ in range(self.chance.randrange(most))]
        return "".join(f"{name}: {value}\r\n" for name, value in drawn)

    def body(self) -> str:
        return self.chance.choice(BODIES) if self.chance.random() < 0.3 else ""

    def spoil(self, data: bytes) -> bytes:
        """Change lines, or at times bytes, of a message that was well-formed."""
        chance = self.chance
        lines = data.split(b"\r\n")
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(lines))
            act = chance.randrange(5)
            if act == 0:
                del lines[at : at + 1]
            elif act == 1:
                lines.insert(at, lines[at])
            elif act == 2:
                name, value = self.header()
                lines.insert(max(at, 1), encode(f"{name}: {value}"))
            elif act == 3 and b":" in lines[at]:
                name = lines[at].partition(b":")[0].decode("latin-1")
                lines[at] = encode(f"{name}: {self.value(name)}")
            elif act == 4:
                lines[at] = self.scratch(lines[at])
            lines = lines or [b""]
        return b"\r\n".join(lines)

    def scratch(self, line: bytes) -> bytes:
        chance = self.chance
        at = chance.randrange(len(line) + 1)
        return line[:at] + chance.choice(SCRATCHES) + line[at + 1 :]

    # -- what happens

    def _answer(self, among: int = 25) -> None:
        """An answer to one of the last requests of the edge, with headers that make no sense."""
        siege, chance = self.siege, self.chance
        if not siege.asked:
            return
        request, flow = siege.asked[-1 - chance.randrange(min(len(siege.asked), among))]
        if request.method == "ACK":
            return
        status = chance.choice(STATUSES)
        to = (request.get("to") or "") + chance.choice((";tag=h1", ";tag=h1", ";tag=h2", "", ";tag=a;tag=b", ";tag"))
        cseq = request.get("cseq") or ""
        if chance.random() < 0.1:
            cseq = chance.choice(("0 INVITE", "1 BYE", "99 INVITE", "x", "1"))
        head = f"SIP/2.0 {status} {chance.choice(('OK', '', 'x' * 80, 'ä', 'a: b'))}\r\n"
        body = encode(self.body())
        copied = request.lines("via") + request.lines("from") + encode(f"To: {to}\r\n") + request.lines("call-id")
        fitting = FITTING.get(status // 100 if status < 400 else status, "")
        fitting = f"{fitting}: {self.value(fitting)}\r\n" if fitting and chance.random() < 0.8 else ""
        lines = encode(f"{fitting}{self.headers()}Content-Length: {len(body)}\r\n\r\n")
        data = encode(head) + copied + encode(f"CSeq: {cseq}\r\n") + lines + body
        siege.strike(self.spoil(data) if chance.random() < 0.2 else data, flow)

    def _repeat(self) -> None:
        """What a peer sent before, changed."""
        siege, chance = self.siege, self.chance
        data, flow = chance.choice(siege.templates)
        if chance.random() < 0.6:
            data = re.sub(rb"branch=[^;\r\n]*", b"branch=z9hG4bK%d" % chance.getrandbits(24), data, count=1)
        if chance.random() < 0.3:
            method = chance.choice(METHODS).encode()
            data = re.sub(rb"^[^ ]+ ", method + b" ", data)
            data = re.sub(rb"(CSeq: [0-9]+) [^\r]*", rb"\1 " + method, data)
        if chance.random() < 0.15:
            flow = chance.choice(siege.ends).flow
        siege.strike(self.spoil(data), flow)

    def _inside(self) -> None:
        """A request inside a dialog, of either side."""
        siege, chance = self.siege, self.chance
        told = [entry for entry in siege.told if entry[0].method == "INVITE" and entry[0].to.tag]
        asked = [entry for entry in siege.asked if entry[0].method == "INVITE"]
        method, cseq = chance.choice(METHODS), chance.choice((1, 2, 3, 4, 9, 2**31 - 1))
        if told and chance.random() < 0.5:
            message, flow = chance.choice(told)
            sender, to = message.get("from"), message.get("to")
        elif asked:
            message, flow = chance.choice(asked)
            sender, to = f"{message.get('to')};tag={chance.choice(('h1', 'h2', 'p', 'h9'))}", message.get("from")
        else:
            return
        uri = chance.choice(("sip:192.0.2.1", *URIS[:6]))
        self._strike_request(method, uri, sender or "", to or "", message.call_id, cseq, flow)

    def _fresh(self) -> None:
        """A request outside a dialog."""
        chance = self.chance
        flow = chance.choice(self.siege.ends).flow
        uri = chance.choice(URIS)
        tag = chance.choice((";tag=f", ";tag=f", ""))
        to = chance.choice(WRAPS[:2]).replace("{}", chance.choice(URIS))
        call_id = chance.choice(("c1", "c2", "c3@h", "rings", "talk", "<>()\\"))
        method, cseq = chance.choice(METHODS), chance.choice((0, 1, 2, 2**31))
        self._strike_request(method, uri, f"<{chance.choice(URIS)}>{tag}", to, call_id, cseq, flow)

    def _strike_request(self, method: str, uri: str, sender: str, to: str, call_id: str, cseq: int, flow: Flow) -> None:
        chance = self.chance
        body = encode(self.body())
        via = f"SIP/2.0/{flow.transport.upper()} {flow.host}:{flow.port};branch=z9hG4bK{chance.getrandbits(32)};rport"
        if chance.random() < 0.1:
            via = chance.choice(VIAS)
        head = (
            f"{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: {chance.choice(('70', '70', '1', '0', '255'))}\r\n"
            f"From: {sender}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{self.headers()}"
        )
        data = encode(head) + b"Content-Length: %d\r\n\r\n" % len(body) + body
        self.siege.strike(self.spoil(data) if chance.random() < 0.2 else data, flow)

    def _signed(self) -> None:
        """A user's own request with good credentials: the password does not make the headers good."""
        siege, chance = self.siege, self.chance
        phone = chance.choice(siege.phones)
        extension = "102" if phone is siege.phones[2] else "101"
        method = chance.choice(SIGNED)
        uri = "sip:acme.example" if method == "REGISTER" else chance.choice(URIS)
        aor = f"sip:{extension}@acme.example"
        to = aor if method == "REGISTER" else "sip:1@acme.example"
        names = {"from_": aor, "to": to, "call_id": f"s{chance.randrange(4)}"}
        siege.strike(on_wire(phone.request(method, uri, **names)), phone.flow)
        challenges = [message for message, _ in siege.told[-3:] if message.status == 401 and message.method == method]
        if not challenges:
            return
        if method == "INVITE":
            siege.strike(on_wire(ack_of(challenges[-1], uri)), phone.flow)
        names["Authorization"] = credentials(challenges[-1], extension, method, uri)
        more = f"Contact: {chance.choice(('*', self.value('Contact')))}\r\n" if method == "REGISTER" else ""
        if chance.random() < 0.2:
            more += f"Expires: {chance.choice(('0', self.value('Expires')))}\r\n"
        signed = on_wire(phone.request(method, uri, **names))
        siege.strike(signed.replace(b"Content-Length", encode(more + self.headers(4)) + b"Content-Length"), phone.flow)

    def _junk(self) -> None:
        chance = self.chance
        data = bytes(chance.getrandbits(8) for _ in range(chance.randrange(40)))
        self.siege.strike(data, chance.choice(self.siege.ends).flow)

    def _wait(self) -> None:
        self.siege.wait(self.chance.choice((0.01, 0.5, 2.0, 5.0, 33.0, 200.0)))

    def _change(self) -> None:
        """The table, or what the resolver knows, is another one now."""
        siege, chance = self.siege, self.chance
        siege.found, siege.slow = chance.random() < 0.6, chance.random() < 0.5
        siege.resolve()
        if chance.random() < 0.6:
            siege.change(chance.randrange(len(siege.tables)))
        else:
            siege.judge()

    def _busy(self) -> None:
        """A call that hunts: groups, numbers, closed hours, forwards, from the PBX or a phone."""
        siege, chance = self.siege, self.chance
        to = chance.choice(("600", "601", "602", "+4950", "+4951", "+4952", "+49170", "00170", "101", "102", "103"))
        uri = f"sip:{to}@acme.example"
        call_id = f"busy{chance.randrange(6)}"
        if chance.random() < 0.6:
            names = {"from_": "sip:x@pbx.example", "to": uri, "call_id": call_id}
            siege.strike(on_wire(siege.pbx.request("INVITE", uri, Contact=f"<sip:{PBX}>", **names)), siege.pbx.flow)
            return
        phone = siege.phones[2]
        names = {"from_": "sip:102@acme.example", "to": uri, "call_id": call_id, "Contact": "<sip:102@h>"}
        siege.strike(on_wire(phone.request("INVITE", uri, **names)), phone.flow)
        told = siege.told[-1][0] if siege.told else None
        if told is not None and told.status == 401:
            names["Authorization"] = credentials(told, "102", "INVITE", uri)
            siege.strike(on_wire(phone.request("INVITE", uri, **names)), phone.flow)

    def _relayed(self) -> None:
        """What a phone sends that holds its account, with credentials for whoever looks."""
        siege, chance = self.siege, self.chance
        method = chance.choice(("REGISTER", "REGISTER", *SIGNED))
        uri = "sip:initech.example" if method == "REGISTER" else chance.choice(("sip:+49@initech.example", *URIS))
        call_id = chance.choice(("r", "relayed-407", "relayed-180", "relayed-200", "relayed-text"))
        names: dict[str, str] = {}
        if method == "REGISTER" and chance.random() < 0.4:
            names["Contact"] = chance.choice(("*", self.value("Contact")))
            names["Expires"] = chance.choice(("0", self.value("Expires")))
        if chance.random() < 0.8:
            sure = CREDENTIALS[0] if chance.random() < 0.5 else chance.choice(CREDENTIALS)
            names[chance.choice(("Authorization", "Proxy-Authorization"))] = sure
        siege.strike(on_wire(siege.of_relayed(method, uri, call_id, **names)), siege.relayed.flow)
        if chance.random() < 0.7:
            self._answer(among=1)

    def _lose(self) -> None:
        """A stream ends."""
        siege = self.siege
        if self.chance.random() < 0.3:
            siege.log.append("-- stream lost")
            siege.bench.edge.flow_lost(siege.phones[1].flow, siege.bench.now)
            siege.judge()
