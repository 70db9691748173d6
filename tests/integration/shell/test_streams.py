"""TCP connections over loopback: framing, reuse, opening, and what peers cannot make us do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipd.flow import Flow
from sipd.message.framing import FramingError
from sipd.net import limits
from sipd.net.streams import Streams, bind_tcp
from tests.integration.shell.fakes import message, until

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Recorder:
    """Keeps what streams bring; sends each message back when `echo`."""

    def __init__(self) -> None:
        self.streams: Streams
        self.port = 0
        self.counters: dict[str, int] = {}
        self.received: list[tuple[bytes, Flow]] = []
        self.pinged: list[Flow] = []
        self.lost: list[Flow] = []
        self.verified: list[tuple[Flow, frozenset[str]]] = []
        self.echo = True

    def stream_received(self, messages: list[bytes], flow: Flow) -> None:
        for data in messages:
            self.received.append((data, flow))
            if self.echo:
                self.streams.send(data, flow)

    def stream_pinged(self, flow: Flow) -> None:
        self.pinged.append(flow)

    def stream_broken(self, error: FramingError, flow: Flow) -> None:
        self.streams.send(b"SIP/2.0 %d Broken\r\n\r\n" % error.status, flow)

    def stream_lost(self, flow: Flow) -> None:
        self.lost.append(flow)

    def stream_verified(self, flow: Flow, names: frozenset[str]) -> None:
        self.verified.append((flow, names))

    async def connect(self, host: str = "127.0.0.1", **options: Any) -> Peer:
        return await asyncio.open_connection(host, self.port, **options)


def run(body: Callable[[Recorder], Awaitable[None]], host: str = "127.0.0.1") -> None:
    """Run `body` beside a listener with index 2."""

    async def whole() -> None:
        recorder = Recorder()
        recorder.streams = Streams(asyncio.get_running_loop(), recorder, {2: host}, recorder.counters)
        sock = bind_tcp(host, 0)
        recorder.port = sock.getsockname()[1]
        await recorder.streams.listen(sock, 2)
        try:
            await body(recorder)
        finally:
            await recorder.streams.close()

    asyncio.run(whole())


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What is left until the end of the stream, cleanly or not."""
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_messages_are_framed_and_answered_on_their_connection(host: str) -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect(host)
        whole = message("A", b"body") + message("B")
        for byte in range(len(whole)):
            writer.write(whole[byte : byte + 1])
            if byte % 7 == 0:
                await writer.drain()
                await asyncio.sleep(0)
        assert await reader.readexactly(len(whole)) == whole
        assert [flow for _, flow in recorder.received] == [
            Flow("tcp", host, writer.get_extra_info("sockname")[1], 2)
        ] * 2
        writer.close()
        await until(lambda: recorder.lost)
        assert recorder.lost == [recorder.received[0][1]]

    run(body, host)


def test_a_ping_is_answered_and_told() -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect()
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        assert recorder.received == []
        assert [flow.port for flow in recorder.pinged] == [writer.get_extra_info("sockname")[1]]
        writer.close()

    run(body)


def test_a_large_answer_goes_out_in_parts() -> None:
    async def body(recorder: Recorder) -> None:
        recorder.echo = False
        reader, writer = await recorder.connect(limit=4096)
        writer.write(message("A"))
        await until(lambda: recorder.received)
        answer = message("B", b"x" * 600_000)
        recorder.streams.send(answer, recorder.received[0][1])
        assert await reader.readexactly(len(answer)) == answer
        assert recorder.lost == []
        writer.close()

    run(body)


def test_a_peer_that_does_not_read_is_cut() -> None:
    async def body(recorder: Recorder) -> None:
        recorder.echo = False
        _, writer = await recorder.connect(limit=1024)
        writer.write(message("A"))
        await until(lambda: recorder.received)
        flow = recorder.received[0][1]
        for _ in range(200):
            recorder.streams.send(b"x" * 100_000, flow)
            await asyncio.sleep(0)
            if recorder.lost:
                break
        assert recorder.lost == [flow]
        assert recorder.counters["tcp.cut_unread"] == 1
        writer.close()

    run(body)


def test_a_slow_sender_is_cut_however_steadily_it_trickles() -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect()
        loop = asyncio.get_running_loop()
        writer.write(message("A"))
        await reader.readexactly(len(message("A")))
        begun = loop.time()
        for byte in b"OPTIONS":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        recorder.streams.sweep(begun + limits.MESSAGE_SECONDS - 0.5)
        assert recorder.lost == []
        recorder.streams.sweep(begun + limits.MESSAGE_SECONDS + 1.0)
        await closed(reader)
        assert len(recorder.lost) == 1
        assert recorder.counters["tcp.cut_slow"] == 1
        writer.close()

    run(body)


