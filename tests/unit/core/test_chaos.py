"""Hundreds of random calls over a network that loses, doubles and reorders: each one ends, and nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from sipd.flow import Flow, Listener
from sipd.settings import Settings
from tests.unit.core import judge
from tests.unit.core.bench import EDGE, PBX, Bench, table, tenant
from tests.unit.core.lossy import Agent, Leg, Network
from tests.unit.core.talk import assert_nothing_left
from tests.unit.core.test_subscriptions import assert_none

CALLS = 60
"""In each run."""
NETWORKS: dict[str, dict[str, float]] = {
    "perfect": {},
    "late": {"slow": 0.4},
    "doubled": {"double": 0.4, "slow": 0.2},
    "lossy": {"loss": 0.1, "double": 0.1, "slow": 0.2},
    "awful": {"loss": 0.3, "double": 0.3, "slow": 0.3},
}
RUNS = [(network, "udp") for network in NETWORKS] + [("perfect", "tcp")]


PERFECT_ENDS = {(200, False)}
ENDS = PERFECT_ENDS | {(481, True)}
"""Code of an answered call's end, and whether the edge ended it: it does when a 481 overtakes the BYE behind it."""


class Town:
    """A PBX, two phones of acme's 101 and one of 102, one of globex' 101, and what they do with calls by chance."""

    def __init__(
        self, seed: int, network: Mapping[str, float], transport: str, settings: Settings | None = None
    ) -> None:
        self.bench = self.node(settings)
        self.net = Network(self.bench, seed, **network)
        self.phones = [
            self.phone("203.0.113.1", "101", "acme.example", transport),
            self.phone("203.0.113.2", "101", "acme.example", transport),
            self.phone("203.0.113.3", "102", "acme.example", transport),
            self.phone("203.0.113.4", "101", "globex.example", transport),
        ]
        self.pbx = self.agent(self.flow(PBX, 5060, transport))
        self.pbx.plan = lambda leg: self.take(self.pbx, leg)

    def node(self, settings: Settings | None) -> Bench:
        return Bench(table(tenant("acme"), tenant("globex")), settings)

    def agent(self, flow: Flow, extension: str = "") -> Agent:
        return Agent(self.net, flow, extension)

    def flow(self, host: str, port: int, transport: str) -> Flow:
        return Flow(transport, host, port, 0 if transport == "udp" else 1)

    def phone(self, host: str, extension: str, domain: str, transport: str) -> Agent:
        contact = f"<sip:{extension}@{host}:5062>;expires=3600"
        self.bench.end(host, 5062, transport).register(domain, extension, Contact=contact)
        phone = self.agent(self.flow(host, 5062, transport), extension)
        phone.plan = lambda leg: self.take(phone, leg)
        return phone

    def take(self, agent: Agent, leg: Leg) -> None:
        """Ring, answer, refuse or do nothing; and then talk, change the session and hang up."""
        chance, net = self.net.chance, self.net
        assert leg.invite is not None
        act = chance.random()
        if act > 0.05:
            agent.answer(leg.invite, 180, leg.tag)
        if act < 0.6:
            net.at(chance.choice((0.0, 0.1, 3.0)), lambda: agent.finish(leg, 200))
        elif act < 0.9:
            net.at(chance.choice((0.0, 2.0)), lambda: agent.finish(leg, chance.choice((486, 480, 603, 500))))
        for _ in range(chance.choice((0, 0, 1, 3))):
            net.at(6 * chance.random(), lambda: self.talk(agent, leg))
        if chance.random() < 0.5:
            net.at(8 * chance.random(), lambda: agent.bye(leg))

    def talk(self, agent: Agent, leg: Leg) -> None:
        if leg.final == 200 and not leg.over and leg.waiting is None:
            agent.ask(leg, self.net.chance.choice(("INVITE", "INFO", "UPDATE")))

    def place(self) -> None:
        """A call from the PBX or a phone, perhaps cancelled, perhaps hung up."""
        chance = self.net.chance
        caller = chance.choice((self.pbx, self.pbx, *self.phones))
        domain = chance.choice(("acme.example", "globex.example"))
        cancel_after = chance.choice((0.0, 0.0, 0.0, 0.01, 0.05, 1.0, 4.0))
        if caller is self.pbx:
            uri = f"sip:{chance.choice(('101', '101', '102', '999'))}@{domain}"
            leg = caller.call(uri, "sip:+4930@pbx.example", cancel_after)
        else:
            home = "globex.example" if caller is self.phones[3] else "acme.example"
            leg = caller.call(f"sip:+49301@{home}", f"sip:{caller.extension}@{home}", cancel_after)
        for _ in range(chance.choice((0, 0, 1, 2))):
            self.net.at(1 + 8 * chance.random(), lambda: self.talk(caller, leg))
        if chance.random() < 0.8:
            self.net.at(0.5 + 10 * chance.random(), lambda: caller.bye(leg))

    def play(self, calls: int) -> None:
        """Place calls; after a minute everybody hangs up, and time passes."""
        for _ in range(calls):
            self.place()
            self.net.run(self.net.chance.random())
        self.net.run(60)
        for agent in (self.pbx, *self.phones):
            for leg in agent.legs.values():
                agent.bye(leg)
        self.net.run(400)


