"""An edge with a fake clock and no socket: what is sent to it, and what it sends, read as a ladder.

`Bench` holds the edge and its clock. `End` is the other end of a flow, a phone's or a PBX's: it sends
text and takes what the edge sent to its address.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd.edge import Edge
from sipd.flow import Answer, Flow, Listener, Target
from sipd.message.auth import Challenge, answer, ha1
from sipd.message.grammar import bracketed
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.routing.lookup import compile_table
from sipd.routing.model import Connection, Installation, Table, Tenant, UpstreamAccount, User
from sipd.routing.seal import seal
from sipd.settings import Settings

CIPHER = AESSIV(bytes(range(64)))
START = 1_700_000_000.0
EDGE = ("192.0.2.1", 5060)
PBX = "198.51.100.10"
PASSWORD = "secret-101"


def user(tenant: str, extension: str, domain: str, connections: tuple[str, ...] = (), **more: object) -> User:
    """A user whose SIP password is PASSWORD, with an account (extension, "pbx-secret") at each connection."""
    id_ = f"{tenant}-{extension}"
    digests = {
        field: seal(CIPHER, (tenant, id_, field), ha1(name, extension, domain, PASSWORD))
        for name, field in (("MD5", "ha1_md5"), ("SHA-256", "ha1_sha256"))
    }
    accounts = tuple(
        UpstreamAccount(c, extension, "", seal(CIPHER, (tenant, id_, c, "upstream"), "pbx-secret")) for c in connections
    )
    made = User(id_, extension, f"User {extension}", True, upstream=accounts, **digests)
    return replace(made, **more)  # type: ignore[arg-type]


def connection(id_: str, *, mode: bool = True, source: str = PBX, **more: object) -> Connection:
    made = Connection(id_, id_, True, mode, "pbx.example", source, 5060, "udp", sources=(source,))
    return replace(made, **more)  # type: ignore[arg-type]


def tenant(
    id_: str,
    *,
    mode: bool = True,
    strategy: str = "none",
    extensions: tuple[str, ...] = ("101", "102"),
    of_connection: dict[str, object] | None = None,
    **more: object,
) -> Tenant:
    """A tenant with one connection to the PBX (`of_connection`: fields of it) and two users."""
    domain = f"{id_}.example"
    link = connection(f"{id_}-pbx", mode=mode, strategy=strategy, **(of_connection or {}))
    users = tuple(user(id_, extension, domain, (link.id,)) for extension in extensions)
    made = Tenant(id_, id_, id_.title(), False, domain, users=users, connections=(link,), default_connection=link.id)
    return replace(made, **more)  # type: ignore[arg-type]


def table(*tenants: Tenant) -> Table:
    return Table(Installation("tenantry.example", edge_hosts=("192.0.2.1",)), tenants)


def two_tenants(*, mode: bool = True, strategy: str = "none") -> Table:
    """acme and globex at the same PBX address, both with 101 and 102."""
    return table(*(tenant(name, mode=mode, strategy=strategy) for name in ("acme", "globex")))


class Bench:
    """An edge on UDP and TCP, IPv4, with time that moves only when told."""

    def __init__(self, routing: Table | None = None, settings: Settings | None = None) -> None:
        self.now = START
        self._random = itertools.count()
        listeners = tuple(Listener(t, *EDGE, *EDGE) for t in ("udp", "tcp"))
        self.settings = settings or Settings(listeners, nat_ping=0, options_interval=0)
        self.edge = Edge(self.settings, CIPHER, self.random)
        self.sent: list[tuple[bytes, Flow]] = []
        if routing is not None:
            self.load(routing)

    def random(self, size: int) -> bytes:
        """Different each time, the same in each run."""
        return hashlib.sha256(str(next(self._random)).encode()).digest()[:size]

    def load(self, routing: Table) -> None:
        self.edge.load(compile_table(routing), self.now)
        self.collect()

    def collect(self) -> None:
        self.sent += self.edge.datagrams_to_send()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self.now + seconds
        while (due := self.edge.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.edge.handle_timer(self.now)
            self.collect()
        self.now = until

    def end(self, host: str, port: int = 5060, transport: str = "udp") -> End:
        return End(self, Flow(transport, host, port, 0 if transport == "udp" else 1))

    def events(self, kind: str = "") -> list[dict[str, object]]:
        return [e for e in self.edge.take_events() if not kind or e["kind"] == kind]


class End:
    """The other end of one flow."""

    def __init__(self, bench: Bench, flow: Flow) -> None:
        self.bench = bench
        self.flow = flow
        self._cseq = itertools.count(1)
        self._branch = itertools.count(1)

    @property
    def hostport(self) -> str:
        """As it stands in a Via or URI."""
        return f"{bracketed(self.flow.host)}:{self.flow.port}"

    def send(self, text: str | bytes) -> None:
        """Text with bare line ends; the empty line and Content-Length are added when missing."""
        data = text if isinstance(text, bytes) else wire(text)
        self.bench.edge.receive(data, self.flow, self.bench.now)
        self.bench.collect()

    def taken(self) -> list[Message]:
        """All that the edge sent here since the last look."""
        mine = [data for data, flow in self.bench.sent if flow[:3] == self.flow[:3]]
        self.bench.sent = [entry for entry in self.bench.sent if entry[1][:3] != self.flow[:3]]
        return [scan(data) for data in mine]

    def take(self, what: str | int) -> Message:
        """The next message, which must be this method or status."""
        mine = self.taken()
        assert mine, f"nothing came, {what} was expected"
        first, *others = mine
        self.bench.sent = [(m.data, self.flow) for m in others] + self.bench.sent
        got = first.status or first.method
        assert got == what, f"{got} came, {what} was expected:\n{first.data.decode(errors='replace')}"
        return first

    def nothing(self) -> None:
        mine = self.taken()
        assert not mine, f"{[m.status or m.method for m in mine]} came, nothing was expected"

    def request(self, method: str, uri: str, *, from_: str, to: str, call_id: str, **headers: str) -> str:
        """A request outside a dialog; `headers` with underscores for dashes."""
        return request_text(
            method, uri, from_=f"<{from_}>;tag=f-{call_id}", to=f"<{to}>", call_id=call_id, cseq=next(self._cseq),
            via=self.sent_by, branch=self.branch(),
            headers=headers,
        )  # fmt: skip

    def branch(self) -> str:
        return f"z9hG4bK-{self.flow.host.replace(':', '_')}-{self.flow.port}-{next(self._branch)}"

    @property
    def sent_by(self) -> str:
        """The beginning of this end's Via."""
        return f"SIP/2.0/{self.flow.transport.upper()} {self.hostport}"

    def answer(self, request: Message, status: int, tag: str = "", body: str = "", **headers: str) -> None:
        """Answer what was taken."""
        keep = request.lines("via") + request.lines("record-route") + request.lines("from")
        to = request.get("to") or ""
        if tag and "tag=" not in to:
            to += f";tag={tag}"
        if status < 300 and request.method == "INVITE" and "Contact" not in headers:
            headers["Contact"] = f"<sip:{self.hostport};transport={self.flow.transport}>"
        if body:
            headers["Content-Type"] = "application/sdp"
        lines = f"SIP/2.0 {status} Reason\n".replace("\n", "\r\n").encode() + keep
        lines += f"To: {to}\r\n".encode() + request.lines("call-id") + request.lines("cseq")
        for name, value in headers.items():
            lines += f"{name.replace('_', '-')}: {value}\r\n".encode()
        self.send(lines + f"Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def within(self, made: Message, method: str, cseq: int, body: str = "", **headers: str) -> str:
        """A request inside the dialog that `made` (a 2xx or 1xx that this end got) describes."""
        contact = made.contacts[0].uri_text
        return request_text(
            method, contact, from_=made.get("from") or "", to=made.get("to") or "", call_id=made.call_id, cseq=cseq,
            via=self.sent_by, branch=self.branch(),
            headers=headers, body=body,
        )  # fmt: skip

    def back(self, invite: Message, tag: str, method: str, cseq: int, body: str = "", **headers: str) -> str:
        """A request from the called end of the dialog that `invite` (as it came here) began."""
        return request_text(
            method, invite.contacts[0].uri_text, from_=f"{invite.get('to')};tag={tag}", to=invite.get("from") or "",
            call_id=invite.call_id, cseq=cseq,
            via=self.sent_by, branch=self.branch(),
            headers=headers, body=body,
        )  # fmt: skip

    def register(
        self, domain: str = "acme.example", extension: str = "101", expires: int = 600, **more: str
    ) -> Message:
        """Register as a phone, with digest; the 200."""
        aor = f"sip:{extension}@{domain}"
        contact = f"<sip:{extension}@10.0.0.9:5062>;expires={expires}"
        headers = {"Contact": contact, **more}
        call_id = f"reg-{self.hostport}"
        self.send(self.request("REGISTER", f"sip:{domain}", from_=aor, to=aor, call_id=call_id, **headers))
        headers["Authorization"] = credentials(self.take(401), extension, "REGISTER", f"sip:{domain}")
        self.send(self.request("REGISTER", f"sip:{domain}", from_=aor, to=aor, call_id=call_id, **headers))
        return self.take(200)

    def call(
        self, dialled: str, domain: str = "acme.example", extension: str = "101", body: str = "", **more: str
    ) -> Message:
        """Place a call as a phone, with digest, and with an SDP as `body`; the 100."""
        uri, aor = f"sip:{dialled}@{domain}", f"sip:{extension}@{domain}"
        headers = {"Contact": f"<sip:{extension}@10.0.0.9:5062>", **more}
        if body:
            headers["Content_Type"] = "application/sdp"
        call_id = f"call-{extension}-{dialled}"
        self.send(self.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers))
        challenge = self.take(401)
        self.send(ack_of(challenge, uri))
        headers["Authorization"] = credentials(challenge, extension, "INVITE", uri)
        text = self.request("INVITE", uri, from_=aor, to=uri, call_id=call_id, **headers)
        self.send(text.replace("Content-Length: 0", f"Content-Length: {len(body)}") + body)
        return self.take(100)


