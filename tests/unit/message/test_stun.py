"""STUN Binding requests of phones, and what they are told (RFC 5389), with the addresses of RFC 5769."""

from __future__ import annotations

import struct

import pytest

from sipd.message import stun

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = struct.pack(">HHI", 1, 0, stun.MAGIC_COOKIE) + TRANSACTION


@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("192.0.2.1", "0001a147e112a643"),
        ("2001:db8:1234:5678:11:2233:4455:6677", "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"),
    ],
)
def test_the_answer_tells_where_the_request_came_from(host: str, value: str) -> None:
    answer = stun.answer(REQUEST, host, 32853)
    wanted = bytes.fromhex(value)
    assert answer == struct.pack(">HHI", 0x0101, 4 + len(wanted), stun.MAGIC_COOKIE) + TRANSACTION + (
        struct.pack(">HH", 0x0020, len(wanted)) + wanted
    )


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0\0\0\0", REQUEST[:-1], REQUEST + b"\0", b"\1" + REQUEST[1:], REQUEST[:4] + b"\0" + REQUEST[5:],
        b"OPTIONS sip:h SIP/2.0\r\n\r\n", struct.pack(">HHI", 0x0101, 0, stun.MAGIC_COOKIE) + TRANSACTION,
    ],
)  # fmt: skip
def test_what_is_no_request(data: bytes) -> None:
    assert not stun.is_request(data)


def test_attributes_are_let_in() -> None:
    software = struct.pack(">HH", 0x8022, 4) + b"test"
    assert stun.is_request(REQUEST[:2] + struct.pack(">H", len(software)) + REQUEST[4:] + software)
