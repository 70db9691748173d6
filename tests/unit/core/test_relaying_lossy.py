"""Relayed registrations over a network that loses, doubles and reorders: phones, the edge, and a PBX that is strict."""

from __future__ import annotations

import pytest

from sipd.flow import Flow
from sipd.message.message import Message
from tests.unit.core.bench import PBX, Bench, table
from tests.unit.core.house import relayed_acme
from tests.unit.core.lossy import Agent, Ask, Leg, Network
from tests.unit.core.talk import assert_nothing_left

AOR = "sip:101@acme.example"
PROOF = 'Digest username="pbx-101", realm="pbx.example", nonce="{}", uri="sip:acme.example", response="{}"'
AGAIN = 40.0
"""Seconds after which a phone that has had no good answer tries again."""


class Registering(Ask):
    """One REGISTER of a phone; it answers a challenge by another one."""

    agent: SipPhone

    def heard(self, answer: Message) -> None:
        first, self.status = answer.status >= 200 > self.status, max(answer.status, self.status)
        if first:
            self.agent.answered_register(answer)


class SipPhone(Agent):
    """Wants to be registered, or not to be, and does not give up."""

    def __init__(self, net: Network, port: int) -> None:
        super().__init__(net, Flow("udp", "203.0.113.1", port, 0), "101")
        self.leg = Leg(f"reg-{port}", "f")
        self.leg.local, self.leg.remote, self.leg.target = f"<{AOR}>;tag=f{port}", f"<{AOR}>", "sip:acme.example"
        self.seconds = 600
        self.done = False
        self.listed: list[str] = []
        """Contacts of the last 200."""

    def want(self, seconds: int) -> None:
        self.seconds, self.done = seconds, False
        self.try_again()

    def try_again(self, headers: str = "") -> None:
        if self.done:
            return
        self.leg.cseq += 1
        branch, host = self.branch(), f"{self.flow.host}:{self.flow.port}"
        text = self.text(self.leg, "REGISTER", self.leg.cseq, branch, headers)
        text = text.replace(f"<sip:{host};transport=udp>", f"<sip:101@{host}>;expires={self.seconds}")
        Registering(self, self.leg, "REGISTER", branch, text)
        if not headers:
            self.net.at(AGAIN, self.try_again)

    def answered_register(self, answer: Message) -> None:
        if answer.status == 401:
            nonce = (answer.get("www-authenticate") or "").partition('nonce="')[2].partition('"')[0]
            self.try_again(f"Authorization: {PROOF.format(nonce, nonce[::-1])}\n")
        elif answer.status == 200:
            self.done, self.listed = True, answer.all("contact")


class StrictPbx(Agent):
    """A registrar: each nonce serves once, and CSeq must rise (RFC 3261 10.3)."""

    def __init__(self, net: Network) -> None:
        super().__init__(net, Flow("udp", PBX, 5060, 0))
        self.nonces: set[str] = set()
        self.call_ids: set[str] = set()
        self.numbers: list[int] = []
        """CSeq of what was taken."""
        self.bound: dict[str, float] = {}
        """Until when, by Contact."""
        self.faults: list[str] = []

    def take_new(self, request: Message) -> None:
        if request.method != "REGISTER":
            self.answer(request, 200)
            return
        words = (request.get("authorization") or "").replace('"', " ").split()
        nonce = words[words.index("nonce=") + 1] if "nonce=" in words else ""
        self.call_ids.add(request.call_id)
        if nonce not in self.nonces:
            fresh = f"n{len(self.nonces)}x{request.cseq.number}"
            self.nonces.add(fresh)
            self.say(request, 401, f'WWW-Authenticate: Digest realm="pbx.example", nonce="{fresh}"')
            return
        self.nonces.discard(nonce)
        if self.numbers and request.cseq.number <= self.numbers[-1]:
            self.faults.append(f"CSeq {request.cseq.number} after {self.numbers[-1]}")
        self.numbers.append(request.cseq.number)
        for contact in request.contacts:
            self.bound[contact.uri_text] = self.net.bench.now + int(contact.params["expires"] or 0)
        alive = {uri: at for uri, at in self.bound.items() if at > self.net.bench.now}
        lines = [f"Contact: <{uri}>;expires={round(at - self.net.bench.now)}" for uri, at in alive.items()]
        self.bound = alive
        self.say(request, 200, *lines)

    def say(self, request: Message, status: int, *lines: str) -> None:
        head = f"SIP/2.0 {status} X\r\n".encode()
        copied = b"".join(request.lines(name) for name in ("via", "from", "to", "call-id", "cseq"))
        rest = "".join(f"{line}\r\n" for line in (*lines, "Content-Length: 0", "")).encode()
        self.answers[request.via.branch or "", request.method] = data = head + copied + rest
        self.send(data)


@pytest.mark.parametrize("seed", range(6))
def test_all_is_as_the_phones_want_it_in_the_end(seed: int) -> None:
    bench = Bench(table(relayed_acme()))
    net = Network(bench, seed, loss=0.2, double=0.2, slow=0.3)
    pbx, phones = StrictPbx(net), [SipPhone(net, 5062 + place) for place in range(5)]
    for place, phone in enumerate(phones):
        net.at(place * 0.3, lambda phone=phone: phone.want(3000))  # type: ignore[misc]
    net.run(400)
    assert all(phone.done for phone in phones)
    assert [len(phone.listed) for phone in phones] == [1] * 5
    assert all(f":{phone.flow.port}>" in phone.listed[0] for phone in phones)
    assert len(bench.edge.registrar) == 5
    assert list(pbx.bound) == ["sip:101@acme.example"]

    for phone in phones[:4]:
        phone.want(0)
    net.run(300)
    assert [phone.done for phone in phones] == [True] * 5
    assert [binding.flow.port for binding in bench.edge.registrar if binding.expires > bench.now] == [5066]
    assert list(pbx.bound) == ["sip:101@acme.example"]
    phones[4].want(0)
    net.run(300)
    assert len(bench.edge.registrar) == 0
    assert pbx.bound == {}
    assert (len(pbx.call_ids), pbx.faults) == (1, [])
    assert pbx.numbers == sorted(set(pbx.numbers))
    bench.pass_time(600)
    assert_nothing_left(bench)
