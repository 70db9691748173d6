"""Forwards, ring groups and fall-backs between real sipp phones and PBXs, over both transports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Group, Member, OutboundRule, Table
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, faults, two_tenants
from tests.integration.sip.sipp import SippAtEdge, count, wait_until_bound
from tests.peers.wire import free_port
from tests.unit.core.bench import connection

pytestmark = pytest.mark.needs("sipp")
OTHER_PBX = "127.0.0.4"


@pytest.fixture(params=["udp", "tcp"])
def sipp(request: pytest.FixtureRequest, md5_node: Node, tmp_path: Path) -> SippAtEdge:
    return SippAtEdge(tmp_path, md5_node, request.param)


def load(sipp: SippAtEdge, of_first: dict[str, object] | None = None, **of_acme: object) -> None:
    """A table in which acme's 101 has these fields, and acme those."""
    made = two_tenants(free_port(PBX_HOST), sipp.transport, strategy="none")
    acme, globex = made.tenants
    users = (replace(acme.users[0], **(of_first or {})), acme.users[1])  # type: ignore[arg-type]
    tenants = (replace(acme, users=users, **of_acme), globex)  # type: ignore[arg-type]
    assert sipp.node.load(Table(made.installation, tenants))["ok"]


def ended(node: Node) -> list[dict[str, object]]:
    """The records of the calls, once there are some and none goes on."""
    found: list[dict[str, object]] = []

    def over() -> bool:
        page = node.ask("events", after=0, limit=500)
        found[:] = [event for event in page["events"] if event["kind"] == "call.ended"]
        return bool(found) and not node.ask("calls")["calls"]

    wait_for(over)
    assert faults(node) == 0
    return found


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"forward_always": "102"}, "answer"),
        ({"forward_busy": "102"}, "busy"),
        ({"forward_no_answer": "102", "ring_seconds": 5}, "ring"),
        ({"forward_busy": "102", "do_not_disturb": True}, "answer"),
        ({"forward_unreachable": "102"}, ""),
    ],
)
def test_a_forward_to_another_phone(sipp: SippAtEdge, fields: dict[str, object], first: str) -> None:
    load(sipp, fields)
    with sipp.phone(user="102") as two:
        if first:
            with sipp.phone(first, user="101"):
                caller = sipp.call("call_forwarded")
        else:
            caller = sipp.call("call_forwarded")
        (record,) = ended(sipp.node)
        assert record["user"] == "acme-102"
        assert count(caller, "SIP/2.0 181 Call Is Being Forwarded") == 1
        assert count(two, "Diversion: <sip:101@acme.example>;reason=") == 1
        assert count(two, "History-Info: ") == 2


def test_a_group_rings_all_and_one_answers(sipp: SippAtEdge) -> None:
    members = (Member(1, "acme-101"), Member(2, "acme-102"))
    load(sipp, groups=(Group("g", "600", "Sales", True, "all", members),))
    with sipp.phone("ring", user="101") as one, sipp.phone(user="102"):
        sipp.call("call_forwarded", user="101", service="600")
        (record,) = ended(sipp.node)
        assert record["user"] == "acme-102"
        wait_for(lambda: count(one, "CANCEL ") > 0)
        assert "Call completed elsewhere" in one.messages()


def test_a_group_takes_turns(sipp: SippAtEdge) -> None:
    members = (Member(1, "acme-101"), Member(2, "acme-102"))
    load(sipp, groups=(Group("g", "600", "Sales", True, "round_robin", members),))
    with sipp.phone(user="101") as one, sipp.phone(user="102") as two:
        for _ in range(4):
            sipp.call("call_forwarded", service="600")
        wait_for(lambda: count(one, "BYE ") == count(two, "BYE ") == 2)


def test_the_second_connection_takes_what_the_first_cannot(sipp: SippAtEdge) -> None:
    """Nobody is at the first PBX's port."""
    port = free_port(OTHER_PBX)
    second = connection(
        "second", source=OTHER_PBX, port=port, transport=sipp.transport, registrar_domain="second.example",
        strategy="none",
    )  # fmt: skip
    made = two_tenants(free_port(PBX_HOST), sipp.transport, strategy="none")
    acme = made.tenants[0]
    rule = OutboundRule("out", 1, "9", 0, "", acme.connections[0].id, fallback="second")
    acme = replace(acme, connections=(*acme.connections, second), outbound=(rule,))
    assert sipp.node.load(Table(made.installation, (acme, made.tenants[1])))["ok"]
    with sipp.start("answer", host=OTHER_PBX, port=port) as pbx:
        wait_until_bound(sipp.transport, OTHER_PBX, port)
        sipp.run("phone_calls", user="101", service="9000")
        pbx.wait()
        assert "INVITE sip:9000@second.example" in pbx.messages()
    (record,) = ended(sipp.node)
    assert record["connection"] == "second"
