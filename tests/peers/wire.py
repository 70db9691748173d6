"""Sockets of the test peers: one UDP and one TCP socket on the same loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import re
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from tests.peers.sip import MAX_MESSAGE

MAX_CONNECTIONS = 1000
PORT_TRIES = 20
PORTS = range(10_000, 32_000)
"""Below those that the system gives to whoever asks for any (Linux: from 32768 on), so that what is free stays free."""


class Hop(NamedTuple):
    """Where a message came from or goes to."""

    transport: str
    """"udp", "tcp" or "tls"."""
    host: str
    port: int


class Tls(NamedTuple):
    """What a peer needs to speak TLS on its stream socket, in both directions, instead of plain TCP."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    name: str
    """The server name that it asks for, and verifies, where it connects."""


Receiver = Callable[[bytes, Hop], None]


class Wire(asyncio.DatagramProtocol):
    """Both sockets. `receive` gets whole messages; answers over TCP go back on the connection they belong to."""

    def __init__(self, receive: Receiver, host: str = "127.0.0.1", tls: Tls | None = None) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is no loopback address; test peers talk to nobody else")
        self.receive = receive
        self.host = host
        self._tls = tls
        self.port = 0
        self.dropped: list[str] = []
        """What could not be sent, and why."""
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[Hop, asyncio.StreamWriter] = {}
        self._waiting: dict[Hop, list[bytes]] = {}
        """What is to be sent once a connection is there."""
        self._tasks: set[asyncio.Future[None]] = set()

    async def open(self, port: int = 0) -> None:
        """Bind both; with port 0 a free one is found for both."""
        loop = asyncio.get_running_loop()
        udp, tcp = bind_both(self.host, port)
        self.port = udp.getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, sock=udp)
        self._server = await asyncio.start_server(self._accepted, sock=tcp, ssl=self._tls.server if self._tls else None)

    async def close(self) -> None:
        """Close all; may be called twice."""
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        self.drop_streams()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_streams(self) -> None:
        """End all TCP connections, as a restart does."""
        for writer in self._streams.values():
            self._end(writer)
        self._streams.clear()

    def refuse_streams(self) -> None:
        """Take no more TCP connections, as a peer that has UDP only."""
        if self._server is not None:
            self._server.close()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        """TLS would want its farewell answered, for which a test that ends has no time."""
        if self._tls is not None:
            writer.transport.abort()
        else:
            writer.close()

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def send(self, data: bytes, hop: Hop) -> None:
        """Over UDP now, over TCP as soon as there is a connection."""
        try:
            allowed = ipaddress.ip_address(hop.host).is_loopback
        except ValueError:
            allowed = False
        if not allowed or not 0 < hop.port < 65536:
            self.dropped.append(f"{hop} is not on this machine")
        elif hop.transport == "udp":
            if self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(data, (hop.host, hop.port))
        elif (writer := self._streams.get(hop)) is not None and not writer.is_closing():
            writer.write(data)
        elif hop in self._waiting:
            self._waiting[hop].append(data)
        else:
            self._waiting[hop] = [data]
            self._keep(asyncio.ensure_future(self._connect(hop)))

    # UDP

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.strip(b"\r\n\x00"):
            self.receive(data, Hop("udp", addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        self.dropped.append(str(exc))

    # TCP

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, hop: Hop) -> None:
        options = {"ssl": self._tls.client, "server_hostname": self._tls.name} if self._tls else {}
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(hop.host, hop.port, local_addr=(self.host, 0), **options), 5
            )
        except OSError as error:
            self.dropped.append(f"{hop}: {error}")
            return
        finally:
            waiting = self._waiting.pop(hop)
        writer.writelines(waiting)
        await self._serve(reader, writer, hop)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        task = asyncio.current_task()
        if task is not None:
            self._keep(task)
        await self._serve(reader, writer, Hop("tls" if self._tls else "tcp", host, port))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hop: Hop) -> None:
        if len(self._streams) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._streams[hop] = writer
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            while True:
                self.receive(await read_message(reader), hop)
        if self._streams.get(hop) is writer:
            del self._streams[hop]
        self._end(writer)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One message of a stream, by its Content-Length (RFC 3261 section 18.3); skips keep-alives between them."""
    head = b""
    while not head.strip():
        head = await reader.readuntil(b"\r\n")
    if not head.endswith(b"\r\n\r\n"):
        head += await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(\d{1,6})[ \t]*\r\n", head, re.IGNORECASE)
    if not found or int(found[1]) > MAX_MESSAGE:
        raise ValueError("a message of a stream needs a Content-Length")
    return head.lstrip() + await reader.readexactly(int(found[1]))


def bind_both(host: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(1 if port else PORT_TRIES):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            udp.bind((host, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, udp.getsockname()[1]))
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
        else:
            udp.setblocking(False)
            tcp.setblocking(False)
            return udp, tcp
    raise OSError(f"no port is free for UDP and TCP on {host}")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free for UDP and TCP a moment ago, and that the system gives to nobody by itself."""
    for _ in range(PORT_TRIES):
        port = random.choice(PORTS)
        with contextlib.suppress(OSError):
            udp, tcp = bind_both(host, port)
            with udp, tcp:
                return port
    raise OSError(f"no port is free for UDP and TCP on {host}")
