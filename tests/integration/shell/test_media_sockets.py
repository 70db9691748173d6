"""The daemon's sockets to media relays: real datagrams, one socket for each relay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sipd.config import Address
from sipd.daemon import Daemon
from tests.integration.shell.fakes import FakeCore, config
from tests.integration.shell.test_daemon import run


@contextmanager
def relays(*hosts: str) -> Iterator[list[socket.socket]]:
    """Sockets that stand for relays."""
    opened = []
    for host in hosts:
        opened.append(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM))
        opened[-1].bind((host, 0))
        opened[-1].setblocking(False)
    try:
        yield opened
    finally:
        for sock in opened:
            sock.close()


def address(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


async def heard(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recvfrom(sock, 2000)


def test_each_relay_is_spoken_to_and_heard_by_its_number(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        for number, relay in enumerate(there):
            data, back = await heard(relay)
            assert data == b"hello %d" % number
            relay.sendto(b"abc", back)
            assert (await heard(relay))[0] == b"cba"
        assert [told for told in core.told if told[0] == "media_received"] == [
            ("media_received", b"abc", 0), ("media_received", b"abc", 1),
        ]  # fmt: skip

    with relays("127.0.0.1", "::1") as there:
        run(config(tmp_path, "udp:127.0.0.1:0", media=tuple(map(address, there))), body)


def test_others_are_not_heard(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        _, back = await heard(relay)
        stranger.sendto(b"abc", back)
        relay.sendto(b"def", back)
        assert (await heard(relay))[0] == b"fed"
        assert [told[1] for told in core.told if told[0] == "media_received"] == [b"def"]

    with relays("127.0.0.1", "127.0.0.1") as (relay, stranger):
        run(config(tmp_path, "udp:127.0.0.1:0", media=(address(relay),)), body)


def test_a_relay_that_nobody_listens_at_costs_nothing_else(tmp_path: Path) -> None:
    async def body(node: Daemon, core: FakeCore) -> None:
        assert (await heard(relay))[0] == b"hello 1"

    with relays("127.0.0.1", "127.0.0.1") as (gone, relay):
        nowhere = address(gone)
        gone.close()
        run(config(tmp_path, "udp:127.0.0.1:0", media=(nowhere, address(relay))), body)
