"""A blind transfer among three real phones of one tenant, over UDP and TCP: REFER, its NOTIFYs, and the new call.

Directly, and with each call through a real Kamailio.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.kamailio.registrar import KamailioRegistrar, kamailio_for_tests
from tests.integration.node import Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults, registered
from tests.peers.wire import Hop, free_port
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = pytest.mark.needs("baresip")


USERS = ("101", "102", "103")


def loaded(node: Node, strategy: str, **of_connection: object) -> None:
    """acme with three users, and the edge's own address."""
    routing = table(tenant("acme", strategy=strategy, extensions=USERS, of_connection=of_connection))
    routing = replace(routing, installation=replace(routing.installation, edge_hosts=("127.0.0.1",)))
    assert node.load(routing)["ok"]


def transferred(node: Node, folder: Path, transport: str, calls: int) -> None:
    """101 calls 102 and transfers it to 103; `calls` of the edge are one call of two phones."""
    edge = Hop(transport, "127.0.0.1", node.port)
    with contextlib.ExitStack() as stack:
        one, two, three = (
            stack.enter_context(Baresip(folder / user, user, "acme.example", PASSWORD, edge, answer))
            for user, answer in zip(USERS, ("manual", "auto", "auto"), strict=True)
        )
        wait_for(lambda: len(node.bindings()) == len(USERS))
        one.do("dial", "sip:102@acme.example")
        one.wait("CALL_ESTABLISHED")
        two.wait("CALL_ESTABLISHED")
        one.do("transfer", "sip:103@acme.example")
        three.wait("CALL_ESTABLISHED")
        wait_for(lambda: len(node.events("call.ended")) == calls)  # the first: who transferred has left
        assert len(node.ask("calls")["calls"]) == calls
        three.do("hangup")
        wait_for(lambda: len(node.events("call.ended")) == 2 * calls)
        assert {event["detail"]["code"] for event in node.events("call.ended")} == {200}
        assert not node.ask("calls")["calls"]
    assert faults(node) == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_directly(node: Node, tmp_path: Path, transport: str) -> None:
    loaded(node, "none", host=PBX_HOST, port=free_port(PBX_HOST), sources=(PBX_HOST,), internal_calls="always_direct")
    transferred(node, tmp_path, transport, 1)


@pytest.fixture
def kamailio(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    accounts = {"acme.pbx.example": dict.fromkeys(USERS, "pbx-secret")}
    yield from kamailio_for_tests(tmp_path / "kamailio", accounts=accounts)


@pytest.mark.needs("kamailio")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_through_kamailio(node: Node, kamailio: KamailioRegistrar, tmp_path: Path, transport: str) -> None:
    loaded(
        node, "on_behalf", host=kamailio.host, port=kamailio.port, transport=transport,
        sources=(f"{kamailio.host}:{kamailio.port}",), registrar_domain="acme.pbx.example",
    )  # fmt: skip
    wait_for(lambda: registered(node) == len(USERS))
    transferred(node, tmp_path, transport, 2)
