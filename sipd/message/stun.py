"""STUN as far as phones keep their way through a NAT open with it over UDP (RFC 5626 4.4.2, RFC 5389)."""

from __future__ import annotations

import ipaddress
import struct

BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
MAGIC_COOKIE = 0x2112A442
XOR_MAPPED_ADDRESS = 0x0020
HEADER = 20
"""Octets before the attributes (RFC 5389 section 6)."""


def is_request(data: bytes) -> bool:
    """Whether a datagram is a Binding request; no SIP message begins with such an octet."""
    if len(data) < HEADER or data[0] != 0:
        return False
    head: tuple[int, int, int] = struct.unpack_from(">HHI", data)
    length = len(data) - HEADER
    return length % 4 == 0 and head == (BINDING_REQUEST, length, MAGIC_COOKIE)


def answer(request: bytes, host: str, port: int) -> bytes:
    """The Binding success response: where the request came from, XORed as RFC 5389 15.2 has it."""
    address = ipaddress.ip_address(host)
    family = 1 if address.version == 4 else 2
    mask = request[4 : 4 + len(address.packed)]  # the cookie, then the transaction id
    mapped = bytes(a ^ b for a, b in zip(address.packed, mask, strict=True))
    value = struct.pack(">xBH", family, port ^ (MAGIC_COOKIE >> 16)) + mapped
    attribute = struct.pack(">HH", XOR_MAPPED_ADDRESS, len(value)) + value
    return struct.pack(">HH", BINDING_SUCCESS, len(attribute)) + request[4:HEADER] + attribute
