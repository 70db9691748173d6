"""The edge between real sipp phones and a PBX that sipp plays, too, over both transports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kamailio.sipp import SippError
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, faults, registered, two_tenants
from tests.integration.sip.sipp import SippAtEdge, count, wait_until_bound
from tests.peers.wire import free_port

pytestmark = pytest.mark.needs("sipp")
MANY, PER_SECOND = 200, 50
STRANGER = "127.0.0.3"


@pytest.fixture(params=["udp", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


@pytest.fixture
def sipp(md5_node: Node, tmp_path: Path, transport: str) -> SippAtEdge:
    """At a node whose PBX wants no REGISTER."""
    assert md5_node.load(two_tenants(free_port(PBX_HOST), transport, strategy="none"))["ok"]
    return SippAtEdge(tmp_path, md5_node, transport)


def ended(node: Node, count: int = 1) -> list[tuple[int, str]]:
    """Code and side that hung up, of all calls, which are as many as expected."""
    found: list[tuple[int, str]] = []
    after = 0

    def all_read() -> bool:
        nonlocal after
        page = node.ask("events", after=after, limit=500)
        after = page["next"]
        details = [event["detail"] for event in page["events"] if event["kind"] == "call.ended"]
        found.extend((detail["code"], detail["by"]) for detail in details)
        return len(found) >= count

    wait_for(all_read)
    assert not node.ask("calls")["calls"]
    assert faults(node) == 0
    return found


@pytest.mark.parametrize(
    ("phone", "caller", "end"),
    [
        ("answer", "call", (200, "caller")),
        ("answer_and_hang_up", "call_and_wait", (200, "callee")),
        ("ring", "call_and_cancel", (487, "caller")),
        ("hold", "call_and_hold", (200, "caller")),
        ("answer_with_prack", "call_with_prack", (200, "caller")),
        ("answer_and_be_updated", "call_with_timer", (200, "caller")),
        ("answer_and_update", "call_and_be_updated", (200, "caller")),
        ("answer_with_offer", "call_with_late_offer", (200, "caller")),
        ("answer_in_spite_of_cancel", "call_and_cancel", (487, "caller")),
        ("answer_and_refer", "call_and_be_referred", (200, "callee")),
    ],
)
def test_a_phone_is_called(sipp: SippAtEdge, phone: str, caller: str, end: tuple[int, str]) -> None:
    with sipp.phone(phone):
        sipp.call(caller)
        assert ended(sipp.node) == [end]


def test_a_call_takes_the_place_of_another(sipp: SippAtEdge) -> None:
    with sipp.phone("answer") as phone:
        sipp.call("call_and_replace")
        assert ended(sipp.node, 2) == [(200, "caller")] * 2
        assert "Replaces: " in phone.messages()


@pytest.mark.parametrize("event", ["message-summary", "dialog", "presence"])
def test_a_phone_subscribes_at_the_pbx(sipp: SippAtEdge, event: str) -> None:
    port = free_port(PBX_HOST)
    assert sipp.node.load(two_tenants(port, sipp.transport, strategy="none"))["ok"]
    with sipp.start("pbx_notifies", host=PBX_HOST, port=port, event=event) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        run = sipp.run("phone_subscribes", user="101", service="102", event=event)
        pbx.wait()
        assert "Contact: <sip:101@acme.example" in pbx.messages()
        assert "Messages-Waiting: yes" in run.messages()
    assert faults(sipp.node) == 0


def test_two_early_dialogs_behind_the_pbx(sipp: SippAtEdge) -> None:
    port = free_port(PBX_HOST)
    assert sipp.node.load(two_tenants(port, sipp.transport, strategy="none"))["ok"]
    with sipp.start("pbx_forks", host=PBX_HOST, port=port) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        run = sipp.run("phone_calls_and_hears_two", user="101", service="9000")
        pbx.wait()
        tags = {line.rpartition("tag=")[2].strip() for line in run.messages().splitlines() if line.startswith("To: ")}
        assert len(tags) >= 3  # of the challenge, and of two early dialogs
        assert ended(sipp.node) == [(200, "caller")]


def test_a_busy_phone_is_busy(sipp: SippAtEdge) -> None:
    with sipp.phone("busy"):
        assert count(sipp.call("call_refused"), "SIP/2.0 486 Busy Here") == 1
        assert ended(sipp.node) == [(486, "callee")]


def test_only_the_phone_of_the_domain_rings(sipp: SippAtEdge) -> None:
    with sipp.phone(domain="acme.example") as acme, sipp.phone(domain="globex.example") as globex:
        for domain, right, wrong in (("acme.example", acme, globex), ("globex.example", globex, acme)):
            before = [count(phone, "INVITE ") for phone in (right, wrong)]
            sipp.call(domain=domain)
            assert [count(phone, "INVITE ") for phone in (right, wrong)] == [before[0] + 1, before[1]]


def test_a_phone_calls_out_and_the_edge_answers_the_challenge_of_the_pbx(sipp: SippAtEdge, tmp_path: Path) -> None:
    port = free_port(PBX_HOST)
    assert sipp.node.load(two_tenants(port, sipp.transport, strategy="none"))["ok"]
    with sipp.start("pbx_answers", host=PBX_HOST, port=port) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        sipp.run("phone_calls", user="101", service="9000")
        pbx.wait()
        assert "Contact: <sip:101@acme.example" in pbx.messages()
        assert ended(sipp.node) == [(200, "caller")]


def test_the_edge_registers_at_a_sipp_registrar(sipp: SippAtEdge) -> None:
    port = free_port(PBX_HOST)
    users = {"calls": 4, "secret": "pbx-secret"}
    with sipp.start("pbx_registrar", host=PBX_HOST, port=port, **users) as pbx:
        wait_until_bound(sipp.transport, PBX_HOST, port)
        assert sipp.node.load(two_tenants(port, sipp.transport))["ok"]
        wait_for(lambda: registered(sipp.node) == 4)
        contacts = {entry["contact"] for entry in sipp.node.upstream()}
        assert {contact.partition("@")[2].partition(":")[0] for contact in contacts} == {
            "acme.example",
            "globex.example",
        }
        assert all(f"Contact: {contact}" in pbx.messages() for contact in contacts)


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("101@other.example", "404 Not Found"),
        ("999@acme.example", "404 Not Found"),
        ("101@127.0.0.1", "404 Not Found"),
        ("102@acme.example", "480 Temporarily Unavailable"),
    ],
)
def test_calls_that_are_refused(sipp: SippAtEdge, uri: str, status: str) -> None:
    user, _, domain = uri.partition("@")
    with sipp.phone() as phone:
        run = sipp.call("call_refused", user=user, domain=domain)
        assert count(run, f"SIP/2.0 {status}") == 1
        assert ("Warning: 399" in run.messages()) == (domain == "127.0.0.1")
        assert not count(phone, "INVITE ")


def test_a_stranger_is_forbidden(sipp: SippAtEdge) -> None:
    with sipp.phone() as phone:
        assert count(sipp.run("call_refused", host=STRANGER), "SIP/2.0 403 Forbidden") == 1
        assert not count(phone, "INVITE ")
        (refusal,) = sipp.node.events("refused")
        assert refusal["rule"] == "unknown-source"


def test_many_calls(sipp: SippAtEdge) -> None:
    with sipp.phone():
        sipp.call(calls=MANY, rate=PER_SECOND)
        assert ended(sipp.node, MANY) == [(200, "caller")] * MANY


def test_a_wrong_password_is_refused(sipp: SippAtEdge) -> None:
    with pytest.raises(SippError, match="401"):
        sipp.run("phone", "-ap", "wrong")
    assert not sipp.node.bindings()


@pytest.mark.parametrize("transport", ["udp"], indirect=True)
@pytest.mark.parametrize("flags", [("--digest", "MD5,SHA-256"), ("--digest", "MD5")])
def test_it_registers_where_md5_comes_first(tmp_path: Path, transport: str, flags: tuple[str, str]) -> None:
    """Debian's sipp looks at the first challenge only, and knows no SHA-256."""
    folder = tmp_path / "node"
    folder.mkdir()
    node = Node(folder)
    node.start(*flags)
    try:
        assert node.load(two_tenants(free_port(PBX_HOST), strategy="none"))["ok"]
        with SippAtEdge(tmp_path, node, transport).phone():
            assert len(node.bindings()) == 1
    finally:
        node.close()