@pytest.mark.parametrize(("network", "transport"), RUNS)
@pytest.mark.parametrize("seed", [0, 1, 27])
def test_every_call_ends_and_nothing_is_left(seed: int, network: str, transport: str) -> None:
    town = Town(seed, NETWORKS[network], transport)
    town.play(CALLS)
    assert_nothing_left(town.bench)
    records = assert_recorded_once(town.bench)
    agents = (town.pbx, *town.phones)
    legs = [leg for agent in agents for leg in agent.legs.values()]
    assert not [leg.call_id for leg in legs if not leg.over], "left in the call, or without an answer"
    assert not [leg.call_id for leg in legs if leg.waiting is not None], "an answer without its ACK"
    assert sum(leg.final == 200 for leg in legs) > CALLS / 4
    if network != "awful":
        assert not [method for agent in agents for method in agent.timeouts]
        assert_recorded_as_seen(records, legs, ends=PERFECT_ENDS if network == "perfect" else ENDS)
    town.bench.load(table())
    town.net.run(60)
    assert not judge.sizes(town.bench.edge), "kept although nobody is there any more"


class Square(Town):
    """A town where calls are transferred, phones watch each other, and ends vanish without a word."""

    def __init__(self, seed: int, network: Mapping[str, float], transport: str) -> None:
        listeners = tuple(Listener(t, *EDGE, *EDGE) for t in ("udp", "tcp"))
        quick = Settings(listeners, session_expires=90, session_min=90, session_probe=60.0, refer_life=60.0)
        super().__init__(seed, network, transport, quick)
        for agent in (self.pbx, *self.phones):
            agent.watched = lambda leg, agent=agent: self.watch(agent, leg)  # type: ignore[misc]

    def watch(self, notifier: Agent, leg: Leg) -> None:
        """A NOTIFY at once, more by chance; most say when it is over."""
        chance, net = self.net.chance, self.net
        for _ in range(chance.choice((1, 1, 2, 5))):
            net.at(10 * chance.random(), lambda: notifier.notify(leg, "active"))
        if chance.random() < 0.8:
            net.at(5 + 60 * chance.random(), lambda: notifier.notify(leg, "terminated"))

    def talk(self, agent: Agent, leg: Leg) -> None:
        """Also transfers, with all that is said about them."""
        chance = self.net.chance
        if leg.final != 200 or leg.over or leg.waiting is not None or leg.silent:
            return
        act = chance.random()
        if act < 0.2:
            agent.ask(leg, "REFER", "Refer-To: <sip:102@acme.example>\n")
        elif act < 0.4:
            state = chance.choice(("active", "terminated"))
            agent.ask(leg, "NOTIFY", f"Event: refer\nSubscription-State: {state}\n")
        elif act < 0.7:
            leg.silent = True
        else:
            super().talk(agent, leg)

    def place(self) -> None:
        act = self.net.chance.random()
        if act < 0.4:
            self.subscribe()
        elif act < 0.6 and self.pbx.legs:
            named = self.net.chance.choice(list(self.pbx.legs.values())).name
            self.pbx.call("sip:101@acme.example", "sip:+4930@pbx.example", 0.0, f"Replaces: {named}\n")
        elif act < 0.8:
            uri = f"sip:{self.net.chance.choice(('101', '102'))}@acme.example"
            timed = "Supported: timer\nSession-Expires: 90\n"
            leg = self.pbx.call(uri, "sip:+4930@pbx.example", 0.0, timed)
            for _ in range(4):
                self.net.at(60 * self.net.chance.random(), lambda: self.talk(self.pbx, leg))
        else:
            super().place()

    def subscribe(self) -> None:
        chance = self.net.chance
        caller = chance.choice((self.pbx, *self.phones))
        if caller is self.pbx:
            leg = caller.subscribe("sip:101@acme.example", "sip:x@pbx.example")
        else:
            home = "globex.example" if caller is self.phones[3] else "acme.example"
            leg = caller.subscribe(f"sip:102@{home}", f"sip:{caller.extension}@{home}")
        for _ in range(chance.choice((0, 1, 3))):
            self.net.at(1 + 60 * chance.random(), lambda: self.refresh(caller, leg))

    def refresh(self, caller: Agent, leg: Leg) -> None:
        if leg.final and not leg.over:
            expires = self.net.chance.choice((0, 60, 120, 120))
            caller.ask(leg, "SUBSCRIBE", f"Event: dialog\nExpires: {expires}\n")


