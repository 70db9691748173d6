"""A phone made of aiosip registers with digest, is called by the PBX, answers and hangs up; and is hung up on.

Catches: severity towards a client that lives, with branches used twice, digest of RFC 2069 with a word of RFC 2617, and
a Request-URI that is its To.
"""

from __future__ import annotations

import pytest

from tests.integration.node import Node
from tests.integration.sip.aiosip_client import SDP, AiosipPhone
from tests.integration.sip.conftest import faults
from tests.integration.sip.test_with_peers import stage
from tests.peers.loop import in_loop
from tests.unit.core.bench import PASSWORD

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@in_loop
async def test_it_registers_is_called_and_hangs_up(node: Node) -> None:
    async with stage(node) as on:
        await on.acme.unregister()
        phone = AiosipPhone("101", "acme.example", PASSWORD, on.edge)
        try:
            assert await phone.register() == 200
            assert [b["user_agent"] for b in node.bindings() if "aiosip" in b["user_agent"]]
            call = on.pbx.call("101@acme.pbx.example")
            answer = await call.answered()
            assert answer.body == SDP.encode()
            dialog, invite = await phone.call()
            assert "101@acme.example" in invite.headers["To"]
            assert await phone.hang_up(dialog) == 200
            assert await call.ended() == "remote"

            again = on.pbx.call("101@acme.pbx.example")
            await again.answered()
            await phone.call()
            await again.bye()
            assert "ACK" in phone.requests
            assert not on.globex.received("INVITE")
        finally:
            phone.close()
    assert faults(node) == 0
    ends = [event["detail"] for event in node.events("call.ended")]
    assert [(end["code"], end["by"]) for end in ends] == [(200, "callee"), (200, "caller")]


@in_loop
async def test_a_wrong_password(node: Node) -> None:
    async with stage(node) as on:
        phone = AiosipPhone("102", "acme.example", "wrong", on.edge)
        try:
            with pytest.raises(phone.aiosip.RegisterFailed):
                await phone.register()
        finally:
            phone.close()
        assert not [b for b in node.bindings() if b["user"] == "acme-102"]
