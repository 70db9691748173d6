"""An end of an RTP stream: it sends G.711 silence (RFC 3551), and counts what comes and from where."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import Self

from tests.peers.wire import free_port

FRAME = b"\xff" * 160
"""20 ms of silence in PCMU."""
SECONDS = 0.02
LIFE = 3000
"""Packets after which it stops by itself: a minute."""


class Rtp:
    """One socket, RTP and no RTCP; an async context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port(host) & ~1
        self.sources: dict[tuple[str, int], int] = {}
        """Packets that came, by where they came from."""
        self.kinds: set[int] = set()
        """Payload types of those."""
        self._came = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Heard(self), (self.host, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sending is not None:
            self._sending.cancel()
        if self._transport is not None:
            self._transport.close()

    @property
    def received(self) -> int:
        """Packets that came."""
        return sum(self.sources.values())

    def note(self, source: tuple[str, int], kind: int) -> None:
        """A packet came."""
        self.sources[source] = self.sources.get(source, 0) + 1
        self.kinds.add(kind)
        self._came.set()

    def sdp(self, extra: str = "") -> bytes:
        """What this end says of itself."""
        where = f"{'IP6' if ':' in self.host else 'IP4'} {self.host}"
        return (
            f"v=0\r\no=- {self.port} 1 IN {where}\r\ns=-\r\nc=IN {where}\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n{extra}"
        ).encode()

    def speak(self, sdp: bytes) -> tuple[str, int]:
        """Send to where an SDP says, from now on; that place."""
        place = place_of(sdp)
        if self._sending is not None:
            self._sending.cancel()
        self._sending = asyncio.create_task(self._speak(place))
        return place

    async def _speak(self, place: tuple[str, int]) -> None:
        for number in range(LIFE):
            head = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160, self.port)
            if self._transport is not None:
                self._transport.sendto(head + FRAME, place)
            await asyncio.sleep(SECONDS)

    async def hears(self, packets: int = 20, within: float = 15.0) -> None:
        """Wait for so many more packets."""
        wanted = self.received + packets
        async with asyncio.timeout(within):
            while self.received < wanted:
                self._came.clear()
                await self._came.wait()


class _Heard(asyncio.DatagramProtocol):
    def __init__(self, end: Rtp) -> None:
        self._end = end

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > 12 and data[0] >> 6 == 2:
            self._end.note(addr[:2], data[1] & 0x7F)


def place_of(sdp: bytes) -> tuple[str, int]:
    """Where the first stream of an SDP wants its packets."""
    text = sdp.decode()
    port = re.search(r"^m=audio (\d+) ", text, re.MULTILINE)
    hosts = re.findall(r"^c=IN IP[46] (\S+)", text, re.MULTILINE)
    assert port is not None, text
    assert hosts, text
    return hosts[-1].strip(), int(port[1])


def protocol_of(sdp: bytes) -> str:
    """`RTP/AVP` and the like."""
    found = re.search(rb"^m=audio \d+ (\S+)", sdp, re.MULTILINE)
    assert found is not None, sdp
    return found[1].decode()
