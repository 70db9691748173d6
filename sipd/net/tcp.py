"""TCP: listeners, and connections in both directions, one per remote (host, port).

A message to a peer goes over the connection that there is, inbound or outgoing (RFC 3261 18.1.1, 18.2.2),
else one is opened. What a peer can make us hold or wait for is bounded by the constants below.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from sipd.flow import Flow
from sipd.message.framing import Framer, FramingError, Ping
from sipd.net.deadlines import Deadlines

CONNECTION_LIMIT = 20_000
"""Open connections in both directions. A further inbound one is closed at once, a further outgoing one fails."""
SOURCE_LIMIT = 1000
"""Inbound connections from one address; a further one is closed at once."""
OPENING_LIMIT = 500
"""Connections being opened at one time; a further one fails at once."""
QUEUE_LIMIT = 100
"""Messages that wait for one connection to open; further ones are dropped and counted."""
WRITE_BYTES = 1024 * 1024
"""Unsent bytes of one connection; a peer that reads so slowly is cut."""
CONNECT_SECONDS = 5.0
FIRST_MESSAGE_SECONDS = 30.0
"""An inbound connection that has sent nothing whole by then is cut."""
MESSAGE_SECONDS = 15.0
"""A message that is not complete by then cuts its connection, however steadily it trickles."""
IDLE_SECONDS = 3900.0
"""A connection on which nothing comes or goes: longer than an hour, the usual expiry of a phone's binding."""
UNACKED_MS = 30_000
"""Milliseconds for the peer's host to acknowledge what was sent, before the system gives the connection up."""
CLOSE_SECONDS = 0.3
"""For streams to take what is in their buffers when the daemon stops."""
LINGER_SECONDS = 2.0
"""For the peer to read the answer to a broken message before the connection is cut."""
SWEEP_SECONDS = 1.0
"""How often the times above are looked at."""
BACKLOG = 1024
PONG = b"\r\n"
"""Answer to a double CRLF (RFC 5626 4.4.1)."""

COUNTERS = (
    "tcp.accepted", "tcp.opened", "tcp.open_failed", "tcp.received", "tcp.sent", "tcp.dropped", "tcp.bad_frames",
    "tcp.refused_full", "tcp.refused_source", "tcp.cut_slow", "tcp.cut_idle", "tcp.cut_unread",
)  # fmt: skip


class StreamUser(Protocol):
    """Who gets what streams bring. None of it is called from within `Streams.send`."""

    def stream_received(self, messages: list[bytes], flow: Flow) -> None:
        """Whole messages, in order."""

    def stream_broken(self, error: FramingError, flow: Flow) -> None:
        """A message that ends the stream but can be answered; what is sent to `flow` at once still goes out."""

    def stream_lost(self, flow: Flow) -> None:
        """The connection ended, or could not be opened."""


