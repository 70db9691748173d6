"""A call between the PBX and a phone, for tests that begin where it rings or is answered."""

from __future__ import annotations

from sipd.message.message import Message
from sipd.routing.model import Table
from tests.unit.core.bench import PBX, Bench, two_tenants

PHONE = ("203.0.113.1", 5062)
CHALLENGE = 'Digest realm="{}", nonce="{}", algorithm=MD5, qop="auth"'


class Ringing:
    """The PBX calls a phone: `invite` is as it came there."""

    def __init__(self, routing: Table | None = None, transport: str = "udp", **headers: str) -> None:
        self.bench = Bench(routing or two_tenants())
        self.pbx, self.phone = self.bench.end(PBX, 5060, transport), self.bench.end(*PHONE, transport)
        self.phone.register()
        uri = "sip:101@acme.example"
        headers.setdefault("Contact", f"<sip:{PBX}:5060>")
        self.sent = self.pbx.request("INVITE", uri, from_="sip:x@pbx.example", to=uri, call_id="t", **headers)
        self.pbx.send(self.sent)
        self.pbx.take(100)
        self.invite = self.phone.take("INVITE")

    def from_phone(self, method: str, cseq: int, **more: str) -> str:
        return self.phone.back(self.invite, "p", method, cseq, **more)

    def cancel(self, **headers: str) -> None:
        """The PBX gives up."""
        text = self.sent.replace("INVITE", "CANCEL")
        for name, value in headers.items():
            text = text.replace("Contact:", f"{name}: {value}\nContact:")
        self.pbx.send(text)

    def assert_nothing_left(self, seconds: float = 200) -> None:
        """After all timers: no transaction, call, dialog or limit, no timer but the phone's binding, no fault."""
        self.bench.pass_time(seconds)
        assert_nothing_left(self.bench)


class Talk(Ringing):
    """The phone answered, both ACKs came; `ok` is as it came to the PBX."""

    def __init__(self, routing: Table | None = None, transport: str = "udp", **headers: str) -> None:
        super().__init__(routing, transport, **headers)
        self.phone.answer(self.invite, 200, "p", body="answer")
        self.ok: Message = self.pbx.take(200)
        self.pbx.send(self.pbx.within(self.ok, "ACK", 1))
        self.phone.take("ACK")

    def from_pbx(self, method: str, cseq: int, **more: str) -> str:
        return self.pbx.within(self.ok, method, cseq, **more)


class Outgoing:
    """A phone called out through the PBX; `invite` is as it came there."""

    def __init__(self, routing: Table | None = None) -> None:
        self.bench = Bench(routing or two_tenants())
        self.pbx, self.phone = self.bench.end(PBX), self.bench.end(*PHONE)
        self.phone.register()
        self.phone.call("+49")
        self.invite = self.pbx.take("INVITE")

    def answered(self, **headers: str) -> Message:
        """The PBX answers, the phone acknowledges; the 200 as it came to the phone."""
        self.pbx.answer(self.invite, 200, "p", **headers)
        ok = self.phone.take(200)
        self.phone.send(self.phone.within(ok, "ACK", ok.cseq.number))
        return ok

    def assert_nothing_left(self, seconds: float = 200) -> None:
        self.bench.pass_time(seconds)
        assert_nothing_left(self.bench)


def assert_nothing_left(bench: Bench) -> None:
    """No transaction, call, dialog or limit; no timer but those of bindings and registrations; no fault."""
    edge = bench.edge
    assert not edge.faults, edge.faults
    assert edge.calls_.calls == {}
    assert edge.calls_.dialogs == {}
    assert len(edge.layer) == 0
    assert not edge.calls_._core.limits._calls
    assert len(edge.timers) <= len(edge.registrar) + len(edge.upstream)
