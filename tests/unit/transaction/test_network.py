"""A client layer and a server layer with a network between that loses, repeats and reorders: a list operation each."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from sipd.message.build import response as build_response
from tests.unit.transaction.ladder import UDP, Recorder

Packets = list[bytes]


class Network:
    """Two ends. The server answers by itself; each round both get what survived."""

    def __init__(self, fate: Callable[[Packets], Packets], answer: int) -> None:
        self.client, self.server = Recorder(), Recorder()
        self.fate = fate
        self.answer = answer
        self.answered = 0

    def deliver(self, sender: Recorder, receiver: Recorder) -> None:
        packets = [data for data, _ in sender.sent]
        sender.sent.clear()
        for data in self.fate(packets):
            receiver.heard = receiver.receive(data, UDP)

    def round(self) -> None:
        self.deliver(self.client, self.server)
        for tx in self.server.requests[self.answered :]:
            self.answered += 1
            for status in (180, self.answer):
                data = build_response(tx.request, status, None, "to1")
                self.server.layer.respond(tx, status, data, self.server.now)
        self.deliver(self.server, self.client)

    def run(self, method: str, until: float = 70.0) -> None:
        self.client.request(method)
        self.round()
        while True:
            due = [when for end in (self.client, self.server) if (when := end.timers.next()) is not None]
            if not due or min(due) > until:
                break
            for end in (self.client, self.server):
                end.now = min(due)
                end.timers.fire(end.now)
            self.round()

    def up(self) -> list[str]:
        """What the client's user heard."""
        return [line for line in self.client.heard if not line.startswith("<<")]


def lose_first(count: int) -> Callable[[Packets], Packets]:
    left = [count]

    def fate(packets: Packets) -> Packets:
        kept = packets[left[0] :]
        left[0] = max(0, left[0] - len(packets))
        return kept

    return fate


def test_no_fault() -> None:
    for method in ("INVITE", "OPTIONS"):
        net = Network(lambda packets: packets, 486)
        net.run(method)
        assert net.up() == [">> 180", ">> 486"]
        assert len(net.server.requests) == 1
        assert len(net.client.layer) == len(net.server.layer) == 0


def test_loss_of_the_first_packets() -> None:
    for method in ("INVITE", "OPTIONS"):
        for count in range(1, 6):
            net = Network(lose_first(count), 404)
            net.run(method)
            assert net.up()[-1] == ">> 404", (method, count)
            assert len(net.server.requests) == 1
            assert len(net.client.layer) == len(net.server.layer) == 0


def test_everything_is_lost() -> None:
    for method in ("INVITE", "OPTIONS"):
        net = Network(lambda packets: [], 200)
        net.run(method)
        assert net.up() == ["timeout"]
        assert net.server.requests == []


def test_duplication() -> None:
    for method in ("INVITE", "OPTIONS"):
        net = Network(lambda packets: [data for data in packets for _ in range(3)], 486)
        net.run(method)
        assert net.up().count(">> 486") == 1
        assert len(net.server.requests) == 1
        assert len(net.client.layer) == len(net.server.layer) == 0


def test_reordering() -> None:
    for method in ("INVITE", "OPTIONS"):
        net = Network(lambda packets: packets[::-1], 486)
        net.run(method)
        assert net.up() == [">> 486"], "a late 180 is absorbed"


def test_2xx_comes_up_each_time() -> None:
    net = Network(lambda packets: [data for data in packets for _ in range(2)], 200)
    net.run("INVITE")
    assert net.up() == [">> 180", ">> 180", ">> 200", ">> 200"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40), st.sampled_from(["INVITE", "OPTIONS"]))
def test_any_weather(weather: list[tuple[int, bool]], method: str) -> None:
    """Copies of each packet, and whether a batch is turned round: one request, at most one refusal, nothing left."""
    forecast = iter(weather)

    def fate(packets: Packets) -> Packets:
        arrived: Packets = []
        for data in packets:
            copies, turned = next(forecast, (1, False))
            arrived = [data] * copies + arrived if turned else arrived + [data] * copies
        return arrived

    net = Network(fate, 486)
    net.run(method, until=200.0)
    assert len(net.server.requests) <= 1
    assert net.up().count(">> 486") + net.up().count("timeout") == 1
    assert len(net.client.layer) == len(net.server.layer) == 0
    assert len(net.client.timers) == len(net.server.timers) == 0
