"""Random calls with media relayed, over networks that lose, double and reorder, by relays that die: each session
that was offered is deleted in the end."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import pytest

from sipd.flow import Flow
from tests.unit.core.bench import PBX, tenant
from tests.unit.core.lossy import Agent, Leg, Network
from tests.unit.core.rtpengine import SDP, TRANSPORTS, MediaBench, assert_all_deleted
from tests.unit.core.test_chaos import NETWORKS, Town

CALLS = 40
"""In each run."""
OFFERING = (b"INVITE", b"UPDATE")


class Speaker(Agent):
    """An agent whose messages say where its media goes; two in three INVITEs with an offer, the others with none."""

    def send(self, text: str | bytes) -> None:
        super().send(spoken(text.replace("\n", "\r\n").encode() if isinstance(text, str) else text))


def spoken(data: bytes) -> bytes:
    """The message with an SDP where one belongs; the same one each time that it is sent."""
    first, _, rest = data.partition(b"\r\n")
    status = first.split(b" ")[1] if first.startswith(b"SIP/2.0") else b""
    seq, method = rest.partition(b"CSeq: ")[2].partition(b"\r\n")[0].split(b" ")
    call_id = rest.partition(b"Call-ID: ")[2].partition(b"\r\n")[0]
    offers = zlib.crc32(seq + call_id) % 3 > 0 or method == b"UPDATE"
    says = (method == b"ACK" and not offers) if not status else status in (b"183", b"200", b"180")
    if not (says if status or method == b"ACK" else offers) or (method not in OFFERING and method != b"ACK"):
        return data
    head = data.removesuffix(b"Content-Length: 0\r\n\r\n")
    return head + b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(SDP), SDP.encode())


class RelayedTown(Town):
    """A town whose connections relay media, by two relays that die and come back."""

    def __init__(self, seed: int, network: Mapping[str, float], transport: str) -> None:
        houses = (tenant(name, of_connection={"media": "relay"}) for name in ("acme", "globex"))
        self.bench: MediaBench = MediaBench(*houses, relays=2)
        self.net = Network(self.bench, seed, **network)
        self.phones = [
            self.phone("203.0.113.1", "101", "acme.example", transport),
            self.phone("203.0.113.2", "101", "acme.example", transport),
            self.phone("203.0.113.3", "102", "acme.example", transport),
            self.phone("203.0.113.4", "101", "globex.example", transport),
        ]
        self.pbx: Agent = Speaker(self.net, self.flow(PBX, 5060, transport))
        self.pbx.plan = lambda leg: self.take(self.pbx, leg)
        self.bench.carry = lambda deliver: self.net.carry(deliver, reliable=False)

    def flow(self, host: str, port: int, transport: str) -> Flow:
        return Flow(transport, host, port, TRANSPORTS.index(transport))

    def phone(self, host: str, extension: str, domain: str, transport: str) -> Agent:
        contact = f"<sip:{extension}@{host}:5062>;expires=3600"
        self.bench.end(host, 5062, transport).register(domain, extension, Contact=contact)
        phone = Speaker(self.net, self.flow(host, 5062, transport), extension)
        phone.plan = lambda leg: self.take(phone, leg)
        return phone

    def take(self, agent: Agent, leg: Leg) -> None:
        super().take(agent, leg)
        chance = self.net.chance
        if chance.random() < 0.2:
            relay = chance.choice(self.bench.relays)
            relay.up = False
            self.net.at(chance.choice((0.5, 5.0, 20.0)), lambda: setattr(relay, "up", True))
            if chance.random() < 0.3:
                relay.restart()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", [0, 1, 27, 28])
def test_every_session_that_was_offered_is_deleted(seed: int, network: str) -> None:
    town = RelayedTown(seed, NETWORKS[network], "udp")
    town.play(CALLS)
    town.net.loss = 0.0
    town.net.run(120)
    assert_all_deleted(town.bench)
    offered = {request["call-id"] for relay in town.bench.relays for request in relay.heard}
    assert len(offered) > CALLS / 4
    legs = [leg for agent in (town.pbx, *town.phones) for leg in agent.legs.values()]
    assert not [leg.call_id for leg in legs if not leg.over], "left in the call, or without an answer"
    assert sum(leg.final == 200 for leg in legs) > CALLS / 8
