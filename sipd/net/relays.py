"""The sockets that media relays are spoken to through: one each, connected, so that nobody else is heard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

BATCH = 64
"""Datagrams taken in one wake-up of one socket; the rest waits in it."""
DATAGRAM_BYTES = 65_535

Received = Callable[[list[tuple[bytes, int]]], None]


class RelaySockets:
    """`handle` gets each batch, every datagram with the number of the relay in `addresses`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: Sequence[tuple[str, int]],
        handle: Received,
        counters: dict[str, int],
    ) -> None:
        """`addresses`: IP address and port each."""
        self._loop = loop
        self._addresses = addresses
        self._handle = handle
        self._counters = counters
        self._sockets: dict[int, socket.socket] = {}
        counters.setdefault("media.send_errors", 0)

    def send(self, data: bytes, number: int) -> None:
        """One datagram. What cannot be sent is counted: the core repeats it, or takes the relay for silent."""
        try:
            sock = self._sockets.get(number) or self._open(number)
            sock.send(data)
        except OSError:  # full, no route yet, or nobody listens there
            self._counters["media.send_errors"] += 1

    def close(self) -> None:
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _open(self, number: int) -> socket.socket:
        """When it is needed first: at the start of the machine there may be no route yet."""
        host, port = self._addresses[number]
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        self._sockets[number] = sock
        self._loop.add_reader(sock, self._drain, sock, number)
        return sock

    def _drain(self, sock: socket.socket, number: int) -> None:
        batch: list[tuple[bytes, int]] = []
        try:
            for _ in range(BATCH):
                data = sock.recv(DATAGRAM_BYTES)
                batch.append((data, number))
        except OSError:  # drained; or nobody listens there, which silence tells as well
            pass
        if batch:
            self._handle(batch)
