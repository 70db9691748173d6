"""Runs captured requests against a table, and says what is decided now: `sipd replay`.

The core itself decides, without sockets, at the time of the capture. Three things are taken for granted: passwords
(a phone is who its From says), that every user has a phone, and that nobody else calls at the same time.

A text file has its messages each behind a line `--- TRANSPORT:ADDRESS:PORT`, the source of the message.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipd import ladder, pcap
from sipd.auth import Authenticator, Checked, Verdict
from sipd.config import ConfigError, parse_address
from sipd.edge import Edge
from sipd.flow import Flow, Listener, shown
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.pcap import Captured, Fault
from sipd.registrar import Binding
from sipd.routing.lookup import TenantIndex, compile_table
from sipd.routing.model import Table, User
from sipd.settings import Settings
from sipd.trace import Tracer

REQUEST_LIMIT = 100_000
"""Requests of one file that are run; further ones are a fault."""
FILE_BYTES = 1024 * 1024 * 1024
PHONES = "phones.invalid"
"""Host of the phones that users are given."""
PHONE_LIFE = 10 * 365 * 86_400.0
FLOWS = ("udp", "tcp", "tls", "ws", "wss")
PLACES = ("0.0.0.0", "::")  # noqa: S104 - names of listeners that nothing binds
REFUSALS = frozenset((403, 404, 405, 416, 420, 483, 501, 505))
"""What an edge answers to what it does not take; another answer may be anybody's."""
CHALLENGES = frozenset((401, 407))

_length = re.compile(rb"(?im)^((?:content-length|l)[ \t]*:[ \t]*)[^\r\n]*")

Doc = dict[str, Any]


@dataclass(slots=True)
class Decided:
    """One captured request, what it was answered, and what the table decides now."""

    at: float
    source: str
    method: str
    uri: str
    offset: int
    answered: int
    """Final answer in the capture; 0: none."""
    code: int = 0
    """Answer now; 0: it goes on to `target`."""
    reason: str = ""
    rule: str = ""
    tenant: str = ""
    target: str = ""
    steps: list[Doc] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether the captured answer is one that the decision could not have had."""
        if not self.answered or self.answered in CHALLENGES:
            return False
        if self.code and self.code < 300:
            return self.answered >= 300
        return self.answered != self.code if self.code else self.answered in REFUSALS

    def as_dict(self) -> Doc:
        return {name: getattr(self, name) for name in self.__slots__} | {"differs": self.differs}


EVERYWHERE = ("0.0.0.0/0", "::/0")
"""Rates and bans are not replayed; networks that are blocked are, as they are narrower."""


class AsSaid(Authenticator):
    """Believes each phone: no password is known here."""

    def check(self, request: Message, index: TenantIndex, place: str, now: float) -> Checked:
        name = request.from_.uri.user or ""
        user = index.user(name)
        return Checked(Verdict.WRONG if user is None else Verdict.GOOD, user, name)


class Replay:
    """A core that has loaded the table, and is given one request at a time."""

    def __init__(self, table: Table, own: Iterable[str], now: float) -> None:
        """`own`: addresses of the edge in the capture, beside those of the table."""
        cipher = AESSIV(bytes(64))
        listeners = tuple(Listener(t, place, 5060, place, 5060) for place in PLACES for t in FLOWS)
        settings = Settings(listeners)
        self._edge = Edge(settings, cipher, os.urandom)
        self._edge._dispatcher._authenticator = AsSaid(cipher, os.urandom, settings)
        self._now = now
        for tenant in table.tenants:
            phones = [("binding", user.id, _phone(tenant.id, user, now).record()) for user in tenant.users]
            self._edge.restore(phones, now)
        allowed = (*table.installation.allowed, *EVERYWHERE)
        table = replace(table, installation=replace(table.installation, allowed=allowed))
        self._edge.load(compile_table(table, edge_hosts=own), now)
        self._clear()

    def _clear(self) -> None:
        self._edge.datagrams_to_send()
        self._edge.lookups_to_start()
        self._edge.media_to_send()
        self._edge.take_events()
        self._edge.take_changes()

    def decide(self, captured: Captured, message: Message, answered: int) -> Decided:
        """What the core does with this request now. Never raises."""
        host, port = captured.source
        flow = Flow(captured.transport, host, port, self._listener(captured.transport, host))
        self._now = max(self._now, captured.at)
        tracer = self._edge.tracer = self._edge.events.tracer = Tracer()
        self._edge.receive(captured.data, flow, self._now)
        out = self._edge.datagrams_to_send()
        asked = [f"{query.transport}:{query.host}" for query in self._edge.lookups_to_start()]
        found = Decided(captured.at, shown(flow), message.method, message.uri, captured.offset, answered)
        self._fill(found, tracer, out, asked)
        for call in list(self._edge.calls_.calls.values()):
            self._edge.calls_.hang_up(call, 480, "Replayed", self._now)
        self._clear()
        return found

    def _listener(self, transport: str, host: str) -> int:
        return FLOWS.index(transport) + (len(FLOWS) if ":" in host else 0)

    def _fill(self, found: Decided, tracer: Tracer, out: list[tuple[bytes, Flow]], asked: list[str]) -> None:
        targets = list(asked)
        for data, to in out:
            if data.startswith(b"SIP/2.0 "):
                status = int(data[8:11])
                if status >= 200:
                    found.code, found.reason = status, data[12:].partition(b"\r")[0].decode("utf-8", "replace")
            elif not data.startswith(b"CANCEL"):
                targets.append(_target(data, to))
        phones = [target for target in targets if target.startswith("phones of ")]
        targets = phones or targets  # phones that registered in the capture are beside those that users were given
        found.target = ", ".join(dict.fromkeys(targets)) if not found.code else ""
        for trace in tracer:
            if trace.kind == "upstream":
                continue
            found.tenant = found.tenant or trace.tenant
            found.rule = found.rule or trace.rule
            found.steps += trace.steps
        decisions = [step["sentence"].removeprefix("rule ") for step in found.steps if step["rule"] == "decision"]
        found.rule = found.rule or (decisions[-1] if decisions else "answered" if found.code else "passed-on")


def _target(data: bytes, to: Flow) -> str:
    """Where a request goes, for people."""
    uri = data.split(b" ", 2)[1].decode("utf-8", "replace").partition(";")[0]
    user, _, host = uri.partition("@")
    return f"phones of {user.partition(':')[2]}" if host == PHONES else f"{uri} over {shown(to)}"


def _phone(tenant: str, user: User, now: float) -> Binding:
    """That the user's phone were registered, at an address that no capture has."""
    contact = f"sip:{user.extension}@{PHONES}"
    return Binding(
        tenant=tenant, user=user.id, contact=contact, params={}, call_id="replay", cseq=1, expires=now + PHONE_LIFE,
        flow=Flow("udp", "0.0.0.0", 9, 0), user_agent="",  # noqa: S104 - an address that no capture has
    )  # fmt: skip


