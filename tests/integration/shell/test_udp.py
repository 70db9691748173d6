"""UDP listeners over loopback: batches, both address families, full sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipd.flow import Flow
from sipd.net import udp
from sipd.net.udp import Received, UdpListener, bind_udp
from tests.integration.shell.fakes import until


async def echoing(
    host: str, body: Callable[[UdpListener, tuple[str, int], list[Received], dict[str, int]], Any]
) -> None:
    """A listener that sends each batch back."""
    batches: list[Received] = []
    counters: dict[str, int] = {}
    sock = bind_udp(host, 0)

    def handle(batch: Received) -> None:
        batches.append(batch)
        for data, flow in batch:
            listener.send(data, flow.host, flow.port)

    listener = UdpListener(asyncio.get_running_loop(), sock, 3, handle, counters)
    listener.start()
    try:
        await body(listener, sock.getsockname()[:2], batches, counters)
    finally:
        listener.close()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_datagrams_come_in_batches_and_go_back(host: str, family: socket.AddressFamily) -> None:
    async def body(
        listener: UdpListener, address: tuple[str, int], batches: list[Received], counters: dict[str, int]
    ) -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as phone:
            phone.bind((host, 0))
            phone.settimeout(2)
            for number in range(5):
                phone.sendto(b"m%d" % number, address)
            await until(lambda: counters["udp.sent"] == 5)
            assert [phone.recv(100) for _ in range(5)] == [b"m0", b"m1", b"m2", b"m3", b"m4"]
            assert batches[0][0] == (b"m0", Flow("udp", host, phone.getsockname()[1], 3))
        assert len(batches) == 1
        assert counters["udp.received"] == 5

    asyncio.run(echoing(host, body))


def test_a_batch_is_bounded() -> None:
    async def body(
        listener: UdpListener, address: tuple[str, int], batches: list[Received], counters: dict[str, int]
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for _ in range(udp.BATCH + 10):
                phone.sendto(b"m", address)
            await until(lambda: counters["udp.received"] == udp.BATCH + 10)
        assert [len(batch) for batch in batches] == [udp.BATCH, 10]

    asyncio.run(echoing("127.0.0.1", body))


def test_what_cannot_be_sent_is_counted() -> None:
    async def body(
        listener: UdpListener, address: tuple[str, int], batches: list[Received], counters: dict[str, int]
    ) -> None:
        listener.send(b"x" * 70_000, *address)
        listener.send(b"x", "127.0.0.1", 70_000)
        listener.send(b"x", "::1", 5060)
        assert counters["udp.send_errors"] == 3

    asyncio.run(echoing("127.0.0.1", body))


class FullSocket:
    """A socket whose buffer is full until `room` is given."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.room = 0
        self.sent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        self.sent.append(data)


def test_a_full_socket_makes_datagrams_wait_in_order_and_then_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "QUEUE_LIMIT", 3)

    async def body() -> None:
        counters: dict[str, int] = {}
        full = FullSocket(bind_udp("127.0.0.1", 0))
        sock: Any = full
        listener = UdpListener(asyncio.get_running_loop(), sock, 0, lambda batch: None, counters)
        for number in range(5):
            listener.send(b"%d" % number, "127.0.0.1", 9)
        assert counters["udp.dropped"] == 2
        full.room = 10
        await until(lambda: len(full.sent) == 3)
        assert full.sent == [b"0", b"1", b"2"]
        listener.send(b"5", "127.0.0.1", 9)
        assert full.sent[-1] == b"5"
        listener.close()

    asyncio.run(body())


def test_a_used_port_is_an_error(tmp_path: Path) -> None:
    with bind_udp("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        bind_udp("127.0.0.1", first.getsockname()[1])
