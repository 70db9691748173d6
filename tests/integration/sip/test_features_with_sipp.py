"""Forwards, groups, hours, limits, caller ids, rules for calls, and requests outside: sipp over both transports."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Group, Limits, Member, OutboundRule, Schedule, Table
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, faults, two_tenants
from tests.integration.sip.sipp import SippAtEdge, count, scenario_file, wait_until_bound
from tests.peers.wire import free_port
from tests.unit.core.bench import connection

pytestmark = pytest.mark.needs("sipp")
OTHER_PBX = "127.0.0.4"
NEVER = Schedule("never", "Closed", "Europe/Berlin")
ONE_CALL, ONE_A_SECOND = Limits(calls=1), Limits(calls_per_second=1)


@pytest.fixture(params=["udp", "tcp"])
def sipp(request: pytest.FixtureRequest, md5_node: Node, tmp_path: Path) -> SippAtEdge:
    return SippAtEdge(tmp_path, md5_node, request.param)


def load(
    sipp: SippAtEdge,
    of_first: dict[str, object] | None = None,
    of_connection: dict[str, object] | None = None,
    pbx_port: int = 0,
    **of_acme: object,
) -> None:
    """A table in which acme's 101 has these fields, its connection those, and acme the others."""
    port = pbx_port or free_port(PBX_HOST)
    made = two_tenants(port, sipp.transport, strategy="none", **(of_connection or {}))
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
        ({"schedule": "never", "forward_closed": "102"}, "answer"),
    ],
)
def test_a_forward_to_another_phone(sipp: SippAtEdge, fields: dict[str, object], first: str) -> None:
    load(sipp, fields, schedules=(NEVER,))
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


def test_a_group_rings_in_turn(sipp: SippAtEdge) -> None:
    members = (Member(1, "acme-101"), Member(2, "acme-102"))
    load(sipp, groups=(Group("g", "600", "Sales", True, "in_turn", members),))
    with sipp.phone("busy", user="101") as one, sipp.phone(user="102") as two:
        for _ in range(2):
            sipp.call("call_forwarded", service="600")
        wait_for(lambda: count(one, "ACK ") == count(two, "BYE ") == 2)


@pytest.mark.parametrize(
    ("fields", "status", "rule"),
    [
        ({"do_not_disturb": True}, "486 Do Not Disturb", "do-not-disturb"),
        ({"schedule": "never"}, "480 Closed", "closed"),
    ],
)
def test_nobody_is_disturbed(sipp: SippAtEdge, fields: dict[str, object], status: str, rule: str) -> None:
    load(sipp, fields, schedules=(NEVER,))
    with sipp.phone() as phone:
        assert count(sipp.call("call_refused"), f"SIP/2.0 {status[:3]}") == 1
        assert not count(phone, "INVITE ")
        (refusal,) = sipp.node.events("refused")
        assert refusal["rule"] == rule


def test_phones_ring_one_after_the_other_by_preference(sipp: SippAtEdge) -> None:
    load(sipp, {"fork": "serial"})
    with sipp.phone("answer", q="0.3") as last, sipp.phone("busy", q="0.5") as second, sipp.phone("busy") as first:
        sipp.call()
        ended(sipp.node)
        assert [count(phone, "INVITE ") for phone in (first, second, last)] == [1, 1, 1]
        assert count(last, "BYE ") == 1


@pytest.mark.parametrize("of", ["user", "connection", "tenant"])
def test_a_second_call_is_over_the_limit(sipp: SippAtEdge, of: str) -> None:
    limited = {"limits": ONE_CALL}
    load(
        sipp,
        limited if of == "user" else {},
        limited if of == "connection" else {},
        **limited if of == "tenant" else {},
    )
    with sipp.phone("ring") as phone, sipp.start("call_forwarded", host=PBX_HOST):
        wait_for(lambda: count(phone, "INVITE "))
        refused = sipp.call("call_refused")
        assert count(refused, "SIP/2.0 486" if of == "user" else "SIP/2.0 503") == 1
        assert ("Retry-After: 10" in refused.messages()) == (of != "user")
        (refusal,) = sipp.node.events("refused")
        assert refusal["rule"] == f"limit-{of}-calls"


def test_calls_come_too_fast(sipp: SippAtEdge) -> None:
    load(sipp, limits=ONE_A_SECOND)
    with sipp.phone("busy"):
        run = sipp.call("call_refused", calls=4, rate=100)
        assert count(run, "SIP/2.0 503") >= 2
        assert "Retry-After: 1\r" in run.messages() or "Retry-After: 1\n" in run.messages()


