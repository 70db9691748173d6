"""TLS, WebSocket and secure WebSocket over loopback: what the stream layer does with them, IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from sipd.flow import Flow, TlsName
from sipd.message.framing import FramingError
from sipd.net import limits
from sipd.net.streams import Security, Streams, bind_tcp
from sipd.net.tls import Certificates, Files, Tls
from tests.authority import Authority
from tests.integration.shell.fakes import message, until

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
EDGE = "edge.example"
LISTENERS = {"tls": 0, "ws": 1, "wss": 2}


class Bench:
    """Listeners of all secure and web transports that send each message back."""

    def __init__(self, ca: Authority, host: str, **changed: Any) -> None:
        self.ca = ca
        self.host = host
        self.counters: dict[str, int] = {}
        self.received: list[tuple[bytes, Flow]] = []
        self.lost: list[Flow] = []
        self.verified: dict[Flow, frozenset[str]] = {}
        self.names: dict[tuple[str, str, int], TlsName] = {}
        self.ports: dict[str, int] = {}
        files = Files(
            (self.ca.pair(EDGE), self.ca.pair("other.example")),
            self.ca.file,
            self.ca.file,
            self.ca.pair("node.example"),
        )
        self.certificates = Certificates(files, self.counters)
        self.security = Security(self.certificates, lambda flow: self.names.get(flow[:3]), **changed)
        self.streams: Streams

    async def start(self) -> None:
        hosts = dict.fromkeys(LISTENERS.values(), self.host)
        self.streams = Streams(asyncio.get_running_loop(), self, hosts, self.counters, security=self.security)
        for transport, index in LISTENERS.items():
            sock = bind_tcp(self.host, 0)
            self.ports[transport] = sock.getsockname()[1]
            await self.streams.listen(sock, index, transport)

    def stream_received(self, messages: list[bytes], flow: Flow) -> None:
        for data in messages:
            self.received.append((data, flow))
            self.streams.send(data, flow)

    def stream_pinged(self, flow: Flow) -> None:
        pass

    def stream_broken(self, error: FramingError, flow: Flow) -> None:
        self.streams.send(b"SIP/2.0 %d Broken\r\n\r\n" % error.status, flow)

    def stream_lost(self, flow: Flow) -> None:
        self.lost.append(flow)
        self.verified.pop(flow, None)

    def stream_verified(self, flow: Flow, names: frozenset[str]) -> None:
        self.verified[flow] = names

    async def tls(self, name: str = EDGE, context: ssl.SSLContext | None = None) -> Peer:
        return await asyncio.open_connection(
            self.host, self.ports["tls"], ssl=context or self.ca.client(), server_hostname=name
        )

    async def web(self, transport: str = "ws", **options: Any) -> ClientConnection:
        own = {"server_hostname": EDGE, "ssl": self.ca.client()} if transport == "wss" else {}
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = {"subprotocols": [Subprotocol("sip")], "compression": None, "proxy": None, **own, **options}
        return await connect(f"{transport}://{host}:{self.ports[transport]}/", **options)

    async def raw(self, transport: str) -> Peer:
        return await asyncio.open_connection(self.host, self.ports[transport])


def run(body: Callable[[Bench], Awaitable[None]], path: Path, host: str = "127.0.0.1", **changed: Any) -> None:
    async def whole() -> None:
        bench = Bench(Authority(path), host, **changed)
        await bench.start()
        try:
            async with asyncio.timeout(60):
                await body(bench)
        finally:
            await bench.streams.close()

    asyncio.run(whole())


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What is left until the end of the stream, cleanly or not."""
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except (ConnectionResetError, ssl.SSLError):
            return b""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tls_carries_messages_both_ways(host: str, tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        reader, writer = await bench.tls()
        whole = message("A", b"x" * 50_000) + message("B")
        writer.write(b"\r\n\r\n" + whole)
        assert await reader.readexactly(len(whole) + 2) == b"\r\n" + whole
        flow = Flow("tls", host, writer.get_extra_info("sockname")[1], 0)
        assert [source for _, source in bench.received] == [flow, flow]
        writer.close()
        await until(lambda: bench.lost)
        assert bench.lost == [flow]

    run(body, tmp_path, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_web_sockets_carry_messages_both_ways(transport: str, host: str, tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        async with await bench.web(transport) as web:
            text = message("A").decode()
            await web.send(text)
            assert await web.recv() == text
            await web.send(text.encode())
            assert await web.recv() == text
            await web.send([text[:10], text[10:30], text[30:]])
            assert await web.recv() == text
            await web.send("\r\n\r\n")
            assert await web.recv() == "\r\n"
            await (await web.ping())
            flow = bench.received[0][1]
            assert flow == Flow(transport, host, web.local_address[1], LISTENERS[transport])
        await until(lambda: bench.lost)
        assert bench.lost == [flow]
        assert bench.counters[f"{transport}.bad_frames"] == 0

    run(body, tmp_path, host)


def test_a_web_socket_without_the_subprotocol_is_refused(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        for transport in ("ws", "wss"):
            with pytest.raises(InvalidStatus) as refused:
                await bench.web(transport, subprotocols=None)
            assert refused.value.response.status_code == 400
            assert bench.counters[f"{transport}.bad_frames"] == 1

    run(body, tmp_path)


def test_a_web_page_of_another_origin_is_refused_where_origins_are_named(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await bench.web(origin="https://evil.example")
        assert refused.value.response.status_code == 403
        async with await bench.web(origin="https://phone.example"):
            pass

    run(body, tmp_path, origins=("https://phone.example",))


def test_a_message_too_large_for_any_answer_closes_the_web_socket(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        web = await bench.web()
        await web.send(b"x" * (limits.WS_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as ended:
            await web.recv()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009
        await until(lambda: bench.lost)

    run(body, tmp_path)


def test_a_web_socket_is_never_opened_by_us(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        web = await bench.web()
        await web.send(message("A").decode())
        await web.recv()
        flow = bench.received[0][1]
        await web.close()
        await until(lambda: bench.lost)
        bench.lost.clear()
        bench.streams.send(message("B"), flow)
        assert bench.lost == []  # not from within `send`
        await until(lambda: bench.lost)
        assert bench.lost == [flow]
        assert bench.counters["ws.dropped"] == 1

    run(body, tmp_path)


def test_a_silent_web_socket_gets_a_ping(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        async with await bench.web() as web:
            await until(lambda: len(bench.streams) == 1)
            now = asyncio.get_running_loop().time()
            bench.streams.sweep(now + limits.WS_PING_SECONDS + 1)
            await web.send(message("A").decode())  # behind the client's pong
            await web.recv()
            assert bench.lost == []

    run(body, tmp_path)


@pytest.mark.parametrize("transport", ["tls", "ws", "wss"])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HT"])
def test_a_handshake_that_is_not_finished_is_cut(transport: str, sent: bytes, tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        reader, writer = await bench.raw(transport)
        for byte in sent:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        await until(lambda: len(bench.streams) == 1 or bench.counters["tls.handshake_failures"])
        bench.streams.sweep(asyncio.get_running_loop().time() + limits.HANDSHAKE_SECONDS + 1)
        await closed(reader)
        writer.close()
        await until(lambda: len(bench.streams) == 0)
        cut = bench.counters[f"{transport}.cut_handshake"] + bench.counters["tls.handshake_failures"]
        assert cut + bench.counters["ws.bad_frames"] == 1
        assert bench.lost == []

    run(body, tmp_path)


def test_a_slow_sender_is_cut_over_tls_and_web_socket(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        reader, writer = await bench.tls()
        writer.write(message("A"))
        await reader.readexactly(len(message("A")))
        writer.write(b"OPTIONS sip:")
        web = await bench.web()
        await web.send(message("A").decode())
        await web.recv()

        async def fragments() -> Any:
            for part in message("A"):
                yield bytes([part])
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(web.send(fragments()))
        await until(lambda: len(bench.streams._unfinished) == 2)
        bench.streams.sweep(asyncio.get_running_loop().time() + limits.MESSAGE_SECONDS + 1)
        await closed(reader)
        with pytest.raises(ConnectionClosed):
            await sending
        assert (bench.counters["tls.cut_slow"], bench.counters["ws.cut_slow"]) == (1, 1)
        writer.close()

    run(body, tmp_path)


def test_a_tls_record_that_trickles_is_a_slow_sender(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        reader, writer = await bench.raw("tls")
        client = Tls(bench.ca.client(), server_side=False, name=EDGE)
        client.start()
        writer.write(client.output())
        while not client.ready:
            client.receive(await reader.read(65536))
            writer.write(client.output())
        client.send(message("A"))
        writer.write(client.output())
        await until(lambda: bench.received)
        client.send(message("B"))
        for byte in client.output()[:20]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        await until(lambda: len(bench.streams._unfinished) == 1)
        bench.streams.sweep(asyncio.get_running_loop().time() + limits.MESSAGE_SECONDS + 1)
        await closed(reader)
        assert bench.counters["tls.cut_slow"] == 1
        writer.close()

    run(body, tmp_path)


@pytest.mark.parametrize("transport", ["tls", "ws", "wss"])
def test_connections_are_counted_before_their_handshake(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SOURCE_LIMIT", 2)

    async def body(bench: Bench) -> None:
        peers = [await bench.raw(transport) for _ in range(3)]
        await closed(peers[2][0])
        assert bench.counters[f"{transport}.refused_source"] == 1
        for _, writer in peers:
            writer.close()

    run(body, tmp_path)


def test_server_names_and_old_protocols(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        for name in (EDGE, "other.example"):
            _, writer = await bench.tls(name)
            writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await bench.tls("third.example")
        old = bench.ca.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await bench.tls(context=old)
        assert bench.counters["tls.handshake_failures"] >= 1

    run(body, tmp_path)


def test_a_reload_keeps_connections(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        reader, writer = await bench.tls()
        bench.ca.pair("new.example", file=EDGE)
        bench.certificates.reload_if_changed()
        _, fresh = await bench.tls("new.example")
        writer.write(message("A"))
        assert await reader.readexactly(len(message("A"))) == message("A")
        assert bench.lost == []
        for one in (writer, fresh):
            one.close()

    run(body, tmp_path)


def test_a_client_certificate_right_wrong_and_absent(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        _, right = await bench.tls(context=bench.ca.client(bench.ca.pair("pbx.example")))
        _, absent = await bench.tls()
        await until(lambda: bench.verified)
        assert list(bench.verified.values()) == [frozenset(["pbx.example"])]
        stranger = Authority(tmp_path, "stranger")
        reader, wrong = await bench.tls(context=bench.ca.client(stranger.pair("pbx.example")))
        wrong.write(message("A"))
        await closed(reader)
        assert bench.received == []
        right.close()
        await until(lambda: not bench.verified)
        for writer in (absent, wrong):
            writer.close()

    run(body, tmp_path)


class TestOutgoing:
    """To a PBX that answers each message with itself."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_name_and_chain_are_verified_and_our_certificate_is_shown(self, host: str, tmp_path: Path) -> None:
        async def body(bench: Bench) -> None:
            other = Bench(bench.ca, host)
            await other.start()
            pbx = Flow("tls", host, other.ports["tls"], 0)
            bench.names[pbx[:3]] = TlsName(EDGE, verify=True)
            bench.streams.send(message("A"), pbx)
            bench.streams.send(message("B"), pbx)
            await until(lambda: len(bench.received) >= 2)
            assert bench.received[:2] == [(message("A"), pbx), (message("B"), pbx)]
            assert bench.counters["tls.opened"] == 1
            assert bench.verified[pbx] == {EDGE}
            assert list(other.verified.values()) == [frozenset(["node.example"])]
            await other.streams.close()
            await until(lambda: pbx in bench.lost)

        run(body, tmp_path, host)

    @pytest.mark.parametrize(
        ("name", "opens"),
        [
            (TlsName("wrong.example", verify=True), False),
            (TlsName("wrong.example", verify=False), True),
            (TlsName("", verify=True), False),
            (None, False),  # the address, and the certificate has none
        ],
    )
    def test_a_wrong_name_fails_at_once(self, name: TlsName | None, opens: bool, tmp_path: Path) -> None:
        async def body(bench: Bench) -> None:
            pbx = Flow("tls", "127.0.0.1", bench.ports["tls"], 0)
            if name is not None:
                bench.names[pbx[:3]] = name
            bench.streams.send(message("A"), pbx)
            await until(lambda: bench.received or bench.lost)
            assert bool(bench.received) is opens
            assert bench.counters["tls.open_failed"] == (0 if opens else 1)
            assert pbx not in bench.verified

        run(body, tmp_path)

    def test_what_was_not_verified_does_not_serve_who_wants_it_verified(self, tmp_path: Path) -> None:
        """Two tenants have the same PBX address: one without verification, one with."""

        async def body(bench: Bench) -> None:
            pbx = Flow("tls", "127.0.0.1", bench.ports["tls"], 0)
            for name, opened in (
                (TlsName(EDGE, verify=False), 1),
                (TlsName(EDGE, verify=True), 2),
                (TlsName(EDGE, verify=False), 2),
            ):
                bench.names[pbx[:3]] = name
                before = len(bench.received)
                bench.streams.send(message("A"), pbx)
                await until(lambda before=before: len(bench.received) > before)
                assert bench.counters["tls.opened"] == opened
            bench.names[pbx[:3]] = TlsName("wrong.example", verify=True)
            bench.streams.send(message("A"), pbx)
            await until(lambda: bench.counters["tls.open_failed"] == 1)

        run(body, tmp_path)

    def test_a_peer_that_never_shakes_hands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "CONNECT_SECONDS", 0.2)

        async def body(bench: Bench) -> None:
            held: list[Peer] = []
            server = await asyncio.start_server(lambda *peer: held.append(peer), "127.0.0.1", 0)
            pbx = Flow("tls", "127.0.0.1", server.sockets[0].getsockname()[1], 0)
            bench.streams.send(message("A"), pbx)
            await until(lambda: bench.lost)
            assert bench.lost == [pbx]
            for _, writer in held:
                writer.close()
            server.close()

        run(body, tmp_path)
