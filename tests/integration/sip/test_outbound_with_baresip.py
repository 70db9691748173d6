"""baresip with two flows to the edge (RFC 5626), one over TCP and one over UDP: one phone, which is rung over one."""

from __future__ import annotations

import asyncio
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


class TwoFlows(Baresip):
    """It registers over both transports, and keeps both flows alive."""

    def __init__(self, folder: Path, node: Node) -> None:
        edge = Hop("tcp", "127.0.0.1", node.port)
        super().__init__(folder, "101", "acme.example", PASSWORD, edge, "auto")
        self._config = self._config.replace("module_tmp account.so", "module_tmp uuid.so\nmodule_tmp account.so")
        self._account += f';outbound2="sip:127.0.0.1:{node.port};transport=udp";sipnat=outbound'


@in_loop
async def test_two_flows_are_one_phone(node: Node, tmp_path: Path) -> None:
    phone = TwoFlows(tmp_path / "baresip", node)
    async with StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx:
        await asyncio.to_thread(node.load, two_tenants(pbx.port))
        await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
        await asyncio.to_thread(phone.__enter__)
        try:
            await asyncio.to_thread(wait_for, lambda: len(node.bindings()) == 2)
            assert {row["transport"] for row in node.bindings()} == {"tcp", "udp"}
            call = pbx.call("101@acme.pbx.example")
            await call.answered()
            await call.bye()
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")
            invites = {line for line in phone.log().splitlines() if line.startswith("INVITE sip:")}
            assert len(invites) == 1  # over one flow, retransmitted or not
        finally:
            await asyncio.to_thread(phone.stop)
        assert faults(node) == 0
