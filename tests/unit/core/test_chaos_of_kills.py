"""Random calls over a network, while the node is killed at random moments: each call ends for both ends, and once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from sipd.flow import Flow
from sipd.settings import Settings
from tests.unit.core import judge
from tests.unit.core.bench import Bench, table, tenant
from tests.unit.core.crash import Life, start_again
from tests.unit.core.lossy import Leg
from tests.unit.core.talk import assert_nothing_left
from tests.unit.core.test_chaos import NETWORKS, Town

CALLS = 40
"""In each run."""
AWAY = (0.0, 0.1, 1.0, 10.0)
"""Seconds that a node is away."""
DYING = 0.08
"""Chance to die with a batch."""


class Nobody:
    """In the node's place while it is away."""

    def __init__(self, back: Callable[[], None], at: float) -> None:
        self.back, self.at = back, at

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Lost."""

    def next_timer(self) -> float:
        return self.at

    def handle_timer(self, now: float) -> None:
        if now >= self.at:
            self.back()


class Mortal(Bench):
    """A node that commits, then sends, and dies before, between or after, by chance. What it had not committed is
    forgotten, what it had not sent is lost."""

    def __init__(self, seed: int, settings: Settings | None = None) -> None:
        self.chance = random.Random(1000 + seed)
        self.dying = 0.0
        self.deaths = 0
        routing = table(tenant("acme"), tenant("globex"))
        self.life = Life(self, routing)
        super().__init__(routing, settings)

    def collect(self) -> None:
        if isinstance(self.edge, Nobody):
            return
        assert not self.edge.faults, self.edge.faults
        said = self.edge.datagrams_to_send()
        dies = bool(said) and self.chance.random() < self.dying
        if not dies or self.chance.random() < 0.7:
            self.life.commit()
            self.sent += said[: self.chance.randrange(len(said) + 1)] if dies else said
        if dies:
            self.deaths += 1
            self.edge = Nobody(self.back, self.now + self.chance.choice(AWAY))  # type: ignore[assignment]

    def back(self) -> None:
        start_again(self, self.life.state, self.life.routing)


class Village(Town):
    """A town whose node is mortal."""

    bench: Mortal

    def __init__(self, seed: int, network: Mapping[str, float], transport: str) -> None:
        self.seed = seed
        super().__init__(seed, network, transport)
        self.bench.dying = DYING

    def node(self, settings: Settings | None) -> Bench:
        return Mortal(self.seed, settings)


def is_refused_unheard(town: Town, leg: Leg) -> bool:
    """A refusal at once is not kept: when it is lost, and the node dies before it sends it again, a caller that had the
    100 waits until it gives up by itself."""
    asks = [ask for agent in (town.pbx, *town.phones) for ask in agent.asks.values() if ask.leg is leg]
    return {ask.status for ask in asks if ask.method == "INVITE"} <= {100, 401} and not leg.final


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(6))
def test_every_call_ends_once_whenever_the_node_dies(seed: int, network: str) -> None:
    town = Village(seed, NETWORKS[network], "udp")
    town.play(CALLS)
    life = town.bench.life
    town.bench.dying = 0.0
    town.net.run(400)
    assert town.bench.deaths > 3
    assert_nothing_left(town.bench)
    life.commit()
    assert life.kinds() == []
    agents = (town.pbx, *town.phones)
    legs = [leg for agent in agents for leg in agent.legs.values()]
    left = [leg for leg in legs if not leg.over]
    if NETWORKS[network].get("loss"):
        left = [leg for leg in left if not is_refused_unheard(town, leg)]
    assert not left, "left in the call, or without an answer"
    assert not [leg.call_id for leg in legs if leg.waiting is not None], "an answer without its ACK"
    counts = Counter((event["kind"], event["detail"]["call"]) for event in life.events if "call" in event["detail"])
    started = {call for kind, call in counts if kind == "call.started"}
    assert started == {call for kind, call in counts if kind == "call.ended"}
    assert {many for (kind, _), many in counts.items() if kind.startswith("call.")} == {1}
    assert len(started) > CALLS / 4
    town.bench.load(table())
    town.net.run(60)
    assert not judge.sizes(town.bench.edge), "kept although nobody is there any more"
