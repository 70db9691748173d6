"""A name server for tests, on loopback, over UDP and TCP: it says what `zone` says, or fails as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer(asyncio.DatagramProtocol):
    """Records are lines of a zone file: `_sip._udp.pbx.example. 60 IN SRV 10 5 5070 a.pbx.example.`"""

    def __init__(self, zone: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        """Name without final dot and type, of each question."""
        self.over_tcp = 0
        self.truncates = False
        """Answers over UDP hold nothing but the wish to be asked over TCP."""
        self.silent = False
        self.rcode: dns.rcode.Rcode | None = None
        """What every question gets."""
        self.soa = ""
        """Of negative answers: its last number is for how long there is nothing (RFC 2308)."""
        self.whole_chains = True
        """Whether the target of a CNAME is in the same answer."""
        self.port = 0
        self.load(zone)

    def load(self, zone: str) -> None:
        self._sets: dict[tuple[str, str], dns.rrset.RRset] = {}
        for line in filter(None, map(str.strip, zone.splitlines())):
            name, ttl, _, kind, rest = line.split(None, 4)
            found = dns.rrset.from_text(name, int(ttl), "IN", kind, rest)
            key = name.lower(), kind
            if key in self._sets:
                self._sets[key].update(found)
            else:
                self._sets[key] = found

    async def __aenter__(self) -> NameServer:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._stream, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", self.port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
        self._server.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def datagram_received(self, data: bytes, address: tuple[str | bytes, int]) -> None:
        answer = self._answer(data)
        if answer is not None:
            if self.truncates:
                answer.answer.clear()
                answer.flags |= dns.flags.TC
            self._transport.sendto(answer.to_wire(), address)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            self.over_tcp += 1
            answer = self._answer(await reader.readexactly(size))
            if answer is not None:
                data = answer.to_wire()
                writer.write(struct.pack("!H", len(data)) + data)
                await writer.drain()
        writer.close()

    def _answer(self, data: bytes) -> dns.message.Message | None:
        question = dns.message.from_wire(data)
        (asked,) = question.question
        name, kind = asked.name, dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name.to_text().rstrip("."), kind))
        if self.silent:
            return None
        answer = dns.message.make_response(question)
        if self.rcode is not None:
            answer.set_rcode(self.rcode)
            return answer
        self._fill(answer, name, kind)
        return answer

    def _fill(self, answer: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        text = name.to_text().lower()
        for _ in range(20):
            found = self._sets.get((text, kind))
            if found is not None:
                answer.answer.append(found)
                return
            alias = self._sets.get((text, "CNAME"))
            if alias is None:
                break
            answer.answer.append(alias)
            text = alias[0].target.to_text().lower()
            if not self.whole_chains:
                return
        if not any(known.endswith(text) for known, _ in self._sets):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.soa:
            answer.authority.append(dns.rrset.from_text(".", 3600, "IN", "SOA", self.soa))


def free_port() -> int:
    """A UDP port of loopback that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
