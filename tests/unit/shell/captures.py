"""Writes captures for tests: pcap and pcapng, with the packets of several link types."""

from __future__ import annotations

import ipaddress
import struct

Place = tuple[str, int]


def udp(source: Place, destination: Place, data: bytes) -> bytes:
    return struct.pack(">HHHH", source[1], destination[1], 8 + len(data), 0) + data


def tcp(source: Place, destination: Place, sequence: int, data: bytes, flags: int = 0x18) -> bytes:
    return struct.pack(">HHIIBBHHH", source[1], destination[1], sequence, 0, 5 << 4, flags, 1000, 0, 0) + data


def ip(
    source: str, destination: str, protocol: int, payload: bytes, *, fragment: tuple[int, int, bool] | None = None
) -> bytes:
    """`fragment`: name, offset in bytes, whether more follow."""
    there, here = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if there.version == 6:
        if fragment is not None:
            name, offset, more = fragment
            payload = struct.pack(">BBHI", protocol, 0, offset | more, name) + payload
            protocol = 44
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + there.packed + here.packed + payload
    name, offset, more = fragment or (0, 0, False)
    flags = offset // 8 | (0x2000 if more else 0)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), name, flags, 64, protocol, 0)
    return head + there.packed + here.packed + payload


def frame(link: int, packet: bytes, vlans: int = 0) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    tags = b"".join(struct.pack(">HH", 0x8100 if n else 0x88A8, n) for n in range(vlans))[2:]
    typed = struct.pack(">H", kind)
    if vlans:
        typed = struct.pack(">H", 0x8100) + tags + typed if vlans == 1 else struct.pack(">H", 0x88A8) + tags + typed
    match link:
        case 1:
            return bytes(12) + typed + packet
        case 113:
            return bytes(14) + typed + packet
        case 276:
            return typed + bytes(18) + packet
        case 0 | 108:
            return struct.pack("<I", 2 if kind == 0x0800 else 30) + packet
        case _:
            return packet


def pcap(packets: list[tuple[float, bytes]], link: int = 1, order: str = "<", nano: bool = False) -> bytes:
    magic, unit = (0xA1B23C4D, 1e9) if nano else (0xA1B2C3D4, 1e6)
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for at, data in packets:
        out += struct.pack(order + "IIII", int(at), round((at % 1) * unit), len(data), len(data)) + data
    return out


def pcapng(packets: list[tuple[float, bytes]], link: int = 1, order: str = "<") -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)

    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack(order + "HHI", link, 0, 0))
    for at, data in packets:
        ticks = round(at * 1e6)
        out += block(6, struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data)
    return out