def found(*places: str, ttl: float = 60.0) -> Answer:
    """What a look-up found: `198.51.100.50`, `198.51.100.50:5070` or `198.51.100.50:5070/tcp`."""
    targets = []
    for place in places:
        address, _, transport = place.partition("/")
        host, _, port = address.partition(":")
        targets.append(Target(host, int(port or 5060), transport or "udp"))
    return Answer(tuple(targets), ttl)


def credentials(challenge: Message, username: str, method: str, uri: str, password: str = PASSWORD) -> str:
    """Answer to the first (strongest) challenge."""
    offered = Challenge.parse(challenge.all("www-authenticate")[0])
    return answer(offered, username, password, method, uri, 1, "cnonce")


def request_text(
    method: str, uri: str, *, from_: str, to: str, call_id: str, cseq: int, via: str, branch: str,
    headers: dict[str, str], body: str = "",
) -> str:  # fmt: skip
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: {via};branch={branch};rport",
        "Max-Forwards: 70",
        f"From: {from_}",
        f"To: {to}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
    ]
    return "\n".join(lines) + "\n\n" + body


def ack_of(refusal: Message, uri: str) -> str:
    """The ACK of a final answer other than 2xx (RFC 3261 17.1.1.3)."""
    via = refusal.via
    return request_text(
        "ACK", uri, from_=refusal.get("from") or "", to=refusal.get("to") or "", call_id=refusal.call_id,
        cseq=refusal.cseq.number, via=f"SIP/2.0/{via.transport} {via.host}:{via.port}", branch=via.branch or "",
        headers={},
    )  # fmt: skip


def wire(text: str) -> bytes:
    head, _, body = text.partition("\n\n")
    return (head.replace("\n", "\r\n") + "\r\n\r\n" + body).encode("utf-8", "surrogateescape")
