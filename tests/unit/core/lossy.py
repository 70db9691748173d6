"""A network that loses, doubles and reorders, and user agents that follow RFC 3261 on it.

An agent is phone or PBX: it places and takes calls, repeats what gets no answer, acknowledges, cancels, hangs up.
Time and chance come from one seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from sipd.flow import Flow
from sipd.message.message import Message
from sipd.message.scanner import scan
from tests.unit.core.bench import Bench, credentials, wire

DELAY = 0.02
LATE = 0.4
"""Seconds that most messages take, and at most the slow ones: they are overtaken."""
WATCH = "Event: dialog\nExpires: 120\n"
PATIENCE = 32.0
"""64*T1: how long something is repeated."""


class Network:
    """Between the edge and the agents: deliveries and alarms in the order of time."""

    def __init__(self, bench: Bench, seed: int, *, loss: float = 0.0, double: float = 0.0, slow: float = 0.0) -> None:
        self.bench = bench
        self.chance = random.Random(seed)
        self.loss, self.double, self.slow = loss, double, slow
        self.agents: dict[tuple[str, int], Agent] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.bench.now + seconds, next(self._number), do))

    def carry(self, deliver: Callable[[], None], reliable: bool) -> None:
        """Once, never, twice, or late; a stream carries all in order."""
        chance = self.chance
        if reliable:
            self.at(DELAY, deliver)
            return
        for _ in range(2 if chance.random() < self.double else 1):
            if chance.random() >= self.loss:
                self.at(LATE * chance.random() if chance.random() < self.slow else DELAY, deliver)

    def to_edge(self, data: bytes, flow: Flow) -> None:
        self.carry(lambda: self.bench.edge.receive(data, flow, self.bench.now), flow.reliable)

    def from_edge(self, data: bytes, flow: Flow) -> None:
        agent = self.agents.get(flow[1:3])
        if agent is not None:
            self.carry(lambda: agent.take(scan(data)), flow.reliable)

    def run(self, seconds: float) -> None:
        bench, until = self.bench, self.bench.now + seconds
        while True:
            bench.collect()
            sent, bench.sent = bench.sent, []
            for data, flow in sent:
                self.from_edge(data, flow)
            timer = bench.edge.next_timer()
            due = min(until if timer is None else timer, self._queue[0][0] if self._queue else until)
            if due >= until:
                bench.now = until
                return
            bench.now = max(bench.now, due)
            while self._queue and self._queue[0][0] <= bench.now:
                heapq.heappop(self._queue)[2]()
            bench.edge.handle_timer(bench.now)


class Leg:
    """One call as an agent sees it."""

    def __init__(self, call_id: str, tag: str) -> None:
        self.call_id = call_id
        self.tag = tag
        self.invite: Message | None = None
        """The INVITE that began it, when it came to us."""
        self.local = self.remote = self.target = ""
        self.cseq = 0
        self.final = 0
        """Of the first INVITE."""
        self.waiting: Message | None = None
        """The INVITE whose answer of ours waits for its ACK."""
        self.over = False
        """Refused, or a BYE was sent or came."""
        self.silent = False
        """This end vanished: it neither sends nor answers any more."""

    @property
    def name(self) -> str:
        """As the other end of it is told in Replaces (RFC 3891)."""
        theirs, mine = (value.partition(";tag=")[2] for value in (self.remote, self.local))
        return f"{self.call_id};to-tag={theirs};from-tag={mine}"


class Ask:
    """A client transaction: sent again and again, until an answer or `PATIENCE` seconds have passed."""

    def __init__(self, agent: Agent, leg: Leg, method: str, branch: str, text: str) -> None:
        self.agent, self.leg, self.method, self.branch, self.text = agent, leg, method, branch, text
        self.began = agent.net.bench.now
        self.status = 0
        """Of the last answer."""
        self.headers = ""
        self.signed = False
        """It answers a challenge already."""
        self.cancel_after = 0.0
        agent.asks[branch, method] = self
        self.repeat(0.5)

    def repeat(self, interval: float) -> None:
        net = self.agent.net
        if self.status >= 200 or (self.status and self.method == "INVITE") or self.leg.silent:
            return
        if net.bench.now - self.began >= PATIENCE:
            self.agent.timeouts.append(self.method)
            self.leg.over = True
            return
        if not self.agent.flow.reliable or self.began == net.bench.now:
            self.agent.send(self.text)
        longest = PATIENCE if self.method == "INVITE" else 4.0
        net.at(interval, lambda: self.repeat(min(2 * interval, longest)))

    def heard(self, answer: Message) -> None:
        first, self.status = answer.status >= 200 > self.status, max(answer.status, self.status)
        if self.method == "SUBSCRIBE" and first:
            self.agent.subscribed(self, answer)
        if self.method != "INVITE":
            self.leg.over |= answer.status in (408, 481)
            return
        if answer.status < 200:
            if self.cancel_after:
                after, self.cancel_after = self.cancel_after, 0.0
                self.agent.net.at(after, lambda: self.agent.cancel(self))
            return
        self.agent.acknowledge(self, answer)
        if first:
            self.agent.answered(self, answer)


class Agent:
    """The other end of one flow."""

    def __init__(
        self, net: Network, flow: Flow, extension: str = "", plan: Callable[[Leg], None] | None = None
    ) -> None:
        self.net = net
        self.flow = flow
        self.extension = extension
        """Whose password answers challenges; "": a PBX."""
        self.plan = plan
        """What to do with a call that came in."""
        self.legs: dict[str, Leg] = {}
        self.watches: dict[str, Leg] = {}
        """Subscriptions, of both kinds."""
        self.asks: dict[tuple[str, str], Ask] = {}
        self.answers: dict[tuple[str, str], bytes] = {}
        """To requests that came; empty while there is none."""
        self.watched: Callable[[Leg], None] | None = None
        """What to do with a subscription that came in."""
        self.timeouts: list[str] = []
        """Methods of requests that never got an answer."""
        self._number = itertools.count(1)
        net.agents[flow[1:3]] = self

    def send(self, text: str | bytes) -> None:
        self.net.to_edge(text if isinstance(text, bytes) else wire(text), self.flow)

    def text(self, leg: Leg, method: str, seq: int, branch: str, headers: str = "", to: str = "") -> str:
        transport, host, port, _ = self.flow
        return (
            f"{method} {leg.target} SIP/2.0\n"
            f"Via: SIP/2.0/{transport.upper()} {host}:{port};branch={branch};rport\n"
            f"Max-Forwards: 70\nFrom: {leg.local}\nTo: {to or leg.remote}\nCall-ID: {leg.call_id}\n"
            f"CSeq: {seq} {method}\nContact: <sip:{host}:{port};transport={transport}>\n{headers}Content-Length: 0\n\n"
        )

    def branch(self) -> str:
        return f"z9hG4bK-{self.flow.host}-{self.flow.port}-{next(self._number)}"

    # -- requests of ours

    def call(self, uri: str, sender: str, cancel_after: float = 0.0, headers: str = "") -> Leg:
        """Place a call."""
        leg = Leg(f"call-{self.flow.host}-{self.flow.port}-{next(self._number)}", "")
        leg.local, leg.remote, leg.target = f"<{sender}>;tag=f{leg.call_id}", f"<{uri}>", uri
        self.legs[leg.call_id] = leg
        self.ask(leg, "INVITE", headers).cancel_after = cancel_after
        return leg

    def subscribe(self, uri: str, sender: str) -> Leg:
        """Open a subscription."""
        leg = Leg(f"watch-{self.flow.host}-{self.flow.port}-{next(self._number)}", "")
        leg.local, leg.remote, leg.target = f"<{sender}>;tag=f{leg.call_id}", f"<{uri}>", uri
        self.watches[leg.call_id] = leg
        self.ask(leg, "SUBSCRIBE", WATCH)
        return leg

    def subscribed(self, ask: Ask, answer: Message) -> None:
        leg = ask.leg
        if answer.status == 401 and self.extension and not ask.signed:
            header = credentials(answer, self.extension, "SUBSCRIBE", leg.target)
            self.ask(leg, "SUBSCRIBE", f"{WATCH}Authorization: {header}\n").signed = True
        elif answer.status < 300 and answer.contacts:
            leg.final, leg.remote, leg.target = 200, answer.get("to") or "", answer.contacts[0].uri_text
        else:
            leg.over |= answer.status >= 300 and answer.status != 401

    def notify(self, leg: Leg, state: str) -> None:
        if not leg.over:
            leg.over = state == "terminated"
            self.ask(leg, "NOTIFY", f"Event: dialog\nSubscription-State: {state}\n")

    def ask(self, leg: Leg, method: str, headers: str = "") -> Ask:
        leg.cseq += 1
        branch = self.branch()
        ask = Ask(self, leg, method, branch, self.text(leg, method, leg.cseq, branch, headers))
        ask.headers = headers
        return ask

    def bye(self, leg: Leg) -> None:
        """Hang up; the called side waits for the ACK of its answer (RFC 3261 15)."""
        if leg.over or not leg.final or leg.silent:
            return
        if leg.waiting is not None and leg.waiting is leg.invite:
            self.net.at(0.1, lambda: self.bye(leg))
            return
        leg.over = True
        self.ask(leg, "BYE")

    def cancel(self, ask: Ask) -> None:
        """RFC 3261 9.1: of an INVITE that got a provisional answer and no final one."""
        if ask.status < 200:
            Ask(
                self,
                ask.leg,
                "CANCEL",
                ask.branch,
                ask.text.replace("INVITE ", "CANCEL ").replace(" INVITE", " CANCEL"),
            )

    def acknowledge(self, ask: Ask, answer: Message) -> None:
        leg, to = ask.leg, answer.get("to") or ""
        if answer.status < 300 and answer.contacts:
            leg.remote, leg.target = to, answer.contacts[0].uri_text
        branch = ask.branch if answer.status >= 300 else self.branch()
        self.send(self.text(leg, "ACK", answer.cseq.number, branch, to=to))

    def answered(self, ask: Ask, answer: Message) -> None:
        leg = ask.leg
        if answer.status == 401 and self.extension and not ask.signed:
            header = credentials(answer, self.extension, "INVITE", leg.target)
            again = self.ask(leg, "INVITE", f"Authorization: {header}\n{ask.headers}")
            again.signed, again.cancel_after = True, ask.cancel_after
        elif not leg.final:
            leg.final = answer.status
            leg.over |= answer.status >= 300

    # -- what comes

    def take(self, message: Message) -> None:
        key = (message.via.branch or "", message.method)
        if message.status:
            if key in self.asks:
                self.asks[key].heard(message)
        elif message.method == "ACK":
            leg = self.legs.get(message.call_id)
            if leg is not None and leg.waiting is not None and leg.waiting.cseq.number == message.cseq.number:
                leg.waiting = None
        elif key not in self.answers:
            self.answers[key] = b""
            self.take_new(message)
        elif self.answers[key]:
            self.send(self.answers[key])

    def take_new(self, request: Message) -> None:
        leg = self.legs.get(request.call_id) or self.watches.get(request.call_id)
        if leg is not None and leg.silent:
            return
        if request.method == "SUBSCRIBE" and request.to.tag is None:
            leg = self.watches[request.call_id] = Leg(request.call_id, f"n{self.flow.port}-{next(self._number)}")
            leg.local, leg.remote = f"{request.get('to')};tag={leg.tag}", request.get("from") or ""
            leg.target = request.contacts[0].uri_text
            self.answer(request, 200, leg.tag)
            if self.watched is not None:
                self.watched(leg)
        elif request.method == "INVITE" and request.to.tag is None:
            leg = self.legs[request.call_id] = Leg(request.call_id, f"t{self.flow.port}-{next(self._number)}")
            leg.invite = request
            leg.local, leg.remote = f"{request.get('to')};tag={leg.tag}", request.get("from") or ""
            leg.target = request.contacts[0].uri_text
            if self.plan is not None:
                self.plan(leg)
        elif leg is None or (leg.over and request.method not in ("BYE", "CANCEL")):
            self.answer(request, 481)
        elif request.method == "INVITE":
            self.answer_invite(leg, request, 200)
        else:
            self.answer(request, 200, leg.tag)
            if request.method == "CANCEL":
                self.finish(leg, 487)
            leg.over |= request.method == "BYE"

    def answer(self, request: Message, status: int, tag: str = "none") -> None:
        transport, host, port, _ = self.flow
        to = (request.get("to") or "") + ("" if request.to.tag else f";tag={tag}")
        contact = f"To: {to}\r\nContact: <sip:{host}:{port};transport={transport}>\r\nContent-Length: 0\r\n\r\n"
        copied = (request.lines(name) for name in ("via", "from", "call-id", "cseq"))
        data = f"SIP/2.0 {status} Answer\r\n".encode() + b"".join(copied) + contact.encode()
        self.answers[request.via.branch or "", request.method] = data
        self.send(data)

    def finish(self, leg: Leg, status: int) -> None:
        """The final answer to the INVITE that began a leg; the first one counts."""
        if leg.invite is not None and not leg.final:
            leg.final, leg.over = status, status >= 300
            self.answer_invite(leg, leg.invite, status)

    def answer_invite(self, leg: Leg, request: Message, status: int) -> None:
        """Again and again until the ACK comes (RFC 3261 13.3.1.4, 17.2.1); without one, a call ends."""
        leg.waiting = request
        self.answer(request, status, leg.tag)
        began, data = self.net.bench.now, self.answers[request.via.branch or "", "INVITE"]

        def again(interval: float) -> None:
            if leg.waiting is not request:
                return
            if self.net.bench.now - began > PATIENCE:
                self.timeouts.append("ACK")
                leg.waiting = None
                self.bye(leg)
                return
            if status < 300 or not self.flow.reliable:
                self.send(data)
            self.net.at(min(2 * interval, 4.0), lambda: again(min(2 * interval, 4.0)))

        self.net.at(0.5, lambda: again(0.5))
