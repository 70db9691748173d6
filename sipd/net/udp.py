"""UDP listeners, drained in batches: one wake-up, many datagrams, one commit, many answers."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from sipd.flow import Flow

BATCH = 256
"""Datagrams taken in one wake-up; the rest waits in the socket while other sockets have their turn."""
DATAGRAM_BYTES = 65_535
SOCKET_BUFFER = 4 * 1024 * 1024
"""Bytes asked for in each direction; the system may grant less (net.core.rmem_max, wmem_max)."""
QUEUE_LIMIT = 4096
"""Datagrams that wait while the socket's send buffer is full. Further ones are dropped and counted:
SIP retransmits (RFC 3261 section 17)."""

Received = list[tuple[bytes, Flow]]
"""One batch: each datagram with where it came from."""


def bind_udp(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket; raises OSError.

    No SO_REUSEADDR: on Linux it would let a second daemon share the port and take its datagrams.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class UdpListener:
    """One socket. `handle` gets each batch, and is expected to `send` what answers it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        listener: int,
        handle: Callable[[Received], None],
        counters: dict[str, int],
        shuts_out: Callable[[str, str], bool] = lambda host, transport: False,
    ) -> None:
        """`shuts_out` says of an address and transport whether nothing from there is to be looked at."""
        self._loop = loop
        self._shuts_out = shuts_out
        self._sock = sock
        self._listener = listener
        self._handle = handle
        self._counters = counters
        self._waiting: deque[tuple[bytes, tuple[str, int]]] = deque()
        for name in ("udp.received", "udp.sent", "udp.dropped", "udp.shut_out", "udp.send_errors"):
            counters.setdefault(name, 0)

    @property
    def waiting(self) -> int:
        """Datagrams that wait for the socket."""
        return len(self._waiting)

    def start(self) -> None:
        """Read from now on."""
        self._loop.add_reader(self._sock, self._drain)

    def close(self) -> None:
        """Send what waits if the socket takes it, and end."""
        self._loop.remove_reader(self._sock)
        self._flush()
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def send(self, data: bytes, host: str, port: int) -> None:
        """Send one datagram, or let it wait while the socket is full. `host` is an IP address."""
        if self._waiting or not self._sent(data, (host, port)):
            self._wait(data, (host, port))

    def _drain(self) -> None:
        receive, listener, shuts_out = self._sock.recvfrom, self._listener, self._shuts_out
        batch: Received = []
        try:
            for _ in range(BATCH):
                data, address = receive(DATAGRAM_BYTES)
                if shuts_out(address[0], "udp"):
                    self._counters["udp.shut_out"] += 1
                    continue
                batch.append((data, Flow("udp", address[0], address[1], listener)))
        except OSError:  # EAGAIN: drained. Anything else shows again with the next read.
            pass
        if batch:
            self._counters["udp.received"] += len(batch)
            self._handle(batch)

    def _sent(self, data: bytes, address: tuple[str, int]) -> bool:
        """Whether the datagram is off our hands: sent, or impossible to send."""
        try:
            self._sock.sendto(data, address)
        except BlockingIOError:
            return False
        except (OSError, OverflowError, UnicodeError):  # no route, too long, no such port: the timers answer
            self._counters["udp.send_errors"] += 1
        else:
            self._counters["udp.sent"] += 1
        return True

    def _wait(self, data: bytes, address: tuple[str, int]) -> None:
        if len(self._waiting) >= QUEUE_LIMIT:
            self._counters["udp.dropped"] += 1
            return
        if not self._waiting:
            self._loop.add_writer(self._sock, self._flush)
        self._waiting.append((data, address))

    def _flush(self) -> None:
        while self._waiting and self._sent(*self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting:
            self._loop.remove_writer(self._sock)
