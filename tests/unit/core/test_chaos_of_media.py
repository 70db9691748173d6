"""Random calls with media relayed, over networks that lose, double and reorder, by relays that die: each session
that was offered is deleted in the end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import pytest

from sipd.flow import Flow
from sipd.settings import Settings
from tests.unit.core.bench import Bench, table, tenant
from tests.unit.core.lossy import Agent, Leg
from tests.unit.core.rtpengine import SDP, MediaBench, Rtpengine, WithRelays, assert_all_deleted, settings_of
from tests.unit.core.test_chaos import NETWORKS, Town
from tests.unit.core.test_chaos_of_kills import DYING, Mortal, Nobody, is_refused_unheard

CALLS = 40
"""In each run."""
OFFERING = (b"INVITE", b"UPDATE")
TENANTS = tuple(tenant(name, of_connection={"media": "relay"}) for name in ("acme", "globex"))


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

    bench: WithRelays

    def node(self, settings: Settings | None) -> Bench:
        return CarryingBench(self)

    def agent(self, flow: Flow, extension: str = "") -> Agent:
        return Speaker(self.net, flow, extension)

    def take(self, agent: Agent, leg: Leg) -> None:
        super().take(agent, leg)
        chance = self.net.chance
        if chance.random() < 0.2:
            relay = chance.choice(self.bench.relays)
            relay.up = False
            self.net.at(chance.choice((0.5, 5.0, 20.0)), lambda: setattr(relay, "up", True))
            if chance.random() < 0.3:
                relay.restart()

    def play(self, calls: int) -> None:
        """As in any town; then the network and the relays are well, and time passes."""
        super().play(calls)
        self.net.loss = 0.0
        self.net.run(120)


class CarryingBench(MediaBench):
    """What goes to and from the relays goes over the town's network, once there is one."""

    def __init__(self, town: RelayedTown) -> None:
        self._town = town
        super().__init__(*TENANTS, relays=2)

    def carry(self, deliver: Callable[[], None]) -> None:
        carry_in(self._town, deliver)


class RelayedVillage(RelayedTown):
    """Such a town, whose node is killed at random moments."""

    bench: MortalBench

    def __init__(self, seed: int, network: Mapping[str, float]) -> None:
        self._seed = seed
        super().__init__(seed, network, "udp")
        self.bench.dying = DYING

    def node(self, settings: Settings | None) -> Bench:
        return MortalBench(self, self._seed)

    def play(self, calls: int) -> None:
        super().play(calls)
        self.bench.dying = 0.0
        self.net.run(400)


class MortalBench(Mortal, WithRelays):
    """What it has for relays goes after the commit, or is lost."""

    def __init__(self, town: RelayedTown, seed: int) -> None:
        self._town = town
        self.relays = [Rtpengine(number) for number in range(2)]
        super().__init__(seed, settings_of(2))
        self.life.routing = table(*TENANTS)
        self.load(self.life.routing)

    def carry(self, deliver: Callable[[], None]) -> None:
        carry_in(self._town, deliver)

    def collect(self) -> None:
        edge = self.edge
        if isinstance(edge, Nobody):
            return
        asked = edge.media_to_send()
        super().collect()
        if not edge.events.changes:
            self.send_to_relays(asked)

    def heard(self, reply: bytes, number: int) -> None:
        if not isinstance(self.edge, Nobody):
            super().heard(reply, number)


def carry_in(town: Town, deliver: Callable[[], None]) -> None:
    if hasattr(town, "net"):
        town.net.carry(deliver, reliable=False)
    else:
        deliver()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", [0, 1, 27, 28])
def test_every_session_that_was_offered_is_deleted(seed: int, network: str) -> None:
    town = RelayedTown(seed, NETWORKS[network], "udp")
    town.play(CALLS)
    assert_all_deleted(town.bench)
    assert_offered_and_ended(town)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(4))
def test_so_it_is_whenever_the_node_is_killed(seed: int, network: str) -> None:
    town = RelayedVillage(seed, NETWORKS[network])
    town.play(CALLS)
    town.bench.life.commit()
    assert town.bench.deaths > 3
    assert not [place for place in town.bench.life.state if place[0] == "media"]
    assert_all_deleted(town.bench)
    assert_offered_and_ended(town)


def assert_offered_and_ended(town: RelayedTown) -> None:
    """Enough was tried, and nobody was left in a call; but for what a lost refusal leaves (`test_chaos_of_kills`)."""
    offered = {request["call-id"] for relay in town.bench.relays for request in relay.heard}
    assert len(offered) > CALLS / 10
    legs = [leg for agent in (town.pbx, *town.phones) for leg in agent.legs.values()]
    assert any(leg.final == 200 for leg in legs)
    left = [leg for leg in legs if not leg.over]
    if isinstance(town, RelayedVillage):
        left = [leg for leg in left if not is_refused_unheard(town, leg)]
    assert not left, "left in the call, or without an answer"
