"""Registrations at real Kamailios that are killed and started anew: noticed, paced, and from one to the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Alternate, Table
from tests.integration.kamailio.registrar import KamailioRegistrar, kamailio_for_tests
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import faults, registered
from tests.unit.core.bench import table, tenant

pytestmark = pytest.mark.needs("kamailio")
DOMAIN = "acme.pbx.example"
USERS = tuple(str(number) for number in range(100, 130))
ACCOUNTS = {DOMAIN: dict.fromkeys(USERS, "pbx-secret")}
RATE = 10
PATIENCE = 90.0
"""Seconds: to notice that a PBX is silent takes some fifteen."""


@pytest.fixture
def first(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    yield from kamailio_for_tests(tmp_path / "first", accounts=ACCOUNTS)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    yield from kamailio_for_tests(tmp_path / "second", accounts=ACCOUNTS)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Node]:
    """A node that asks PBXs every second, and registers slowly."""
    node = Node(tmp_path)
    node.start(
        "--set=options_interval=1", f"--set=upstream_rate={RATE}", "--set=retry_cap=3600", "--set=retry_first=300"
    )
    yield node
    node.close()


def routing(transport: str, first: KamailioRegistrar, *others: KamailioRegistrar) -> Table:
    alternates = tuple(Alternate(n, other.host, other.port) for n, other in enumerate(others, 1))
    link = {
        "host": first.host, "port": first.port, "transport": transport, "registrar_domain": DOMAIN,
        "sources": tuple(f"{one.host}:{one.port}" for one in (first, *others)), "alternates": alternates,
    }  # fmt: skip
    made = table(tenant("acme", strategy="on_behalf", extensions=USERS, of_connection=link))
    return replace(made, installation=replace(made.installation, edge_hosts=("127.0.0.1",)))


def known(kamailio: KamailioRegistrar) -> int:
    """How many users are registered there."""
    return sum(bool(kamailio.contacts(f"{user}@{DOMAIN}")) for user in USERS)


def all_at(node: Node, kamailio: KamailioRegistrar, transport: str) -> bool:
    places = {row["at"] for row in node.upstream()}
    return registered(node) == len(USERS) and places == {f"{transport}:{kamailio.host}:{kamailio.port}"}


def events(node: Node) -> list[tuple[str, str]]:
    return [(e["kind"], e["detail"]["address"]) for e in node.events() if e["kind"].startswith("pbx.")]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_all_are_back_at_the_pace_after_kamailio_was_killed(
    watching: Node, first: KamailioRegistrar, transport: str
) -> None:
    """By itself: nobody asks for it, no refresh is due, and no retry either."""
    node, address = watching, f"{transport}:{first.host}:{first.port}"
    assert node.load(routing(transport, first))["ok"]
    wait_for(lambda: known(first) == len(USERS), PATIENCE)
    first.kill()
    wait_for(lambda: ("pbx.down", address) in events(node), PATIENCE)
    first.start_again()
    begun = time.monotonic()
    assert known(first) <= RATE
    wait_for(lambda: known(first) == len(USERS), PATIENCE)
    assert time.monotonic() - begun >= (len(USERS) - 2 * RATE) / RATE  # no faster than the pace
    wait_for(lambda: registered(node) == len(USERS))
    assert events(node) == [("pbx.down", address), ("pbx.up", address)]
    assert faults(node) == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_to_the_alternate_and_back(
    watching: Node, first: KamailioRegistrar, second: KamailioRegistrar, transport: str
) -> None:
    node = watching
    assert node.load(routing(transport, first, second))["ok"]
    wait_for(lambda: all_at(node, first, transport), PATIENCE)
    assert known(second) == 0
    first.kill()
    wait_for(lambda: all_at(node, second, transport), PATIENCE)
    assert known(second) == len(USERS)
    first.start_again()
    wait_for(lambda: all_at(node, first, transport), PATIENCE)
    assert known(first) == len(USERS)
    wait_for(lambda: known(second) == 0)  # taken back, long before it would have expired
    assert faults(node) == 0
