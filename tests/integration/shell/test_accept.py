"""No descriptor is left for a connection: its peer is told so at once, nothing spins, and later all is as before."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from sipd.net import limits
from sipd.net.accept import Acceptor
from tests.integration.shell.fakes import until


class Listening(socket.socket):
    """A listening socket that has no descriptor to give so often, unless one was given back."""

    short = 0
    asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.short:
            self.short -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCEPT_PAUSE_SECONDS", 0.05)


def play(body: Callable[[Listening, Acceptor, list[socket.socket], list[int]], object]) -> None:
    async def whole() -> None:
        sock = Listening(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        taken: list[socket.socket] = []
        short: list[int] = []
        acceptor = Acceptor(asyncio.get_running_loop(), sock, taken.append, lambda: short.append(1))
        acceptor.start()
        try:
            await body(sock, acceptor, taken, short)  # type: ignore[misc]  # each body is a coroutine function
        finally:
            acceptor.close()
            for one in taken:
                one.close()

    asyncio.run(whole())


async def connect(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*sock.getsockname())


def test_connections_are_taken() -> None:
    async def body(sock: Listening, _: Acceptor, taken: list[socket.socket], short: list[int]) -> None:
        peers = [await connect(sock) for _ in range(3)]
        await until(lambda: len(taken) == 3)
        assert not any(one.getblocking() for one in taken)
        assert short == []
        for _, writer in peers:
            writer.close()

    play(body)


def test_without_a_descriptor_the_peer_is_closed_and_counted_and_then_all_goes_on(quick: None) -> None:
    async def body(sock: Listening, _: Acceptor, taken: list[socket.socket], short: list[int]) -> None:
        sock.short = 1
        reader, writer = await connect(sock)
        async with asyncio.timeout(5):
            assert await reader.read() == b"", "not left to wait"
        writer.close()
        assert (len(taken), len(short)) == (0, 1)
        _, writer = await connect(sock)
        await until(lambda: taken)
        writer.close()

    play(body)


def test_it_does_not_spin_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCEPT_PAUSE_SECONDS", 0.2)

    async def body(sock: Listening, _: Acceptor, taken: list[socket.socket], short: list[int]) -> None:
        sock.short = 10_000  # also with the descriptor in reserve
        _, writer = await connect(sock)
        await until(lambda: sock.asked)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert sock.asked <= 4
        sock.short = 0
        await until(lambda: taken)
        writer.close()

    play(body)
