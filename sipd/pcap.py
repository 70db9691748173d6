"""Reads SIP out of packet captures: pcap and pcapng, as tcpdump, dumpcap, tshark and sngrep write them.

A reader of its own, because the libraries are large (scapy), or one more dependency of the edge for a command that few
need (dpkt), while the formats are small: a record is a length and bytes; of a packet only addresses and payload count.

Ethernet (with VLAN tags), Linux cooked v1 and v2, raw IP and BSD loopback; IPv4 and IPv6 with fragments; UDP, and TCP
put in order. Whatever is wrong with the file is a `Fault` with its offset; what can be read on is read on.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sipd.message.framing import Framer, FramingError

MAX_RECORD = 1024 * 1024
"""Bytes of one packet; a longer one is a fault, and the end of what can be read."""
MAX_FRAGMENTED = 1000
"""Datagrams whose fragments are waited for; the oldest are given up."""
MAX_DATAGRAM = 65_535
MAX_STREAMS = 10_000
"""Directions of TCP connections that are followed; the oldest are given up."""
MAX_AHEAD = 256 * 1024
"""Bytes of one stream that wait for a segment that is missing; then it is given up."""

PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}  # fmt: skip
"""Magic -> byte order and unit of the second half of the time."""
PCAPNG = b"\x0a\x0d\x0d\x0a"
ETHERNET, RAW, RAW_OLD, NULL, LOOP, COOKED, COOKED2 = 1, 101, 12, 0, 108, 113, 276
IPV4, IPV6, VLANS = 0x0800, 0x86DD, (0x8100, 0x88A8, 0x9100)
EXTENSIONS = (0, 43, 60, 135)
"""IPv6 headers with next header and length: hop-by-hop, routing, destination, mobility."""

Place = tuple[str, int]


class Fault(NamedTuple):
    """What could not be read."""

    offset: int
    """Bytes from the beginning of the file."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Captured:
    """One SIP message."""

    at: float
    """Epoch seconds."""
    transport: str
    source: Place
    destination: Place
    data: bytes
    offset: int


class Record(NamedTuple):
    """One packet as it was captured."""

    offset: int
    at: float
    link: int
    data: bytes


def is_capture(data: bytes) -> bool:
    return data[:4] in PCAP or data[:4] == PCAPNG


def read(data: bytes) -> Iterator[Captured | Fault]:
    """All SIP messages of a capture, in order. Never raises, whatever the bytes are."""
    fragments, streams = Fragments(), Streams()
    for record in _pcapng(data) if data[:4] == PCAPNG else _pcap(data):
        if isinstance(record, Fault):
            yield record
            continue
        try:
            found = _ip(_network(record.link, record.data), fragments)
            if found is not None:
                yield from _transport(found, record, streams)
        except (struct.error, IndexError, ValueError) as error:
            yield Fault(record.offset, f"The packet is cut short or malformed ({error}).")


# Files


def _pcap(data: bytes) -> Iterator[Record | Fault]:
    if len(data) < 24:
        yield Fault(0, "The file is shorter than the header of a pcap.")
        return
    order, unit = PCAP.get(data[:4], ("<", 1e-6))
    (link,) = struct.unpack_from(order + "I", data, 20)
    position = 24
    while position < len(data):
        if len(data) - position < 16:
            yield Fault(position, "The header of a packet is cut short.")
            return
        seconds, fraction, length, _ = struct.unpack_from(order + "IIII", data, position)
        if length > MAX_RECORD or position + 16 + length > len(data):
            yield Fault(position, f"A packet of {length} bytes does not fit into the file.")
            return
        begin = position + 16
        yield Record(position, seconds + fraction * unit, link & 0xFFFF, data[begin : begin + length])
        position = begin + length