# Files


def read(data: bytes, now: float) -> Iterator[Captured | Fault]:
    """The messages of a capture, of `sipd trace --json`, or of a text. Never raises."""
    if pcap.is_capture(data):
        yield from pcap.read(data)
    elif data.lstrip()[:1] in (b"{", b"["):
        yield from _from_trace(data)
    else:
        yield from _from_text(data, now)


def _from_trace(data: bytes) -> Iterator[Captured | Fault]:
    """Of one trace or a list of them: what came in, and the answers."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        yield Fault(getattr(error, "pos", 0), f"The file is no JSON ({error}).")
        return
    for number, trace in enumerate(found if isinstance(found, list) else [found]):
        messages = trace.get("messages") if isinstance(trace, dict) else None
        if not isinstance(messages, list):
            yield Fault(number, f"Element {number} is no trace: it has no list of messages.")
            continue
        for message in messages:
            yield _of_trace(message, number)


def _of_trace(message: object, number: int) -> Captured | Fault:
    try:
        if not isinstance(message, dict):
            raise TypeError("a message is no object")
        transport, host, port = _place(message["flow"])
        far, edge = (host, port), ("", 0)
        source, destination = (far, edge) if message["way"] == "in" else (edge, far)
        text = _fitted(message["text"].encode("utf-8", "surrogateescape"))
        return Captured(float(message["at"]), transport, source, destination, text, number)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Fault(number, f"A message of trace {number} cannot be read ({error!r}).")


def _from_text(data: bytes, now: float) -> Iterator[Captured | Fault]:
    """Messages behind lines `--- udp:192.0.2.1:5060`; ends of lines may be bare."""
    position = 0
    place: tuple[str, str, int] | None = None
    begin = 0
    lines = data.splitlines(keepends=True)
    parts: list[bytes] = []
    for line in [*lines, b"--- end"]:
        if not line.startswith(b"--- "):
            parts.append(line)
        else:
            text = b"".join(part.rstrip(b"\r\n") + b"\r\n" for part in parts).strip(b"\r\n")
            if text and place is not None:
                head, _, body = text.partition(b"\r\n\r\n")
                whole = _fitted(head + b"\r\n\r\n" + (body + b"\r\n" if body else b""))
                yield Captured(now, place[0], (place[1], place[2]), ("", 0), whole, begin)
            elif text:
                yield Fault(
                    begin, "A message has no line `--- udp:ADDRESS:PORT` before it, which says where it is from."
                )
            parts, place, begin = [], None, position
            if line != b"--- end":
                try:
                    place = _place(line[4:].decode("ascii").strip())
                except ValueError as error:
                    yield Fault(position, f"{ladder.legible(error)}")
        position += len(line)


def _fitted(message: bytes) -> bytes:
    """With the Content-Length of the body as it is now: secrets were taken out, or line ends were changed."""
    head, end, body = message.partition(b"\r\n\r\n")
    return _length.sub(rb"\g<1>%d" % len(body), head) + end + body


def _place(text: str) -> tuple[str, str, int]:
    """`udp:192.0.2.1:5060`. Raises ValueError."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in FLOWS:
        raise ValueError(f"{text!r} does not begin with a transport; write it like udp:192.0.2.1:5060")
    try:
        address = parse_address(rest, "source")
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return transport, address.host, address.port


