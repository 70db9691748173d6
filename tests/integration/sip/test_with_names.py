"""A PBX that is known by name only: a real node, a name server, and a first target that is dead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.integration.node import Node, free_port, wait_for
from tests.integration.shell.nameserver import NameServer
from tests.integration.sip.conftest import PBX_HOST, faults, registered, two_tenants
from tests.integration.sip.test_with_peers import ACCOUNTS, Stage
from tests.integration.sip.test_with_peers import stage as peers_stage
from tests.peers.call import SDP
from tests.peers.phone import Phone
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

DEAD_HOST = "127.0.0.5"
ZONE = """
pbx.test. 60 IN NAPTR 10 10 "s" "SIP+D2{letter}" "" _sip._{transport}.pbx.test.
_sip._{transport}.pbx.test. 60 IN SRV 10 0 {dead} dead.pbx.test.
_sip._{transport}.pbx.test. 60 IN SRV 20 0 {live} live.pbx.test.
dead.pbx.test. 60 IN A {DEAD_HOST}
live.pbx.test. 60 IN A {PBX_HOST}
"""


@asynccontextmanager
async def stage(path: Path, transport: str) -> AsyncIterator[Stage]:
    node = Node(path)
    edge = Hop(transport, "127.0.0.1", node.port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:  # silent over UDP, refused over TCP
        dead.bind((DEAD_HOST, 0))
        async with (
            NameServer() as names,
            StandinPbx(ACCOUNTS, host=PBX_HOST, transport=transport) as pbx,
            Phone("101", "acme.example", PASSWORD, edge, on_call="answer") as acme,
            Phone("101", "globex.example", PASSWORD, edge, on_call="answer") as globex,
        ):
            ports = {"dead": dead.getsockname()[1], "live": pbx.port, "DEAD_HOST": DEAD_HOST, "PBX_HOST": PBX_HOST}
            names.load(ZONE.format(transport=transport, letter=transport[0].upper(), **ports))
            try:
                await asyncio.to_thread(node.start, f"--dns-server=127.0.0.1:{names.port}")
                routing = two_tenants(0, "auto", host="pbx.test")
                loaded = await asyncio.to_thread(node.load, routing)
                assert loaded["ok"], loaded
                await asyncio.to_thread(wait_for, lambda: registered(node) == 4, 60.0)
                for phone in (acme, globex):
                    assert (await phone.register()).status == 200
                yield Stage(node, pbx, acme, globex, edge)
            finally:
                await asyncio.to_thread(node.close)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_registered_and_called_by_srv_with_the_first_target_dead(tmp_path: Path, transport: str) -> None:
    async def play() -> None:
        async with stage(tmp_path, transport) as on:
            out = on.acme.call("9000")
            await out.answered()
            assert on.pbx.received("INVITE")[-1].contact.uri.host == "acme.example"
            await out.bye()
            back = on.pbx.call("101@acme.pbx.example")
            await back.answered()
            await back.bye()
            await on.acme.calls[-1].ended()
            assert faults(on.node) == 0
            counters = on.node.ask("status")["counters"]
            assert counters["upstream.next_place"] >= 1
            assert counters["resolve.failed"] == 0

    asyncio.run(play())


SECURE_ZONE = """
_sips._tcp.pbx.test. 60 IN SRV 10 0 {port} sip7.carrier.test.
sip7.carrier.test. 60 IN A {PBX_HOST}
"""


@pytest.mark.parametrize(("certified", "state"), [("pbx.test", "registered"), ("sip7.carrier.test", "unreachable")])
def test_over_tls_the_certificate_is_for_the_name_that_was_asked_for(
    tmp_path: Path, certified: str, state: str
) -> None:
    """RFC 5922 7.3: what an SRV record leads to proves nothing."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.pair(certified).chain)
    node = Node(tmp_path)

    async def play() -> None:
        async with NameServer() as names, StandinPbx(ACCOUNTS, host=PBX_HOST, transport="tcp") as pbx:

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                inner = await asyncio.open_connection(PBX_HOST, pbx.port)
                await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

            server = await asyncio.start_server(carry, PBX_HOST, 0, ssl=context)
            names.load(SECURE_ZONE.format(port=server.sockets[0].getsockname()[1], PBX_HOST=PBX_HOST))
            flags = [
                f"--dns-server=127.0.0.1:{names.port}", f"--listen=tls:127.0.0.1:{free_port('127.0.0.1')}",
                f"--tls-certificate={authority.pair('edge.test').chain}", f"--tls-authorities={authority.file}",
            ]  # fmt: skip
            try:
                await asyncio.to_thread(node.start, *flags)
                await asyncio.to_thread(node.load, two_tenants(0, "tls", host="pbx.test"))
                await asyncio.to_thread(
                    wait_for, lambda: [entry["state"] for entry in node.upstream()] == [state] * 4, 60.0
                )
                assert bool(pbx.received("REGISTER")) == (state == "registered")
            finally:
                await asyncio.to_thread(node.close)
                server.close()

    asyncio.run(play())


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until the one side ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


LARGE = SDP + b"a=candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host\r\n" * 30


@pytest.mark.parametrize("listens", [True, False])
def test_a_large_request_goes_over_tcp_where_the_pbx_listens(node: Node, listens: bool) -> None:
    """RFC 3261 18.1.1: and over UDP all the same where it does not."""

    async def play() -> None:
        async with peers_stage(node) as on:
            if not listens:
                on.pbx.wire.refuse_streams()
            out = on.acme.call("9000", body=LARGE)
            await out.answered(20)
            await out.bye()
            taken = on.pbx.received("INVITE")[-1]
            assert taken.body == LARGE
            assert taken.get("Via").startswith("SIP/2.0/TCP" if listens else "SIP/2.0/UDP")
            assert faults(node) == 0

    asyncio.run(play())
