"""kill -9 in the middle of calls of real peers: after a restart either side hangs up, and the records are right."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.integration.node import Doc, Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults, registered, two_tenants
from tests.integration.sip.sipp import SippAtEdge, scenario_file
from tests.integration.sip.test_with_peers import stage
from tests.peers.loop import in_loop
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop, free_port
from tests.unit.core.bench import PASSWORD

ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}
TALKERS = {"caller": 20, "callee": 1}
"""Calls by who hangs up: sipp, asked to answer several calls beside its scenario, does not hang up all of them."""


def killed_and_back(node: Node) -> None:
    node.end(signal.SIGKILL)
    node.start(*node.flags)


def records(node: Node, many: int) -> list[Doc]:
    """The details of `call.ended`, one for each call."""
    wait_for(lambda: len(node.events("call.ended")) >= many)
    began = [event["detail"]["call"] for event in node.events("call.started")]
    ended = [event["detail"] for event in node.events("call.ended")]
    assert sorted(began) == sorted(detail["call"] for detail in ended)
    assert len(set(began)) == many
    assert not node.ask("calls")["calls"]
    assert faults(node) == 0
    return ended


@pytest.mark.needs("baresip")
@pytest.mark.parametrize("by", ["caller", "callee"])
@in_loop
async def test_a_call_of_baresip_outlives_the_node(node: Node, tmp_path: Path, by: str) -> None:
    edge = Hop("udp", "127.0.0.1", node.port)
    phone = Baresip(tmp_path / "baresip", "101", "acme.example", PASSWORD, edge, "auto")
    async with StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx:
        await asyncio.to_thread(node.load, two_tenants(pbx.port))
        await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
        await asyncio.to_thread(phone.__enter__)
        try:
            await asyncio.to_thread(wait_for, node.bindings)
            call = pbx.call("101@acme.pbx.example")
            await call.answered()
            await asyncio.to_thread(phone.wait, "CALL_ESTABLISHED")
            (before,) = node.ask("calls")["calls"]
            await asyncio.to_thread(killed_and_back, node)
            assert node.ask("calls")["calls"] == [before]
            if by == "callee":
                phone.do("hangup")
                await pbx.wait_received("BYE")
            else:
                await call.bye()
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")
        finally:
            await asyncio.to_thread(phone.stop)
        (end,) = await asyncio.to_thread(records, node, 1)
    assert (end["code"], end["by"], end["direction"], end["rang"]) == (200, by, "in", ["101"])
    assert end["started"] <= end["answered"] < end["ended"]


@pytest.mark.parametrize("by", ["caller", "callee"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@in_loop
async def test_peers_find_each_other_again(node: Node, transport: str, by: str) -> None:
    """Over TCP all connections died with the node: the phone comes back, the PBX is connected to."""
    async with stage(node, transport) as on:
        calls = [on.pbx.call("101@acme.pbx.example"), on.acme.call("9000")]
        for call in calls:
            await call.answered()
        await asyncio.to_thread(killed_and_back, node)
        assert states(node) == ["answered"] * 2
        await on.acme.register()
        for call, others in ((calls[0], on.acme), (calls[1], on.pbx)):
            other = next(one for one in others.calls if not one.outgoing)
            other.hop = on.edge  # over TCP the connection by which the call came is gone
            await (call if by == "caller" else other).bye()
            await (other if by == "caller" else call).ended()
        ends = await asyncio.to_thread(records, node, 2)
    assert [(end["direction"], end["code"], end["by"]) for end in ends] == [("in", 200, by), ("out", 200, by)]


@pytest.mark.needs("sipp")
@pytest.mark.parametrize("by", ["caller", "callee"])
def test_calls_of_sipp_outlive_the_node(md5_node: Node, tmp_path: Path, by: str) -> None:
    assert md5_node.load(two_tenants(free_port(PBX_HOST), strategy="none"))["ok"]
    sipp, many = SippAtEdge(tmp_path, md5_node), TALKERS[by]
    phone, caller = ("answer_and_hang_up", "call_and_wait") if by == "callee" else ("answer", "call")
    slow = {name: longer(tmp_path, name, by == side) for side, name in (("callee", phone), ("caller", caller))}
    with sipp.phone(slow[phone]), sipp.start(slow[caller], host=PBX_HOST, calls=many, rate=50) as calls:
        wait_for(lambda: states(md5_node) == ["answered"] * many)
        time.sleep(0.5)  # that the last ACK came is stored: sipp stumbles over another one
        killed_and_back(md5_node)
        assert states(md5_node) == ["answered"] * many
        calls.wait()
        ends = records(md5_node, many)
    assert {(end["code"], end["by"]) for end in ends} == {(200, by)}


def states(node: Node) -> list[str]:
    return [call["state"] for call in node.ask("calls")["calls"]]


def longer(folder: Path, name: str, hangs_up: bool) -> str:
    """A scenario in which people talk for a while before they hang up; its path without suffix."""
    text, pause = scenario_file(name).read_text(), '<pause milliseconds="4000"/>'
    text = text.replace('<pause milliseconds="50"/>', "")
    if hangs_up:
        before, bye, after = text.partition('<send retrans="500">\n    <![CDATA[\n      BYE')
        assert bye
        text = before + pause + bye + after
    (folder / f"slow_{name}.xml").write_text(text)
    return str(folder / f"slow_{name}")


@pytest.mark.needs("sipp")
def test_a_call_that_rang_is_over_for_both_ends(md5_node: Node, tmp_path: Path) -> None:
    """The caller hears 500, the phone stops ringing."""
    assert md5_node.load(two_tenants(free_port(PBX_HOST), strategy="none"))["ok"]
    sipp = SippAtEdge(tmp_path, md5_node)
    with sipp.phone("ring") as phone, sipp.start("call", host=PBX_HOST) as call:
        wait_for(lambda: "SIP/2.0 180" in call.messages())
        killed_and_back(md5_node)
        wait_for(lambda: "SIP/2.0 500" in call.messages())
        wait_for(lambda: "CANCEL sip:" in phone.messages() and "SIP/2.0 487" in phone.messages())
        (end,) = records(md5_node, 1)
    assert (end["code"], end["by"], end["answered"]) == (500, "edge", None)
