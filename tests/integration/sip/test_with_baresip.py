"""baresip as a phone behind the edge: it registers, is called and calls, over UDP and TCP, with RTP of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.node import Node, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults, registered, two_tenants
from tests.peers.loop import in_loop
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

pytestmark = pytest.mark.needs("baresip")
ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}


@pytest.fixture(params=["udp", "tcp"])
def phone(request: pytest.FixtureRequest, node: Node, tmp_path: Path) -> Iterator[Baresip]:
    """Answers by itself; registers once the table is there."""
    return Baresip(
        tmp_path / "baresip", "101", "acme.example", PASSWORD, Hop(request.param, "127.0.0.1", node.port), "auto"
    )


@in_loop
async def test_it_registers_is_called_and_calls(node: Node, phone: Baresip) -> None:
    async with StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx:
        await asyncio.to_thread(node.load, two_tenants(pbx.port))
        await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
        await asyncio.to_thread(phone.__enter__)
        try:
            await asyncio.to_thread(wait_for, node.bindings)
            (binding,) = node.bindings()
            assert binding["user_agent"].startswith("baresip")

            call = pbx.call("101@acme.pbx.example")
            answer = await call.answered()
            assert b"m=audio" in answer.body
            await call.bye()
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")

            await asyncio.to_thread(phone.do, "dial", "sip:9000@acme.example")
            await asyncio.to_thread(phone.wait, "CALL_ESTABLISHED")
            assert pbx.received("INVITE")[-1].contact.uri.host == "acme.example"
            await asyncio.to_thread(phone.do, "hangup")
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")
        finally:
            await asyncio.to_thread(phone.stop)
        await asyncio.to_thread(wait_for, lambda: len(node.events("call.ended")) == 2)
        assert faults(node) == 0


@in_loop
async def test_it_holds_resumes_and_transfers(node: Node, phone: Baresip) -> None:
    """Hold is a re-INVITE with sendonly in its description; a blind transfer is a REFER in the dialog (RFC 3515)."""
    async with StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx:
        await asyncio.to_thread(node.load, two_tenants(pbx.port))
        await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
        await asyncio.to_thread(phone.__enter__)
        try:
            await asyncio.to_thread(wait_for, node.bindings)
            call = pbx.call("101@acme.pbx.example")
            await call.answered()
            await asyncio.to_thread(phone.wait, "CALL_ESTABLISHED")
            for command, direction in (("hold", b"a=sendonly"), ("resume", b"a=sendrecv")):
                before = len(pbx.received("INVITE"))
                await asyncio.to_thread(phone.do, command)
                reinvite = await pbx.wait_received("INVITE", before + 1)
                assert direction in reinvite.body
                await pbx.wait_received("ACK", before + 1)
            await asyncio.to_thread(phone.do, "transfer", "sip:102@acme.example")
            refer = await pbx.wait_received("REFER")
            assert refer.get("Refer-To") == "<sip:102@acme.pbx.example>"  # as the PBX knows the user
            assert refer.get("Call-ID") == call.call_id
            notify = await call.request(
                "NOTIFY",
                headers=[("Event", "refer"), ("Subscription-State", "terminated;reason=noresource")],
                body=b"SIP/2.0 200 OK\r\n",
                content_type="message/sipfrag",
            )
            assert notify.status == 200
            if call.state != "ended":
                await call.bye()
        finally:
            await asyncio.to_thread(phone.stop)
        assert faults(node) == 0
