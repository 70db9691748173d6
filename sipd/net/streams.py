"""TCP, TLS, WebSocket and secure WebSocket: listeners, and connections, one per (transport, remote host, port).

A message to a peer goes over the connection that there is, inbound or outgoing (RFC 3261 18.1.1, 18.2.2), else one
is opened; never for WebSockets, which only the peer opens (RFC 7118). What a peer can make us hold or wait for is
bounded by `sipd.net.limits`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from sipd.flow import WEB, Flow, TlsName
from sipd.message.framing import Framer, FramingError, Ping
from sipd.net import limits
from sipd.net.accept import Acceptor
from sipd.net.deadlines import Deadlines
from sipd.net.tls import Certificates, Tls, TlsError
from sipd.net.websocket import WebSocket

log = logging.getLogger("sipd.net.streams")

PONG = b"\r\n"
"""Answer to a double CRLF (RFC 5626 4.4.1)."""
TRANSPORTS = ("tcp", "tls", "ws", "wss")
COUNTED = (
    "accepted", "opened", "open_failed", "received", "sent", "dropped", "bad_frames", "refused_full", "refused_source",
    "refused_files", "cut_slow", "cut_idle", "cut_unread", "cut_handshake", "shut_out",
)  # fmt: skip
NAMES: Mapping[str, Mapping[str, str]] = {t: {what: f"{t}.{what}" for what in COUNTED} for t in TRANSPORTS}
"""Names of the counters, by transport."""
STARVED = 3
"""So often in a row nothing but a piece of a TLS record: it trickles. Records without data come one at a time."""
LOG_SECONDS = 1.0
"""At most one line about failed handshakes in this time; all are counted."""


class StreamUser(Protocol):
    """Who gets what streams bring. None of it is called from within `Streams.send`."""

    def stream_received(self, messages: list[bytes], flow: Flow) -> None:
        """Whole messages, in order."""

    def stream_pinged(self, flow: Flow) -> None:
        """A keep-alive came, and was answered (RFC 5626 4.4.1)."""

    def stream_broken(self, error: FramingError, flow: Flow) -> None:
        """A message that ends the stream but can be answered; what is sent to `flow` at once still goes out."""

    def stream_lost(self, flow: Flow) -> None:
        """The connection ended, or could not be opened."""

    def stream_verified(self, flow: Flow, names: frozenset[str]) -> None:
        """The peer has a certificate that we believe, for these DNS names; told before its first message."""


class Security(NamedTuple):
    """What TLS and WebSockets need."""

    certificates: Certificates | None = None
    """None: no TLS in either direction."""
    tls_name: Callable[[Flow], TlsName | None] = lambda _: None
    """Who shall be at the other end of a connection that we open; None: the host of the flow itself, verified."""
    origins: Sequence[str] = ()
    """Values of Origin that WebSockets may come with; none given: any."""
    shuts_out: Callable[[str, str], bool] = lambda host, transport: False
    """Whether nothing from an address over a transport is to be looked at."""


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
    """One connection: TLS below, frames above, each if the transport has it.

    `flows` are all the names by which the core has used it.
    """

    __slots__ = (
        "_framer", "_starved", "_streams", "_tls", "_transport", "_web", "closing", "flow", "flows", "outgoing",
        "proved", "ready",
    )  # fmt: skip

    def __init__(self, streams: Streams, flow: Flow, tls: Tls | None, *, outgoing: bool, proved: str = "") -> None:
        """Of an inbound connection the flow's host and port are not known yet; `proved` is the name that the peer
        will have shown that it has once this can be used."""
        self._streams = streams
        self._tls = tls
        self._web = WebSocket(streams.origins) if flow.transport in WEB else None
        self._framer = streams.make_framer()
        self._starved = 0
        """How often in a row something came that made no plain byte, although TLS is up."""
        self._transport: asyncio.Transport | None = None
        self.outgoing = outgoing
        self.proved = proved
        self.flow = flow
        self.flows: set[Flow] = set()
        self.closing = False
        self.ready = asyncio.Event()
        """Set once messages can be sent, or never will be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected; an inbound one may be over a limit."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream has a transport that reads and writes")
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.UNACKED_MS)
        if not self.outgoing:
            peer = transport.get_extra_info("peername")
            if not peer:  # gone again before we looked
                self.cut()
                return
            self.flow = self.flow._replace(host=str(peer[0]), port=int(peer[1]))
            if not self._streams.admit(self, shaking=self._tls is not None or self._web is not None):
                return
        if self._tls is None and self._web is None:
            self._usable()
        elif self._tls is not None and self.outgoing:
            self._tls.start()
            self._send_encrypted(self._tls)

    def data_received(self, data: bytes) -> None:
        """Hand on the whole messages; answer pings here, as they are of no interest to the core."""
        if self.closing or self._streams.shut_out(self):
            return
        try:
            if self._tls is not None:
                data = self._decrypted(self._tls, data)
                self._starved = 0 if data or not self._tls.ready else self._starved + 1
            if self._starved >= STARVED:
                self._streams.heard(self, [], whole=False, unfinished=True)
            elif data and self._web is not None:
                self._take_from_web(self._web, data)
            elif data:
                self._take(self._framer.feed(data), self._framer.unfinished)
        except TlsError as error:
            self._streams.insecure(self, str(error))
            return
        except FramingError as error:
            self._take(error.before, unfinished=False)
            self._streams.broken(self, error)
            return
        if self._tls is not None and self._tls.ended and not self.closing:
            self.finish()

    def _decrypted(self, tls: Tls, data: bytes) -> bytes:
        """Plain bytes of the peer; the handshake goes on until it is done. Raises TlsError."""
        was_ready = tls.ready
        try:
            data = tls.receive(data)
        finally:
            self._send_encrypted(tls)  # also the alert that says why
        if tls.ready and not was_ready and self._web is None:
            self._usable()
        return data

    def _take_from_web(self, web: WebSocket, data: bytes) -> None:
        was_ready = web.ready
        items = web.feed(data)
        self._write(web.output())
        if web.ready and not was_ready:
            self._usable()
        self._take(items, web.unfinished)
        if web.ended and not self.closing:
            self._streams.web_ended(self, faulty=web.faulty)

    def _take(self, items: list[bytes | Ping], unfinished: bool) -> None:
        messages = []
        for item in items:
            if isinstance(item, bytes):
                messages.append(item)
            else:
                self.write(PONG)
        self._streams.heard(self, messages, whole=bool(items), unfinished=unfinished)

    def _usable(self) -> None:
        """Handshakes are done."""
        self._streams.usable(self)
        self.ready.set()

    @property
    def verified(self) -> frozenset[str]:
        """DNS names in the certificate of the peer, if that is believed."""
        return self._tls.verified if self._tls is not None else frozenset()

    def eof_received(self) -> bool:
        """The peer is done: so are we."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Ended by either side."""
        self.closing = True
        self.ready.set()
        self._streams.ended(self)

    def write(self, message: bytes) -> None:
        """Send a message, as fast as the peer reads; cut it when it does not."""
        self._write(message if self._web is None else self._web.frame(message))

    def ping(self) -> None:
        """Keep what is in between from taking the connection for dead."""
        if self._web is not None:
            self._write(self._web.ping())

    def _write(self, data: bytes) -> None:
        if not data or self.closing:
            return
        if self._tls is None:
            self._send(data)
            return
        try:
            self._tls.send(data)
        except TlsError:  # it is broken below us: nothing more can be said
            self.cut()
            return
        self._send_encrypted(self._tls)

    def _send_encrypted(self, tls: Tls) -> None:
        data = tls.output()
        if data:
            self._send(data)

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > limits.WRITE_BYTES:
            self._streams.count(self.flow, "cut_unread")
            self.cut()

    def finish(self) -> None:
        """Let the peer read what was sent; then it closes, or is cut."""
        if not self.closing and self._web is not None:
            self._write(self._web.goodbye())
        if self._tls is not None and not self.closing:
            self._tls.close()
            self._send_encrypted(self._tls)
        self.closing = True
        self.ready.set()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._streams.linger(self)

    def cut(self) -> None:
        """End now; what was not sent is lost."""
        self.closing = True
        self.ready.set()
        if self._transport is not None:
            self._transport.abort()