@dataclass(slots=True)
class Report:
    """All that a replay found."""

    decided: list[Decided]
    faults: list[Fault]
    messages: int

    @property
    def differing(self) -> int:
        return sum(one.differs for one in self.decided)

    def rules(self) -> Counter[str]:
        """How many requests each rule decided."""
        return Counter(one.rule for one in self.decided)


def run(data: bytes, table: Table, edge: str = "", now: float | None = None) -> Report:
    """Decide all requests of a file that begin something and went to `edge` (an address; empty: any)."""
    now = time.time() if now is None else now
    faults: list[Fault] = []
    found: list[tuple[Captured, Message]] = []
    for one in read(data, now):
        if isinstance(one, Fault):
            faults.append(one)
            continue
        try:
            found.append((one, scan(one.data)))
        except BadMessage as bad:
            faults.append(Fault(one.offset, f"No SIP message: {bad.reason}."))
    found.sort(key=lambda pair: pair[0].at)
    answers = _answers(found)
    requests = list(_requests(found, edge))
    if len(requests) > REQUEST_LIMIT:
        faults.append(Fault(requests[REQUEST_LIMIT][0].offset, f"Only the first {REQUEST_LIMIT} requests are run."))
    own = {captured.destination[0] for captured, _ in requests} - {""}
    replay = Replay(table, own, min((captured.at for captured, _ in requests), default=now))
    decided = [replay.decide(c, m, answers.get(_name(m), 0)) for c, m in requests[:REQUEST_LIMIT]]
    return Report(decided, faults, len(found))


def _requests(found: list[tuple[Captured, Message]], edge: str) -> Iterator[tuple[Captured, Message]]:
    """Those that begin something, once each: the others belong to dialogs that are not here."""
    seen = set()
    for captured, message in found:
        if message.status or message.method in ("ACK", "CANCEL") or captured.source[0] == "":
            continue
        if edge and captured.destination[0] not in ("", edge):
            continue
        try:
            name = (*_name(message), message.via.branch, captured.source)
            if message.to.tag is None and name not in seen:
                seen.add(name)
                yield captured, message
        except BadMessage:  # the core says what it thinks of it
            yield captured, message


def _name(message: Message) -> tuple[str, str]:
    return message.get("call-id") or "", message.get("cseq") or ""


def _answers(found: list[tuple[Captured, Message]]) -> dict[tuple[str, str], int]:
    """First final answer to each request."""
    answers: dict[tuple[str, str], int] = {}
    for _, message in found:
        if message.status >= 200:
            answers.setdefault(_name(message), message.status)
    return answers


# Printing


def lines(report: Report, *, explained: bool) -> Iterator[str]:
    """For people: one line a request, its steps, and a summary."""
    for one in report.decided:
        mark = "!" if one.differs else " "
        answered = str(one.answered or "-")
        yield f"{mark} {ladder.moment(one.at)}  {one.source}  {ladder.legible(one.method)} {ladder.legible(one.uri)}"
        now = f"{one.code} {ladder.legible(one.reason)}" if one.code else f"to {ladder.legible(one.target) or 'nobody'}"
        tenant = f", tenant {ladder.legible(one.tenant)}" if one.tenant else ""
        yield f"      then {answered:4} now {now}, by rule {ladder.legible(one.rule)}{tenant}"
        for step in one.steps if explained else ():
            passed = "yes" if step["passed"] else "no"
            yield f"      {passed:3}  {ladder.legible(step['rule']):16}  {ladder.legible(step['sentence'])}"
    for fault in report.faults:
        yield f"at offset {fault.offset}: {ladder.legible(fault.sentence)}"
    yield f"{len(report.decided)} requests of {report.messages} messages, {len(report.faults)} faults in the file"
    for rule, count in report.rules().most_common():
        yield f"  {ladder.legible(rule):24} {count:>8}"
    yield f"{report.differing} differ from the captured answer."
    yield "Passwords are not checked: a phone is who its From says."


def as_dict(report: Report) -> Doc:
    return {
        "requests": [one.as_dict() for one in report.decided],
        "faults": [fault._asdict() for fault in report.faults],
        "messages": report.messages,
        "rules": dict(report.rules()),
        "differing": report.differing,
    }
