"""Three Linphones of one tenant, over UDP and TCP: hold, and an attended transfer by REFER with Replaces.

It catches a Replaces that names the call as the wrong leg knows it: the transfer then rings a second time, or nobody.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, faults
from tests.integration.sip.linphone import Linphone
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = pytest.mark.needs("linphone-daemon")
USERS = ("101", "102", "103")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_an_attended_transfer(node: Node, tmp_path: Path, transport: str) -> None:
    link = {"host": PBX_HOST, "sources": (PBX_HOST,), "internal_calls": "always_direct"}
    routing = table(tenant("acme", extensions=USERS, of_connection=link))
    node.load(replace(routing, installation=replace(routing.installation, edge_hosts=("127.0.0.1",))))
    edge = Hop(transport, "127.0.0.1", node.port)
    with contextlib.ExitStack() as stack:
        one, two, _ = (
            stack.enter_context(Linphone(tmp_path / user, user, "acme.example", PASSWORD, edge)) for user in USERS
        )
        wait_for(lambda: len(node.bindings()) == len(USERS))
        first = one.call("sip:102@acme.example")
        wait_for(lambda: one.do(f"call-status {first}")["State"] == "LinphoneCallStreamsRunning")
        one.do(f"call-pause {first}")
        wait_for(lambda: one.do(f"call-status {first}")["State"] == "LinphoneCallPaused")
        second = one.call("sip:103@acme.example")
        wait_for(lambda: one.do(f"call-status {second}")["State"] == "LinphoneCallStreamsRunning")
        one.do(f"call-transfer {first} {second}")
        wait_for(lambda: len(node.events("call.ended")) == 2)  # the first: who transferred has left both
        (left,) = node.ask("calls")["calls"]
        assert (left["from"], left["to"], left["state"]) == ("sip:102@acme.example", "sip:103@acme.example", "answered")
        two.do("terminate 2")  # its first call was the one that was transferred
        wait_for(lambda: not node.ask("calls")["calls"])
    assert [event["detail"]["code"] for event in node.events("call.ended")] == [200, 200, 200]
    assert faults(node) == 0