def test_a_silent_connection_is_cut_and_an_idle_one_later() -> None:
    async def body(recorder: Recorder) -> None:
        silent, writer = await recorder.connect()
        talking, talker = await recorder.connect()
        talker.write(message("A"))
        await talking.readexactly(len(message("A")))
        now = asyncio.get_running_loop().time()
        recorder.streams.sweep(now + limits.FIRST_MESSAGE_SECONDS + 1)
        await closed(silent)
        assert len(recorder.streams) == 1
        recorder.streams.sweep(now + limits.IDLE_SECONDS + 1)
        await closed(talking)
        assert (recorder.counters["tcp.cut_slow"], recorder.counters["tcp.cut_idle"]) == (1, 1)
        for one in (writer, talker):
            one.close()

    run(body)


def test_a_broken_frame_is_answered_and_ends_the_connection() -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect()
        broken = message("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: many")
        writer.write(message("A") + broken + b"more that nobody reads")
        rest = await closed(reader)
        assert rest == message("A") + b"SIP/2.0 400 Broken\r\n\r\n"
        writer.close()
        await until(lambda: recorder.lost)
        assert len(recorder.received) == 1

    run(body)


def test_a_peer_that_stays_after_a_broken_frame_is_cut() -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect()
        writer.write(message("OPTIONS").replace(b"Content-Length: 0", b"Content-Length: many"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(message("A"))
        recorder.streams.sweep(asyncio.get_running_loop().time() + limits.LINGER_SECONDS + 1)
        await until(lambda: recorder.lost)
        assert recorder.received == []
        writer.close()

    run(body)


def test_junk_without_an_answer_is_cut() -> None:
    async def body(recorder: Recorder) -> None:
        reader, writer = await recorder.connect()
        writer.write(b"\n\x00\xff" * 10)
        assert await closed(reader) == b""
        assert recorder.counters["tcp.bad_frames"] == 1
        writer.close()

    run(body)


def test_too_many_connections_from_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOURCE_LIMIT", 2)

    async def body(recorder: Recorder) -> None:
        peers = [await recorder.connect() for _ in range(3)]
        await closed(peers[2][0])
        assert recorder.counters["tcp.refused_source"] == 1
        assert recorder.lost == []
        peers[0][1].close()
        await until(lambda: recorder.lost)
        reader, writer = await recorder.connect()
        writer.write(message("A"))
        assert await reader.readexactly(len(message("A")))
        for _, opened in [*peers, (reader, writer)]:
            opened.close()

    run(body)


def test_too_many_connections_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTION_LIMIT", 1)

    async def body(recorder: Recorder) -> None:
        peers = [await recorder.connect() for _ in range(2)]
        await closed(peers[1][0])
        assert recorder.counters["tcp.refused_full"] == 1
        recorder.streams.send(b"x", Flow("tcp", "127.0.0.1", 9, 2))
        await until(lambda: recorder.lost)
        assert recorder.counters["tcp.open_failed"] == 1
        for _, writer in peers:
            writer.close()

    run(body)


def test_one_connection_is_opened_for_all_that_waits_and_is_used_both_ways() -> None:
    async def body(recorder: Recorder) -> None:
        recorder.echo = False
        peers: asyncio.Queue[Peer] = asyncio.Queue()
        server = await asyncio.start_server(lambda reader, writer: peers.put_nowait((reader, writer)), "127.0.0.1", 0)
        pbx = Flow("tcp", "127.0.0.1", server.sockets[0].getsockname()[1], 2)
        recorder.streams.send(message("A"), pbx)
        recorder.streams.send(message("B"), pbx)
        reader, writer = await peers.get()
        assert await reader.readexactly(len(message("AB")) * 2 - 2) == message("A") + message("B")
        recorder.streams.send(message("C"), pbx)
        assert await reader.readexactly(len(message("C"))) == message("C")
        writer.write(message("D"))
        await until(lambda: recorder.received)
        assert recorder.received == [(message("D"), pbx)]
        assert recorder.counters["tcp.opened"] == 1
        writer.close()
        await until(lambda: recorder.lost)
        assert recorder.lost == [pbx]
        recorder.streams.send(message("E"), pbx)
        reader, writer = await peers.get()
        assert await reader.readexactly(len(message("E"))) == message("E")
        writer.close()
        server.close()

    run(body)


def test_a_peer_that_cannot_be_reached_is_lost_once_per_flow() -> None:
    async def body(recorder: Recorder) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        gone = Flow("tcp", "127.0.0.1", port, 2)
        for _ in range(3):
            recorder.streams.send(message("A"), gone)
        assert recorder.lost == []
        await until(lambda: recorder.lost)
        assert recorder.lost == [gone]
        wrong_family = Flow("tcp", "::1", port, 2)
        recorder.streams.send(message("A"), wrong_family)
        await until(lambda: wrong_family in recorder.lost)

    run(body)


def test_what_waits_for_a_connection_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_LIMIT", 2)
    monkeypatch.setattr(limits, "OPENING_LIMIT", 1)

    async def body(recorder: Recorder) -> None:
        first, second = Flow("tcp", "127.0.0.1", 9, 2), Flow("tcp", "127.0.0.2", 9, 2)
        for _ in range(5):
            recorder.streams.send(message("A"), first)
        assert recorder.counters["tcp.dropped"] == 3
        recorder.streams.send(message("A"), second)
        await until(lambda: {first, second} <= set(recorder.lost))

    run(body)