def _pcapng(data: bytes) -> Iterator[Record | Fault]:
    """Sections with blocks; of these only interfaces and packets matter."""
    order, position = "<", 0
    links: list[tuple[int, float]] = []
    while position < len(data):
        if len(data) - position < 12:
            yield Fault(position, "A block is cut short.")
            return
        if data[position : position + 4] == PCAPNG:
            order = "<" if data[position + 8 : position + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        kind, length = struct.unpack_from(order + "II", data, position)
        if length < 12 or length % 4 or position + length > len(data):
            yield Fault(position, f"A block of {length} bytes does not fit into the file.")
            return
        body = data[position + 8 : position + length - 4]
        try:
            if kind == 1:
                links.append((struct.unpack_from(order + "H", body)[0], _resolution(body, order)))
            elif kind in (3, 6):
                record = _packet(kind, body, order, links, position)
                if record is not None:
                    yield record
        except (struct.error, IndexError, OverflowError) as error:
            yield Fault(position, f"A block cannot be read ({error}).")
        position += length


def _resolution(body: bytes, order: str) -> float:
    """Seconds of one tick of an interface's clock (option 9)."""
    position = 8
    while position + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, position)
        if code == 9 and length:
            value = body[position + 4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        if code == 0:
            break
        position += 4 + (length + 3) // 4 * 4
    return 1e-6


def _packet(kind: int, body: bytes, order: str, links: list[tuple[int, float]], offset: int) -> Record | None:
    if kind == 3:  # simple packet: no time, first interface
        return Record(offset, 0.0, links[0][0], body[4:])
    number, high, low, length, _ = struct.unpack_from(order + "IIIII", body)
    link, unit = links[number]
    if length > MAX_RECORD:
        raise IndexError(f"{length} bytes")
    return Record(offset, ((high << 32) | low) * unit, link, body[20 : 20 + length])


# Packets


def _network(link: int, data: bytes) -> bytes:
    """The IP packet in a frame; empty when there is none."""
    if link in (RAW, RAW_OLD, 14, 228, 229):
        return data
    if link in (NULL, LOOP):
        return data[4:]
    if link == ETHERNET:
        kind, position = struct.unpack_from(">H", data, 12)[0], 14
    elif link == COOKED:
        kind, position = struct.unpack_from(">H", data, 14)[0], 16
    elif link == COOKED2:
        kind, position = struct.unpack_from(">H", data, 0)[0], 20
    else:
        raise ValueError(f"link type {link} is not known here")
    while kind in VLANS:
        kind, position = struct.unpack_from(">H", data, position + 2)[0], position + 4
    return data[position:] if kind in (IPV4, IPV6) else b""


class Packet(NamedTuple):
    """What an IP packet carries, whole."""

    protocol: int
    source: str
    destination: str
    payload: bytes


def _ip(data: bytes, fragments: Fragments) -> Packet | None:
    version = data[0] >> 4 if data else 0
    if version == 4:
        size, (length, name, flags) = (data[0] & 15) * 4, struct.unpack_from(">HHH", data, 2)
        payload = data[size : length or None]
        found = Packet(
            data[9], str(ipaddress.IPv4Address(data[12:16])), str(ipaddress.IPv4Address(data[16:20])), payload
        )
        if flags & 0x3FFF:
            return fragments.take(found, name, (flags & 0x1FFF) * 8, bool(flags & 0x2000))
        return found
    return _ipv6(data, fragments) if version == 6 else None


def _ipv6(data: bytes, fragments: Fragments) -> Packet | None:
    length, kind = struct.unpack_from(">HB", data, 4)
    source, destination = str(ipaddress.IPv6Address(data[8:24])), str(ipaddress.IPv6Address(data[24:40]))
    payload = data[40 : 40 + length if length else None]
    while kind in EXTENSIONS:
        kind, payload = payload[0], payload[(payload[1] + 1) * 8 :]
    if kind != 44:
        return Packet(kind, source, destination, payload)
    kind, _, where, name = struct.unpack_from(">BBHI", payload)
    return fragments.take(Packet(kind, source, destination, payload[8:]), name, where & 0xFFF8, bool(where & 1))


class Fragments:
    """Puts datagrams together again."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, str, int, int], dict[int, tuple[bytes, bool]]] = OrderedDict()

    def take(self, part: Packet, name: int, offset: int, more: bool) -> Packet | None:
        """The whole packet once its last part is there."""
        key = part.source, part.destination, part.protocol, name
        parts = self._parts.setdefault(key, {})
        parts[offset] = part.payload, more
        whole = bytearray()
        while (found := parts.get(len(whole))) is not None and len(whole) <= MAX_DATAGRAM:
            whole += found[0]
            if not found[1]:
                del self._parts[key]
                return part._replace(payload=bytes(whole))
            if not found[0]:
                break
        if len(self._parts) > MAX_FRAGMENTED:
            self._parts.popitem(last=False)
        return None


def _transport(packet: Packet, record: Record, streams: Streams) -> Iterator[Captured | Fault]:
    if packet.protocol not in (6, 17):
        return
    ports = struct.unpack_from(">HH", packet.payload)
    source, destination = (packet.source, ports[0]), (packet.destination, ports[1])
    if packet.protocol == 17:
        data = packet.payload[8:]
        if is_sip(data):
            yield Captured(record.at, "udp", source, destination, data, record.offset)
        return
    sequence, _, size, flags = struct.unpack_from(">IIBB", packet.payload, 4)
    data = packet.payload[(size >> 4) * 4 :]
    try:
        for message in streams.take((source, destination), sequence, flags, data):
            yield Captured(record.at, "tcp", source, destination, message, record.offset)
    except FramingError as error:
        yield Fault(record.offset, f"The stream from {source[0]}:{source[1]} cannot be read on: {error.reason}.")


def is_sip(data: bytes) -> bool:
    """By its first line."""
    first = data.lstrip(b"\r\n")[:2000].partition(b"\n")[0].rstrip()
    return first.startswith(b"SIP/2.0 ") or first.upper().endswith((b" SIP/2.0", b" SIP/7.0")) or b" SIP/" in first


class Stream:
    """One direction of a TCP connection."""

    def __init__(self, following: int) -> None:
        self.next = following
        self.framer = Framer()
        self.ahead: dict[int, bytes] = {}


class Streams:
    """Puts segments in order, and cuts messages out of them."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[Place, Place], Stream] = OrderedDict()

    def take(self, key: tuple[Place, Place], sequence: int, flags: int, data: bytes) -> list[bytes]:
        """What is complete now. Raises FramingError, after which the stream is found again at its next message."""
        stream = self._streams.get(key)
        if flags & 2:  # SYN
            stream = self._streams[key] = Stream((sequence + 1) & 0xFFFFFFFF)
            sequence += 1
        if stream is None:
            if not data or not is_sip(data):
                return []
            stream = self._streams[key] = Stream(sequence)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        if data:
            stream.ahead[sequence & 0xFFFFFFFF] = data
        if sum(map(len, stream.ahead.values())) > MAX_AHEAD:
            del self._streams[key]
            return []
        try:
            return self._ready(stream)
        except FramingError:
            del self._streams[key]
            raise

    def _ready(self, stream: Stream) -> list[bytes]:
        done: list[bytes] = []
        while stream.ahead:
            for sequence, data in list(stream.ahead.items()):
                behind = (stream.next - sequence) & 0xFFFFFFFF
                if behind < 0x80000000:  # at or before what is wanted: what of it is new
                    del stream.ahead[sequence]
                    new = data[behind:]
                    stream.next = (stream.next + len(new)) & 0xFFFFFFFF
                    done += [found for found in stream.framer.feed(new) if isinstance(found, bytes)]
                    break
            else:
                break
        return done
