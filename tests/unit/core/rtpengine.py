"""rtpengine as far as its ng protocol goes: it marks each SDP that it rewrites, and keeps its sessions. No socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sipd import ng
from sipd.flow import Flow, Listener
from sipd.message.message import Message
from sipd.routing.model import Tenant
from sipd.settings import Settings
from tests.unit.core.bench import EDGE, PBX, Bench, End, table
from tests.unit.core.house import House, acme

SDP = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
SAVP = SDP + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"
TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
Said = dict[str, Any]


class Rtpengine:
    """One instance. Like the real one it answers a repeated cookie as it did the first time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.up = True
        self.lose: Callable[[], bool] = bool
        """Whether a datagram is lost on its way, in either direction; asked for each."""
        self.deaf_to: bytes | None = None
        """What makes it answer nothing to the request that holds it."""
        self.holding = False
        """Whether answers but to pings wait for `release`."""
        self.refusing: Said | None = None
        """What it answers to offers and answers instead."""
        self.held: list[bytes] = []
        self.heard: list[Said] = []
        """All requests but pings, without repetitions."""
        self.sessions: dict[str, list[Said]] = {}
        """Offers and answers by the name of their session, until it is deleted."""
        self._said: dict[str, bytes] = {}

    def take(self, datagram: bytes) -> list[bytes]:
        """A datagram arrives; the answers."""
        if not self.up or self.lose() or (self.deaf_to is not None and self.deaf_to in datagram):
            return []
        cookie, request = ng.parse(datagram)
        again = self._said.get(cookie)
        reply = again or ng.message(cookie, self._do(request))
        self._said[cookie] = reply
        if self.holding and request["command"] != b"ping":
            self.held += [] if again else [reply]
            return []
        return [] if self.lose() else [reply]

    def restart(self) -> None:
        """All sessions are forgotten."""
        self.sessions.clear()

    def _do(self, request: Said) -> Said:
        command = request["command"].decode()
        if command == "ping":
            return {"result": "pong"}
        self.heard.append(request)
        name = request["call-id"].decode()
        if command == "delete":
            return {"result": "ok"} if self.sessions.pop(name, None) else {"result": "ok", "warning": "not found"}
        if self.refusing is not None:
            return self.refusing
        if command == "answer" and name not in self.sessions:
            return {"result": "error", "error-reason": "Unknown call-id"}
        self.sessions.setdefault(name, []).append(request)
        return {
            "result": "ok",
            "sdp": marked(self.number, request.get("transport-protocol", b"answer"), request["sdp"]),
        }

    def commands(self) -> list[str]:
        """What was asked since the last look."""
        heard, self.heard = self.heard, []
        return [request["command"].decode() for request in heard]


def marked(number: int, what: bytes | str, sdp: bytes | str) -> bytes:
    """An SDP as instance `number` rewrites it: the offer's new protocol, or "answer", is on the first line."""
    what, sdp = (text.encode() if isinstance(text, str) else text for text in (what, sdp))
    return b"relay=%d %b\r\n%b" % (number, what, sdp)


class WithRelays(Bench):
    """A bench whose edge has media relays."""

    relays: list[Rtpengine]

    def carry(self, deliver: Callable[[], None]) -> None:
        """How a datagram to or from a relay gets there."""
        deliver()

    def collect(self) -> None:
        """What goes to relays is answered at once, as far as they do that."""
        while asked := self.edge.media_to_send():
            self.send_to_relays(asked)
        super().collect()

    def send_to_relays(self, asked: list[tuple[bytes, int]]) -> None:
        for datagram, number in asked:
            self.carry(partial(self._arrive, datagram, number))

    def _arrive(self, datagram: bytes, number: int) -> None:
        for reply in self.relays[number].take(datagram):
            self.carry(partial(self.heard, reply, number))

    def heard(self, reply: bytes, number: int) -> None:
        self.edge.media_received(reply, number, self.now)


class MediaBench(WithRelays):
    """An edge with media relays, and listeners of all transports."""

    def __init__(self, *of: Tenant, relays: int = 1) -> None:
        self.relays = [Rtpengine(number) for number in range(relays)]
        super().__init__(table(*of), settings_of(relays))

    def release(self) -> None:
        """The answers that were held back arrive."""
        for relay in self.relays:
            relay.holding = False
            held, relay.held = relay.held, []
            for reply in held:
                self.edge.media_received(reply, relay.number, self.now)
        self.collect()


