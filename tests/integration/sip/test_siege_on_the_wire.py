"""The messages of the sieges (tests/unit/core/hostile.py), at a real daemon: its sockets, resolver, store and spool.

Catches what the core's own tests cannot see: an event or record that the shell cannot write, a name that the resolver
chokes on, a stream whose fault ends more than itself.
"""

from __future__ import annotations

import random
import socket

import pytest

from tests.integration.node import Node
from tests.integration.sip.conftest import PBX_HOST, allowing, faults, two_tenants
from tests.integration.sip.test_torture_on_the_wire import alive
from tests.peers.wire import free_port
from tests.unit.core.bench import PBX
from tests.unit.core.hostile import Attack, Siege

STEPS = 60
SEEDS = range(6)
CALM = 0.05
"""Seconds that a stream's answers are waited for."""


class Recorded(Siege):
    """Keeps what its peers send."""

    def __init__(self) -> None:
        self.strikes: list[tuple[bytes, str]] = []
        super().__init__()

    def strike(self, data: bytes, flow: object) -> None:  # type: ignore[override]
        self.strikes.append((data, flow.host))  # type: ignore[attr-defined]
        super().strike(data, flow)  # type: ignore[arg-type]


def strikes(seed: int) -> list[tuple[bytes, str]]:
    """Messages, and the loopback address that each comes from; the PBX's address is the real one's."""
    siege = Recorded()
    attack = Attack(siege, random.Random(seed))
    for _ in range(STEPS):
        attack.step()
    hosts = {PBX: PBX_HOST}
    return [
        (data.replace(PBX.encode(), PBX_HOST.encode()), hosts.get(host, "127.0.0.9")) for data, host in siege.strikes
    ]


def test_over_udp(node: Node) -> None:
    assert node.load(allowing(two_tenants(free_port(PBX_HOST)), "127.0.0.0/8"))["ok"]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        pbx.bind((PBX_HOST, 0))
        stranger.bind(("127.0.0.9", 0))
        for seed in SEEDS:
            for data, host in strikes(seed):
                (pbx if host == PBX_HOST else stranger).sendto(data, (node.host, node.port))
            alive(node)
    assert faults(node) == 0
    kinds = {event["kind"] for event in node.events()}
    assert {"refused", "call.started", "call.ended"} <= kinds, "it did not get far"


@pytest.mark.parametrize("host", [PBX_HOST, "127.0.0.9"])
def test_over_tcp(node: Node, host: str) -> None:
    """Each seed in one stream, until the edge closes it; then in another."""
    assert node.load(allowing(two_tenants(free_port(PBX_HOST), "tcp"), "127.0.0.0/8"))["ok"]
    for seed in SEEDS:
        waiting = [data for data, _ in strikes(seed)]
        while waiting:
            with socket.create_connection((node.host, node.port), 5, (host, 0)) as stream:
                stream.settimeout(CALM)
                try:
                    while waiting:
                        stream.sendall(waiting.pop(0))
                        if len(waiting) % 10 == 0 and not stream.recv(65535):
                            break
                except TimeoutError:
                    continue
                except OSError:
                    continue
        alive(node)
    assert faults(node) == 0
