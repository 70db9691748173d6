"""Hostile peers in calls whose media are relayed, by relays that lose, refuse and die: no fault, no session stays."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sipd.routing.model import Table
from tests.unit.core.hostile import Attack, Siege, neighbourhoods
from tests.unit.core.rtpengine import SDP, MediaBench

ABOUT_SESSIONS = re.compile(rb"^CSeq: [0-9]+ (INVITE|ACK|PRACK|UPDATE)", re.MULTILINE).search
STEPS = 25
RELAYS = 2
REFUSALS = (
    None, None, None, {"result": "error", "error-reason": "Failed to parse SDP"}, {"result": "load limit"},
    {"result": "ok"}, {"result": "ok", "sdp": ["x"]}, {"result": 5}, {},
)  # fmt: skip
JUNK = (b"", b"x", b"x d", b"0 de", b"\xff d6:result2:oke", b"a 9999999999:x", b"a " + b"l" * 60_000)


class RelayedSiege(Siege):
    """All connections relay media."""

    def neighbourhoods(self) -> list[Table]:
        return [relayed(each) for each in neighbourhoods()]

    def make_bench(self, routing: Table) -> MediaBench:
        self.relays = MediaBench(relays=RELAYS)
        self.relays.load(routing)
        receive = self.relays.edge.receive
        self.relays.edge.receive = lambda data, flow, now: receive(speaking(data), flow, now)  # type: ignore[method-assign]
        return self.relays

    def left(self) -> Counter[str]:
        """Besides the instances, and for each the ping under way and the next one."""
        left = super().left()
        known = {name: size for name, size in left.items() if "MediaRelays" in name or "Instance" in name}
        assert not [name for name in known if "owed" in name or "sessions" in name], known
        assert sum(size for name, size in left.items() if name.endswith("timers")) <= 2 * RELAYS
        assert sum(size for name, size in known.items() if name.endswith("_asked")) <= RELAYS
        return +Counter({
            name: size for name, size in left.items()
            if name not in known and not name.endswith("timers") and "_Asked" not in name
        })  # fmt: skip

    def finish(self) -> None:
        for relay in self.relays.relays:
            relay.up, relay.refusing, relay.lose = True, None, bool
        super().finish()
        assert [relay.sessions for relay in self.relays.relays] == [{} for _ in range(RELAYS)]


class RelayedAttack(Attack):
    """Things happen to the relays, too."""

    def step(self) -> None:
        super().step()
        siege, chance = self.siege, self.chance
        assert isinstance(siege, RelayedSiege)
        relay = chance.choice(siege.relays.relays)
        act = chance.randrange(12)
        if act == 0:
            relay.up = not relay.up
        elif act == 1:
            relay.refusing = chance.choice(REFUSALS)
        elif act == 2:
            relay.lose = chance.choice((bool, lambda: chance.random() < 0.5))
        elif act == 3:
            relay.restart()
        elif act == 4:
            siege.bench.edge.media_received(chance.choice(JUNK), chance.randrange(RELAYS), siege.bench.now)
            siege.judge()


def speaking(data: bytes) -> bytes:
    """Two in three messages about sessions that have no body get an SDP, the same one each time."""
    head = data.removesuffix(b"Content-Length: 0\r\n\r\n")
    if head == data or ABOUT_SESSIONS(head) is None or b"Content-Type" in head or not zlib.crc32(data) % 3:
        return data
    return head + b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(SDP), SDP.encode())


def relayed(routing: Table) -> Table:
    tenants = (
        replace(each, connections=tuple(replace(one, media="relay") for one in each.connections))
        for each in routing.tenants
    )
    return replace(routing, tenants=tuple(tenants))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 2**32))
def test_a_siege_of_relayed_calls_ends_as_it_began(seed: int) -> None:
    """Catches: an exception on an odd answer of a relay, a line that stays shut, a session that nobody deletes."""
    siege = RelayedSiege()
    attack = RelayedAttack(siege, random.Random(seed))
    try:
        for _ in range(STEPS):
            attack.step()
        siege.finish()
    except BaseException as error:
        error.add_note("\n".join(siege.log[-4:]))
        raise
    assert siege.bench.edge.counters["media.offers"] > 0