@pytest.mark.parametrize("hidden", [False, True])
def test_a_number_is_rewritten_and_the_caller_shown_or_hidden(sipp: SippAtEdge, hidden: bool) -> None:
    port = free_port(PBX_HOST)
    rule = OutboundRule("out", 1, "", 1, "+49", "acme-pbx", pattern="0X.")
    shown = {"caller_id": "+4930111", "hide_caller_id": hidden}
    load(sipp, shown, {"caller_id": "both"}, port, outbound=(rule,))
    with sipp.start("answer", host=PBX_HOST, port=port) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        sipp.run("phone_calls", user="101", service="030222")
        pbx.wait()
        asked = pbx.messages()
        assert "INVITE sip:+4930222@acme.pbx.example" in asked
        assert "P-Asserted-Identity: " in asked
        assert "sip:+4930111@acme.pbx.example" in asked
        assert ('From: "Anonymous" <sip:anonymous@anonymous.invalid>' in asked) == hidden
        assert ("Privacy: id" in asked) == hidden
    ended(sipp.node)


@pytest.mark.parametrize(
    ("rule", "at_home", "through"),
    [
        ("through_pbx", True, True),
        ("direct_when_possible", True, False),
        ("direct_when_possible", False, True),
        ("always_direct", True, False),
    ],
)
def test_a_colleague_is_called(sipp: SippAtEdge, rule: str, at_home: bool, through: bool) -> None:
    port = free_port(PBX_HOST)
    load(sipp, {}, {"internal_calls": rule}, port)
    with contextlib.ExitStack() as stack:
        phone = stack.enter_context(sipp.phone(user="102")) if at_home else None
        pbx = stack.enter_context(sipp.start("answer", host=PBX_HOST, port=port))
        wait_until_bound(sipp.transport, PBX_HOST, port)
        sipp.run("phone_calls", user="101", service="102")
        (record,) = ended(sipp.node)
        assert record.get("connection") == ("acme-pbx" if through else None)
        assert count(pbx, "INVITE sip:102@acme.pbx.example") == through
        assert phone is None or count(phone, "INVITE ") == (not through)


@pytest.mark.parametrize(
    ("asks", "method"),
    [
        *(("phone_asks", method) for method in ("MESSAGE", "INFO", "OPTIONS", "PUBLISH")),
        *(("pbx_asks", method) for method in ("MESSAGE", "INFO", "OPTIONS")),
    ],
)
def test_requests_outside_dialogs_pass(sipp: SippAtEdge, asks: str, method: str) -> None:
    made = {name: filled(sipp, name, method) for name in ("take", asks)}
    port = free_port(PBX_HOST)
    load(sipp, pbx_port=port)
    if asks == "pbx_asks":
        with sipp.phone(made["take"]) as phone:
            sipp.call(made[asks])
            assert "hello" in phone.messages()
        return
    with sipp.start(made["take"], host=PBX_HOST, port=port) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        sipp.run(made[asks], service="9000", caller="sip:101@acme.example")
        pbx.wait()
        assert f"{method} sip:9000@acme.pbx.example" in pbx.messages()
        assert "hello" in pbx.messages()


def filled(sipp: SippAtEdge, name: str, method: str) -> str:
    """A scenario for one method, in the test's own folder."""
    path = sipp.folder / f"{name}_{method.lower()}.xml"
    path.write_text(scenario_file(name).read_text().replace("METHOD", method))
    return str(path.with_suffix(""))


@pytest.mark.parametrize("first", ["unavailable", "silence"])
def test_the_second_connection_takes_what_the_first_cannot(sipp: SippAtEdge, first: str) -> None:
    first_port = free_port(PBX_HOST)
    port = free_port(OTHER_PBX)
    second = connection(
        "second", source=OTHER_PBX, port=port, transport=sipp.transport, registrar_domain="second.example",
        strategy="none",
    )  # fmt: skip
    made = two_tenants(first_port, sipp.transport, strategy="none")
    acme = made.tenants[0]
    rule = OutboundRule("out", 1, "9", 0, "", acme.connections[0].id, fallback="second")
    acme = replace(acme, connections=(*acme.connections, second), outbound=(rule,))
    assert sipp.node.load(Table(made.installation, (acme, made.tenants[1])))["ok"]
    with at_first(sipp, first, first_port), sipp.start("answer", host=OTHER_PBX, port=port) as pbx:
        wait_until_bound(sipp.transport, OTHER_PBX, port)
        sipp.run("phone_calls", user="101", service="9000")
        pbx.wait()
        assert "INVITE sip:9000@second.example" in pbx.messages()
    (record,) = ended(sipp.node)
    assert record["connection"] == "second"


@contextlib.contextmanager
def at_first(sipp: SippAtEdge, what: str, port: int) -> Iterator[None]:
    """What is at the first PBX's port: somebody who says nothing, or a scenario."""
    if what == "silence":
        kind = socket.SOCK_STREAM if sipp.transport == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind((PBX_HOST, port))
            if sipp.transport == "tcp":
                sock.listen()
            yield
    else:
        with sipp.start(what, host=PBX_HOST, port=port):
            wait_until_bound(sipp.transport, PBX_HOST, port)
            yield