class Opening:
    """A connection that is being opened, and what waits for it."""

    __slots__ = ("flows", "messages")

    def __init__(self) -> None:
        self.flows: set[Flow] = set()
        self.messages: list[bytes] = []


Peer = tuple[str, str, int]
"""Transport, host, port."""


class Streams:
    """All stream connections of the daemon.

    `hosts` gives the address of each listener by its index: outgoing connections come from there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        user: StreamUser,
        hosts: Mapping[int, str],
        counters: dict[str, int],
        make_framer: Callable[[], Framer] = Framer,
        security: Security | None = None,
        limit: int | None = None,
    ) -> None:
        """`limit` is of open connections; None: `limits.CONNECTION_LIMIT`."""
        self.limit = limits.CONNECTION_LIMIT if limit is None else limit
        self._loop = loop
        self._user = user
        self._hosts = hosts
        self._security = security or Security()
        self.origins = self._security.origins
        self.counters = counters
        self.make_framer = make_framer
        self._acceptors: list[Acceptor] = []
        self._accepted = 0
        """Connections that are taken, and not up yet."""
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._by_peer: dict[Peer, Connection] = {}
        self._by_source: Counter[str] = Counter()
        self._opening: dict[tuple[Peer, str], Opening] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._shaking: Deadlines[Connection] = Deadlines(limits.HANDSHAKE_SECONDS)
        self._silent: Deadlines[Connection] = Deadlines(limits.FIRST_MESSAGE_SECONDS)
        self._unfinished: Deadlines[Connection] = Deadlines(limits.MESSAGE_SECONDS)
        self._idle: Deadlines[Connection] = Deadlines(limits.IDLE_SECONDS)
        self._quiet: Deadlines[Connection] = Deadlines(limits.WS_PING_SECONDS)
        self._lingering: Deadlines[Connection] = Deadlines(limits.LINGER_SECONDS)
        self._sweeper = loop.call_later(limits.SWEEP_SECONDS, self._sweep_again)
        self._logged = 0.0
        for names in NAMES.values():
            for name in names.values():
                counters.setdefault(name, 0)

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def opening(self) -> int:
        """Connections of ours that are being opened."""
        return len(self._opening)

    async def listen(self, sock: socket.socket, listener: int, transport: str = "tcp") -> None:
        """Accept connections on a bound socket."""
        unknown = Flow(transport, "", 0, listener)
        certificates = self._security.certificates
        if transport not in ("tls", "wss"):
            certificates = None
        elif certificates is None:
            raise ValueError(f"a {transport} listener needs certificates")

        def accept() -> Connection:
            return Connection(self, unknown, certificates.accept() if certificates else None, outgoing=False)

        def take(taken: socket.socket) -> None:
            if len(self._connections) + self._accepted >= self.limit:
                self.count(unknown, "refused_full")
                taken.close()
                return
            self._accepted += 1
            task = self._loop.create_task(self._begin(accept, taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._acceptors.append(Acceptor(self._loop, sock, take, lambda: self.count(unknown, "refused_files")))
        self._acceptors[-1].start()

    async def _begin(self, make: Callable[[], Connection], sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(make, sock)
        except OSError:  # gone again
            sock.close()
        finally:
            self._accepted -= 1

    def send(self, data: bytes, flow: Flow) -> None:
        """Send one message to the peer of `flow`, over whatever connection leads there."""
        connection = self._by_peer.get(flow[:3])
        name = self._security.tls_name(flow) if flow.transport == "tls" else None
        if connection is not None and (name is None or _serves(connection, name)):
            connection.flows.add(flow)
            self._write(connection, data)
        elif flow.transport in WEB:
            self.count(flow, "dropped")
            self._loop.call_soon(self._user.stream_lost, flow)
        else:
            self._wait(data, flow, name)

    async def close(self) -> None:
        """Stop accepting, let peers read what was sent for a moment, and cut the rest."""
        self._sweeper.cancel()
        for acceptor in self._acceptors:
            acceptor.close()
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.finish()
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.CLOSE_SECONDS):
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.cut()

    def count(self, flow: Flow, what: str, number: int = 1) -> None:
        """Count what happened on a flow's transport; `what` is one of `COUNTED`."""
        self.counters[NAMES[flow.transport][what]] += number

    # What connections tell

    def admit(self, connection: Connection, *, shaking: bool) -> bool:
        """An inbound connection is up. Over a limit, it is cut, and nobody hears of it."""
        source, now = connection.flow.host, self._loop.time()
        refused = ""
        if self.shut_out(connection):
            return False
        if len(self._connections) >= self.limit:
            refused = "refused_full"
        elif self._by_source[source] >= limits.SOURCE_LIMIT:
            refused = "refused_source"
        if refused:
            self.count(connection.flow, refused)
            connection.cut()
            return False
        self._by_source[source] += 1
        self._keep(connection, "accepted", now)
        self._silent.start(connection, now)
        if shaking:
            self._shaking.start(connection, now)
        return True

    def shut_out(self, connection: Connection) -> bool:
        """Cut a connection with whom nothing is to be said, whether it is new or not; whether it is one."""
        flow = connection.flow
        shut = self._security.shuts_out(flow.host, flow.transport)
        if shut:
            self.count(flow, "shut_out")
            connection.cut()
        return shut

    def _keep(self, connection: Connection, counted: str, now: float) -> None:
        self.count(connection.flow, counted)
        self._connections.add(connection)
        self._empty.clear()
        self._idle.restart(connection, now)

    def usable(self, connection: Connection) -> None:
        """Its handshakes are done: messages may go, first those that waited for it."""
        flow, now = connection.flow, self._loop.time()
        if connection.outgoing:
            self._keep(connection, "opened", now)
        self._shaking.drop(connection)
        if flow.transport in WEB:  # the handshake came whole, and that is more than junk does
            self._silent.drop(connection)
            self._quiet.restart(connection, now)
        self._by_peer[flow[:3]] = connection
        connection.flows.add(flow)
        self._tell_verified(connection)
        opening = self._opening.pop((flow[:3], connection.proved), None) if connection.outgoing else None
        if opening is not None:
            connection.flows |= opening.flows
            for data in opening.messages:
                self._write(connection, data)

    def _tell_verified(self, connection: Connection) -> None:
        names = connection.verified
        if connection.proved:
            names |= {connection.proved.lower()}
        if names:
            self._user.stream_verified(connection.flow, names)

    def heard(self, connection: Connection, messages: list[bytes], whole: bool, unfinished: bool) -> None:
        """Bytes came: `whole` if they completed a message or ping, `unfinished` if a message is left begun."""
        now = self._loop.time()
        self._idle.restart(connection, now)
        if connection.flow.transport in WEB:
            self._quiet.restart(connection, now)
        if whole:
            self._silent.drop(connection)
        if whole or not unfinished:
            self._unfinished.drop(connection)
        if unfinished:
            self._unfinished.start(connection, now)
        if messages:
            self.count(connection.flow, "received", len(messages))
            self._user.stream_received(messages, connection.flow)
        elif whole:
            self._user.stream_pinged(connection.flow)

    def broken(self, connection: Connection, error: FramingError) -> None:
        """The stream cannot be read on: answer it and what came before it if that is possible, and end."""
        self.count(connection.flow, "bad_frames")
        if error.message is None and not error.before:
            connection.cut()
            return
        self._user.stream_broken(error, connection.flow)
        connection.finish()

    def web_ended(self, connection: Connection, *, faulty: bool) -> None:
        """A WebSocket is closed by its peer, or by us for what the peer sent; the close frame is under way."""
        if faulty:
            self.count(connection.flow, "bad_frames")
        connection.finish()

    def insecure(self, connection: Connection, why: str) -> None:
        """TLS failed; the alert that says so is under way."""
        self.counters["tls.handshake_failures"] += 1
        now = self._loop.time()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            flow = connection.flow
            log.warning("TLS failed peer=%s:%d outgoing=%s why=%s", flow.host, flow.port, connection.outgoing, why)
        connection.finish()

    def linger(self, connection: Connection) -> None:
        """It has been given its end, and some time to read it; what is sent from now on takes another connection."""
        for deadlines in (self._shaking, self._silent, self._unfinished, self._quiet):
            deadlines.drop(connection)
        self._forget_peer(connection)
        self._lingering.start(connection, self._loop.time())

    def ended(self, connection: Connection) -> None:
        """A connection is gone."""
        self._lingering.drop(connection)
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
        for deadlines in (self._shaking, self._silent, self._unfinished, self._idle, self._quiet):
            deadlines.drop(connection)
        for flow in connection.flows:
            self._user.stream_lost(flow)
        successor = self._by_peer.get(connection.flow[:3])
        if successor is not None:  # what was forgotten with the old one still holds for the new one
            self._tell_verified(successor)

    def _forget_peer(self, connection: Connection) -> None:
        """What is sent to this peer from now on takes another connection."""
        peer = connection.flow[:3]
        if self._by_peer.get(peer) is connection:
            del self._by_peer[peer]

    # Opening

    def _wait(self, data: bytes, flow: Flow, name: TlsName | None) -> None:
        """Queue a message for a connection that is not there yet."""
        if flow.transport == "tls":
            name = name or TlsName(flow.host, verify=True)
        key = (flow[:3], name.name if name and name.verify else "")
        opening = self._opening.get(key)
        if opening is None:
            full = len(self._opening) >= limits.OPENING_LIMIT or len(self._connections) >= self.limit
            if full or (name is not None and self._security.certificates is None):
                self.count(flow, "open_failed")
                self._loop.call_soon(self._user.stream_lost, flow)
                return
            opening = self._opening[key] = Opening()
            task = self._loop.create_task(self._open(key, opening, flow, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        opening.flows.add(flow)
        if len(opening.messages) >= limits.QUEUE_LIMIT:
            self.count(flow, "dropped")
            return
        opening.messages.append(data)

    async def _open(self, key: tuple[Peer, str], opening: Opening, flow: Flow, name: TlsName | None) -> None:
        """Connect and shake hands; `usable` does the rest."""
        host = self._hosts.get(flow.listener, "")
        local = None if host in ("", "0.0.0.0", "::") else (host, 0)  # noqa: S104 - compared, not bound
        made: list[Connection] = []

        def make() -> Connection:
            made.append(Connection(self, flow, tls, outgoing=True, proved=key[1]))
            return made[0]

        try:
            tls = self._tls_for(name)
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(make, flow.host, flow.port, local_addr=local)
                await connection.ready.wait()
            failed = self._opening.get(key) is opening
        except (OSError, OverflowError, UnicodeError, TlsError):
            failed = True
        if not failed:
            return
        for connection in made:
            connection.cut()
        del self._opening[key]
        self.count(flow, "open_failed")
        for waiting in opening.flows:
            self._user.stream_lost(waiting)

    def _tls_for(self, name: TlsName | None) -> Tls | None:
        """Raises TlsError for a name that cannot be one."""
        if name is None or self._security.certificates is None:
            return None
        return self._security.certificates.connect(name.name, verify=name.verify)

    def _write(self, connection: Connection, data: bytes) -> None:
        self.count(connection.flow, "sent")
        self._idle.restart(connection, self._loop.time())
        connection.write(data)

    # Time

    def sweep(self, now: float) -> None:
        """Cut what has taken too long; `now` is the loop's time."""
        for what, deadlines in (
            ("cut_handshake", self._shaking),
            ("cut_slow", self._silent),
            ("cut_slow", self._unfinished),
            ("cut_idle", self._idle),
            ("", self._lingering),
        ):
            for connection in deadlines.take_due(now):
                if what:
                    self.count(connection.flow, what)
                connection.cut()
        for connection in self._quiet.take_due(now):
            connection.ping()
            if not connection.closing:
                self._quiet.restart(connection, now)

    def _sweep_again(self) -> None:
        self._sweeper = self._loop.call_later(limits.SWEEP_SECONDS, self._sweep_again)
        self.sweep(self._loop.time())


def _serves(connection: Connection, name: TlsName) -> bool:
    """Whether a connection is to whom the core wants there: another tenant may have asked for less."""
    return not name.verify or connection.proved == name.name or name.name.lower() in connection.verified