@pytest.mark.parametrize(("network", "transport"), RUNS)
@pytest.mark.parametrize("seed", range(3))
def test_transfers_subscriptions_and_vanished_ends(seed: int, network: str, transport: str) -> None:
    town = Square(seed, NETWORKS[network], transport)
    town.play(CALLS)
    town.net.run(400)
    assert_none(town.bench)
    assert_recorded_once(town.bench, CALLS / 4)
    agents = (town.pbx, *town.phones)
    legs = [leg for agent in agents for leg in agent.legs.values()]
    assert not [leg.call_id for leg in legs if not (leg.over or leg.silent)], "left in the call, or without an answer"
    assert any(leg.silent for leg in legs)
    assert sum(bool(leg.final) for agent in town.phones for leg in agent.watches.values()) > 3


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller", [0, 4], ids=["phone", "pbx"])
def test_a_caller_that_never_acknowledges_is_hung_up_on(caller: int, transport: str) -> None:
    """RFC 3261 13.3.1.4: without its ACK a 2xx is given up, and both ends are told; the record says why."""
    town = Town(1, NETWORKS["perfect"], transport)
    agents = (*town.phones, town.pbx)
    silent = agents[caller]
    silent.acknowledge = lambda ask, answer: None  # type: ignore[method-assign]
    for agent in agents:
        agent.plan = lambda leg, agent=agent: agent.finish(leg, 200)  # type: ignore[misc]
    if silent is town.pbx:
        silent.call("sip:102@acme.example", "sip:+4930@pbx.example")
    else:
        silent.call("sip:+49301@acme.example", f"sip:{silent.extension}@acme.example")
    town.net.run(200)
    legs = [leg for agent in agents for leg in agent.legs.values()]
    assert [leg.final for leg in legs].count(200) == 2
    assert all(leg.over for leg in legs if leg.final == 200), "a leg that nobody ended"
    assert_nothing_left(town.bench)
    (end,) = [e["detail"] for e in town.bench.edge.take_events() if e["kind"] == "call.ended"]
    assert (end["code"], end["reason"], end["by"]) == (408, "No ACK", "edge")


def assert_recorded_as_seen(records: list[dict[str, Any]], legs: list[Leg], ends: set[tuple[int, bool]]) -> None:
    """What the records say of each call is what its caller was told."""
    told = [leg.final for leg in legs if leg.invite is None]
    answered = [record for record in records if record["answered"] is not None]
    refused = Counter(record["code"] for record in records if record["answered"] is None)
    assert len(answered) == told.count(200)
    assert refused <= Counter(told), "a refusal that nobody got"
    assert {(record["code"], record["by"] == "edge") for record in answered} <= ends
    assert all(record["started"] <= record["answered"] <= record["ended"] for record in answered)


def assert_recorded_once(bench: Bench, least: float = CALLS / 2) -> list[dict[str, Any]]:
    """Each call that began has one end, and was answered at most once; the details of the ends."""
    events = bench.edge.take_events()
    kinds = Counter((e["kind"], e["detail"]["call"]) for e in events if "call" in e["detail"])
    started = {call for kind, call in kinds if kind == "call.started"}
    assert started == {call for kind, call in kinds if kind == "call.ended"}
    assert set(kinds.values()) == {1}
    assert len(started) > least
    return [e["detail"] for e in events if e["kind"] == "call.ended"]