def bind_tcp(host: str, port: int) -> socket.socket:
    """A bound TCP socket, not listening yet; raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class Connection(asyncio.Protocol):
    """One connection. `flows` are all the names by which the core has used it."""

    __slots__ = ("_framer", "_streams", "_transport", "closing", "flow", "flows", "outgoing")

    def __init__(self, streams: Streams, flow: Flow | None, listener: int) -> None:
        """`flow` is known for outgoing connections only."""
        self._streams = streams
        self._framer = streams.make_framer()
        self.outgoing = flow is not None
        self._transport: asyncio.Transport | None = None
        self.flow = flow or Flow("tcp", "", 0, listener)
        self.flows: set[Flow] = set()
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready; an inbound one may be over a limit."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a TCP connection has a transport that reads and writes")
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKED_MS)
        if not self.outgoing:
            peer = transport.get_extra_info("peername")
            if not peer:  # gone again before we looked
                self.closing = True
                transport.abort()
                return
            self.flow = Flow("tcp", str(peer[0]), int(peer[1]), self.flow.listener)
        self.flows.add(self.flow)
        self._streams.made(self, self.outgoing)

    def data_received(self, data: bytes) -> None:
        """Hand on the whole messages; answer pings here, as they are of no interest to the core."""
        if self.closing:
            return
        try:
            self._take(self._framer.feed(data))
        except FramingError as error:
            self._take(error.before)
            self._streams.broken(self, error)

    def _take(self, items: list[bytes | Ping]) -> None:
        messages = []
        for item in items:
            if isinstance(item, bytes):
                messages.append(item)
            else:
                self.write(PONG)
        self._streams.heard(self, messages, whole=bool(items), unfinished=self._framer.unfinished)

    def eof_received(self) -> bool:
        """The peer is done: so are we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Ended by either side."""
        self.closing = True
        self._streams.ended(self)

    def write(self, data: bytes) -> None:
        """Send, as fast as the peer reads; cut it when it does not."""
        transport = self._transport
        if transport is None or self.closing or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > WRITE_BYTES:
            self._streams.counters["tcp.cut_unread"] += 1
            self.cut()

    def finish(self) -> None:
        """Let the peer read what was sent; then it closes, or is cut."""
        self.closing = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def cut(self) -> None:
        """End now; what was not sent is lost."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()


class Opening:
    """A connection that is being opened, and what waits for it."""

    __slots__ = ("flows", "messages")

    def __init__(self) -> None:
        self.flows: set[Flow] = set()
        self.messages: list[bytes] = []