def settings_of(relays: int) -> Settings:
    """Listeners of all transports, and so many relays."""
    listeners = tuple(Listener(transport, *EDGE, *EDGE) for transport in TRANSPORTS)
    return Settings(listeners, media=tuple(f"udp:192.0.2.{8 + number}:2223" for number in range(relays)))


class MediaHouse(House):
    """acme, whose connection relays media unless another is given."""

    def __init__(self, of: Tenant | None = None, relays: int = 1) -> None:
        self.bench: MediaBench = MediaBench(of or relayed(), relays=relays)
        self.pbx = self.bench.end(PBX)
        self._calls = 0
        self.asked = ""

    @property
    def relay(self) -> Rtpengine:
        return self.bench.relays[0]

    def phone_over(self, transport: str, extension: str = "101", place: int = 0) -> End:
        """A registered phone."""
        flow = Flow(transport, f"203.0.{place}.{extension}", 5062, TRANSPORTS.index(transport))
        phone = End(self.bench, flow)
        phone.register(extension=extension, Contact=f"<sip:{extension}@10.0.{place}.9:5062>;expires=600")
        return phone

    def rings(self, to: str = "101", from_: str = "sip:+4930@pbx.example", body: str = SDP, **headers: str) -> None:
        """The PBX calls, with an offer."""
        self._calls += 1
        uri = f"sip:{to}@acme.example"
        headers = {"Contact": f"<sip:{PBX}:5060>", **of_sdp(body), **headers}
        self.asked = self.pbx.request("INVITE", uri, from_=from_, to=uri, call_id=f"c{self._calls}", **headers)
        self.asked = with_body(self.asked, body)
        self.pbx.send(self.asked)

    def talk(self, phone: End, tag: str = "p", offer: str = SDP, answer: str = SDP) -> tuple[Message, Message]:
        """A call from the PBX that the phone answers: the INVITE as it came there, and the 200 as the PBX got it."""
        self.rings(body=offer)
        invite = phone.take("INVITE")
        phone.answer(invite, 200, tag, body=answer)
        self.pbx.take(100)
        ok = self.pbx.take(200)
        self.pbx.send(self.pbx.within(ok, "ACK", 1))
        phone.take("ACK")
        return invite, ok

    def assert_all_deleted(self) -> None:
        """After all timers: no relay knows of a session, and the edge of nothing but its phones and the next pings."""
        self.bench.pass_time(400)
        assert_all_deleted(self.bench)


def assert_all_deleted(bench: WithRelays) -> None:
    """No relay knows of a session, the edge of none either, and of nothing else but its phones and the next pings."""
    edge = bench.edge
    assert [relay.sessions for relay in bench.relays] == [{} for _ in bench.relays]
    assert not edge.faults, edge.faults
    assert not edge.calls_.calls
    assert not edge.calls_.dialogs
    assert [one["sessions"] for one in edge.media_relays()] == [0 for _ in bench.relays]
    assert not [relay.owed for relay in edge.media.instances if relay.owed or relay.deleting]
    assert len(edge.media._asked) <= len(bench.relays)
    assert not kept(bench)


def kept(bench: Bench) -> dict[str, dict[str, Any]]:
    """Records of sessions that a restart would find."""
    stored = bench.__dict__.setdefault("stored", {})
    for kind, key, record in bench.edge.take_changes():
        if kind == "media":
            stored.pop(key, None)
            if record is not None:
                stored[key] = record
    return dict(stored)


def relayed(media: str = "relay", **more: object) -> Tenant:
    """acme whose connection relays media, or not."""
    made = acme(**more)  # type: ignore[arg-type]
    return replace(made, connections=tuple(replace(one, media=media) for one in made.connections))


def of_sdp(body: str) -> dict[str, str]:
    return {"Content_Type": "application/sdp"} if body else {}


def with_body(text: str, body: str) -> str:
    return text.replace("Content-Length: 0", f"Content-Length: {len(body)}") + body
