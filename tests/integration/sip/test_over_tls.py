"""A real node over TLS: to a PBX with a good and a bad name, from a PBX with and without its certificate, phones; and
certificates that change while it runs."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sipd import commands
from sipd.net.tls import Pair
from tests.authority import Authority
from tests.integration.node import Node, free_port, wait_for
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, registered, two_tenants
from tests.peers.loop import in_loop
from tests.peers.phone import Phone
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop, Tls
from tests.unit.core.bench import PASSWORD

ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}
EDGE = "edge.example"


class SecureNode(Node):
    """With a TLS listener on each loopback address, and an authority whose certificates both sides believe."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.ca = Authority(path)
        self.edge = self.ca.pair(EDGE)
        self.tls_port = free_port()

    def run(self) -> None:
        self.start(
            f"--listen=tls:127.0.0.1:{self.tls_port}", f"--listen=tls:[::1]:{self.tls_port}",
            f"--tls-certificate={self.edge.chain}", f"--tls-authorities={self.ca.file}",
            f"--tls-client-authorities={self.ca.file}",
        )  # fmt: skip

    def peer(self, *names: str, own: Pair | None = None) -> Tls:
        """A PBX or phone that is `names`, and shows `own` where it connects."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.ca.pair(*names).chain)
        return Tls(server, self.ca.client(own), EDGE)

    def serial(self) -> str:
        """Of the certificate that a new connection gets."""
        context = self.ca.client()
        context.check_hostname = False
        with (
            socket.create_connection(("127.0.0.1", self.tls_port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=EDGE) as secure,
        ):
            return str((secure.getpeercert() or {})["serialNumber"])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SecureNode]:
    node = SecureNode(tmp_path)
    node.run()
    yield node
    node.close()


@asynccontextmanager
async def pbx_of(node: SecureNode, tls: Tls, **connection: object) -> AsyncIterator[StandinPbx]:
    """A PBX that the node's tenants register at over TLS."""
    async with StandinPbx(ACCOUNTS, host=PBX_HOST, transport="tls", tls=tls) as pbx:
        routing = two_tenants(pbx.port, "tls", **connection)
        loaded = await asyncio.to_thread(node.load, routing)
        assert loaded["ok"], loaded
        yield pbx


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_calls_both_ways_over_tls(node: SecureNode, host: str) -> None:
    async def play() -> None:
        tls = node.peer(PBX_HOST)
        edge = Hop("tls", host, node.tls_port)
        async with (
            pbx_of(node, tls) as pbx,
            Phone("101", "acme.example", PASSWORD, edge, on_call="answer", host=host, tls=tls) as phone,
        ):
            await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
            assert (await phone.register()).status == 200
            call = pbx.call("101@acme.pbx.example")
            await call.answered()
            assert phone.received("INVITE")[-1].headers[0][1].startswith("SIP/2.0/TLS ")
            await call.bye()
            out = phone.call("9000")
            await out.answered()
            assert pbx.received("INVITE")[-1].contact.uri.params["transport"] == "tls"
            await out.bye()
            assert {binding["transport"] for binding in node.bindings()} == {"tls"}

    asyncio.run(play())


@pytest.mark.parametrize("verify", [True, False])
def test_a_pbx_whose_certificate_has_another_name(node: SecureNode, verify: bool) -> None:
    async def play() -> None:
        async with pbx_of(node, node.peer("other.example"), tls_verify=verify) as pbx:
            if not verify:
                await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
                return
            await asyncio.to_thread(wait_for, lambda: {r["state"] for r in node.upstream()} == {"unreachable"})
            assert pbx.received("REGISTER") == []
            assert node.ask("status")["counters"]["tls.open_failed"] > 0

    asyncio.run(play())


@pytest.mark.parametrize(("name", "status"), [("pbx.example", 480), ("other.example", 403), ("", 403)])
def test_a_pbx_that_must_show_its_certificate(node: SecureNode, name: str, status: int) -> None:
    """The connection asks for pbx.example. 480: believed, but nobody is registered; 403: not believed."""

    async def play() -> None:
        own = node.ca.pair(name) if name else None
        async with pbx_of(node, node.peer(PBX_HOST, own=own), tls_client="pbx.example", strategy="none") as pbx:
            call = pbx.begin_call(
                "sip:101@acme.example", Hop("tls", "127.0.0.1", node.tls_port),
                local="<sip:x@acme.pbx.example>", remote="<sip:101@acme.example>",
            )  # fmt: skip
            assert (await call.final()).status == status

    asyncio.run(play())


def test_certificates_are_reloaded_while_connections_stay(node: SecureNode) -> None:
    async def play() -> None:
        tls = node.peer("127.0.0.1")
        await asyncio.to_thread(node.load, two_tenants(5060))
        async with Phone("101", "acme.example", PASSWORD, Hop("tls", "127.0.0.1", node.tls_port), tls=tls) as phone:
            assert (await phone.register()).status == 200
            serials = {node.serial()}
            node.ca.pair(EDGE)
            node.ask("reload-certificates")
            serials.add(node.serial())
            assert len(serials) == 2
            node.ca.pair(EDGE)
            assert node.process is not None
            node.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(wait_for, lambda: node.serial() not in serials)
            serials.add(node.serial())
            node.ca.pair(EDGE)  # and nobody says so
            await asyncio.to_thread(wait_for, lambda: node.serial() not in serials)
            kept = node.serial()
            node.edge.chain.write_text("broken")
            with pytest.raises(commands.UnreadableError, match="certificates in use stay"):
                node.ask("reload-certificates")
            assert node.serial() == kept
            assert node.ask("status")["counters"]["tls.reload_failures"] >= 1
            assert phone._wire.open_streams == 1
            assert (await phone.register()).status == 200
            assert len(node.bindings()) == 1

    asyncio.run(play())


@pytest.mark.needs("baresip")
@in_loop
async def test_baresip_is_called_and_calls(node: SecureNode, tmp_path: Path) -> None:
    """It believes the tests' authority alone."""
    edge = Hop("tls", "127.0.0.1", node.tls_port)
    own = node.ca.pair("phone.example").chain
    trust = f"sip_cafile {node.ca.file}\nsip_certificate {own}\n"
    phone = Baresip(tmp_path / "baresip", "101", "acme.example", PASSWORD, edge, "auto", trust)
    async with StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx:
        await asyncio.to_thread(node.load, two_tenants(pbx.port))
        await asyncio.to_thread(wait_for, lambda: registered(node) == 4)
        await asyncio.to_thread(phone.__enter__)
        try:
            await asyncio.to_thread(wait_for, node.bindings)
            assert [binding["transport"] for binding in node.bindings()] == ["tls"]
            call = pbx.call("101@acme.pbx.example")
            await call.answered()
            await call.bye()
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")
            await asyncio.to_thread(phone.do, "dial", "sip:9000@acme.example")
            await asyncio.to_thread(phone.wait, "CALL_ESTABLISHED")
            await asyncio.to_thread(phone.do, "hangup")
            await asyncio.to_thread(phone.wait, "CALL_CLOSED")
        finally:
            await asyncio.to_thread(phone.stop)