class Streams:
    """All TCP connections of the daemon.

    `hosts` gives the address of each listener by its index: outgoing connections come from there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        user: StreamUser,
        hosts: Mapping[int, str],
        counters: dict[str, int],
        make_framer: Callable[[], Framer] = Framer,
    ) -> None:
        self._loop = loop
        self._user = user
        self._hosts = hosts
        self.counters = counters
        self.make_framer = make_framer
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._by_peer: dict[tuple[str, int], Connection] = {}
        self._by_source: Counter[str] = Counter()
        self._opening: dict[tuple[str, int], Opening] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: Deadlines[Connection] = Deadlines(FIRST_MESSAGE_SECONDS)
        self._unfinished: Deadlines[Connection] = Deadlines(MESSAGE_SECONDS)
        self._idle: Deadlines[Connection] = Deadlines(IDLE_SECONDS)
        self._lingering: Deadlines[Connection] = Deadlines(LINGER_SECONDS)
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep_again)
        for name in COUNTERS:
            counters.setdefault(name, 0)

    def __len__(self) -> int:
        return len(self._connections)

    async def listen(self, sock: socket.socket, listener: int) -> None:
        """Accept connections on a bound socket."""
        server = await self._loop.create_server(lambda: Connection(self, None, listener), sock=sock, backlog=BACKLOG)
        self._servers.append(server)

    def send(self, data: bytes, flow: Flow) -> None:
        """Send one message to the peer of `flow`, over whatever connection leads there."""
        peer = (flow.host, flow.port)
        connection = self._by_peer.get(peer)
        if connection is None:
            self._wait(data, flow, peer)
            return
        connection.flows.add(flow)
        self._write(connection, data)

    async def close(self) -> None:
        """Stop accepting, let peers read what was sent for a moment, and cut the rest."""
        self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.finish()
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.cut()

    # What connections tell

    def made(self, connection: Connection, outgoing: bool) -> None:
        """A connection is up. Over a limit, it is cut, and nobody hears of it."""
        source = connection.flow.host
        if not outgoing:
            refused = ""
            if len(self._connections) >= CONNECTION_LIMIT:
                refused = "tcp.refused_full"
            elif self._by_source[source] >= SOURCE_LIMIT:
                refused = "tcp.refused_source"
            if refused:
                self.counters[refused] += 1
                connection.cut()
                return
            self._by_source[source] += 1
            self._silent.start(connection, self._loop.time())
        self.counters["tcp.opened" if outgoing else "tcp.accepted"] += 1
        self._connections.add(connection)
        self._empty.clear()
        self._by_peer[connection.flow[1:3]] = connection
        self._idle.restart(connection, self._loop.time())

    def heard(self, connection: Connection, messages: list[bytes], whole: bool, unfinished: bool) -> None:
        """Bytes came: `whole` if they completed a message or ping, `unfinished` if a message is left begun."""
        now = self._loop.time()
        self._idle.restart(connection, now)
        if whole:
            self._silent.drop(connection)
            self._unfinished.drop(connection)
        if unfinished:
            self._unfinished.start(connection, now)
        if messages:
            self.counters["tcp.received"] += len(messages)
            self._user.stream_received(messages, connection.flow)

    def broken(self, connection: Connection, error: FramingError) -> None:
        """The stream cannot be read on: answer it and what came before it if that is possible, and end."""
        self.counters["tcp.bad_frames"] += 1
        self._unfinished.drop(connection)
        self._silent.drop(connection)
        if error.message is None and not error.before:
            connection.cut()
            return
        self._user.stream_broken(error, connection.flow)
        connection.finish()
        self._forget_peer(connection)
        self._lingering.start(connection, self._loop.time())

    def ended(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
        source = connection.flow.host
        if not connection.outgoing:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]
        self._forget_peer(connection)
        for deadlines in (self._silent, self._unfinished, self._idle, self._lingering):
            deadlines.drop(connection)
        for flow in connection.flows:
            self._user.stream_lost(flow)

    def _forget_peer(self, connection: Connection) -> None:
        """What is sent to this peer from now on takes another connection."""
        peer = connection.flow[1:3]
        if self._by_peer.get(peer) is connection:
            del self._by_peer[peer]

    # Opening

    def _wait(self, data: bytes, flow: Flow, peer: tuple[str, int]) -> None:
        """Queue a message for a connection that is not there yet."""
        opening = self._opening.get(peer)
        if opening is None:
            if len(self._opening) >= OPENING_LIMIT or len(self._connections) >= CONNECTION_LIMIT:
                self.counters["tcp.open_failed"] += 1
                self._loop.call_soon(self._user.stream_lost, flow)
                return
            opening = self._opening[peer] = Opening()
            task = self._loop.create_task(self._open(opening, flow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        opening.flows.add(flow)
        if len(opening.messages) >= QUEUE_LIMIT:
            self.counters["tcp.dropped"] += 1
            return
        opening.messages.append(data)

    async def _open(self, opening: Opening, flow: Flow) -> None:
        host = self._hosts.get(flow.listener, "")
        local = None if host in ("", "0.0.0.0", "::") else (host, 0)  # noqa: S104 - compared, not bound
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, flow, flow.listener), flow.host, flow.port, local_addr=local
                )
        except (OSError, OverflowError, UnicodeError):
            del self._opening[flow[1:3]]
            self.counters["tcp.open_failed"] += 1
            for waiting in opening.flows:
                self._user.stream_lost(waiting)
            return
        del self._opening[flow[1:3]]
        connection.flows |= opening.flows
        for data in opening.messages:
            self._write(connection, data)

    def _write(self, connection: Connection, data: bytes) -> None:
        self.counters["tcp.sent"] += 1
        self._idle.restart(connection, self._loop.time())
        connection.write(data)

    # Time

    def sweep(self, now: float) -> None:
        """Cut what has taken too long; `now` is the loop's time."""
        for name, deadlines in (
            ("tcp.cut_slow", self._silent),
            ("tcp.cut_slow", self._unfinished),
            ("tcp.cut_idle", self._idle),
            ("", self._lingering),
        ):
            for connection in deadlines.take_due(now):
                if name:
                    self.counters[name] += 1
                connection.cut()

    def _sweep_again(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep_again)
        self.sweep(self._loop.time())
