"""A blind transfer among three real phones of one tenant, over UDP and TCP: REFER, its NOTIFYs, and the new call."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.node import Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults
from tests.peers.wire import Hop, free_port
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = pytest.mark.needs("baresip")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_blind_transfer(node: Node, tmp_path: Path, transport: str) -> None:
    link = {
        "host": PBX_HOST, "port": free_port(PBX_HOST), "sources": (PBX_HOST,), "internal_calls": "always_direct",
    }  # fmt: skip
    routing = table(tenant("acme", extensions=("101", "102", "103"), of_connection=link))
    routing = replace(routing, installation=replace(routing.installation, edge_hosts=("127.0.0.1",)))
    assert node.load(routing)["ok"]
    edge = Hop(transport, "127.0.0.1", node.port)
    with contextlib.ExitStack() as stack:
        one, two, three = (
            stack.enter_context(Baresip(tmp_path / user, user, "acme.example", PASSWORD, edge, answer))
            for user, answer in (("101", "manual"), ("102", "auto"), ("103", "auto"))
        )
        wait_for(lambda: len(node.bindings()) == 3)
        one.do("dial", "sip:102@acme.example")
        one.wait("CALL_ESTABLISHED")
        two.wait("CALL_ESTABLISHED")
        one.do("transfer", "sip:103@acme.example")
        three.wait("CALL_ESTABLISHED")
        wait_for(lambda: len(node.events("call.ended")) == 1)  # the first: who transferred has left
        assert len(node.ask("calls")["calls"]) == 1
        three.do("hangup")
        wait_for(lambda: len(node.events("call.ended")) == 2)
        assert {event["detail"]["code"] for event in node.events("call.ended")} == {200}
        assert not node.ask("calls")["calls"]
    assert faults(node) == 0
