"""SIP out of captures: link types, fragments, streams, and whatever may be wrong with a file."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipd import pcap
from sipd.pcap import Captured, Fault
from tests.unit.shell import captures
from tests.unit.shell.captures import frame, ip, tcp, udp

V4 = (("192.0.2.9", 5062), ("192.0.2.1", 5060))
V6 = (("2001:db8::9", 5062), ("2001:db8::1", 5060))
AT = 1_700_000_000.25


def message(number: int = 1, size: int = 0) -> bytes:
    head = f"OPTIONS sip:a SIP/2.0\r\nCall-ID: {number}\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


def found(data: bytes) -> list[Captured]:
    items = list(pcap.read(data))
    assert not [item for item in items if isinstance(item, Fault)], items
    return [item for item in items if isinstance(item, Captured)]


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize(("link", "vlans"), [(1, 0), (1, 1), (1, 2), (113, 0), (276, 0), (101, 0), (0, 0), (108, 0)])
def test_link_types(ends: tuple[captures.Place, captures.Place], link: int, vlans: int) -> None:
    packet = frame(link, ip(ends[0][0], ends[1][0], 17, udp(*ends, message())), vlans)
    for data in (
        captures.pcap([(AT, packet)], link), captures.pcap([(AT, packet)], link, ">"),
        captures.pcap([(AT, packet)], link, nano=True), captures.pcapng([(AT, packet)], link),
        captures.pcapng([(AT, packet)], link, ">"),
    ):  # fmt: skip
        (one,) = found(data)
        assert (one.transport, one.source, one.destination, one.data) == ("udp", *ends, message())
        assert one.at == pytest.approx(AT)


@pytest.mark.parametrize("ends", [V4, V6], ids=["v4", "v6"])
def test_fragments_in_any_order(ends: tuple[captures.Place, captures.Place]) -> None:
    whole = udp(*ends, message(size=4000))
    parts = [whole[at : at + 1448] for at in range(0, len(whole), 1448)]
    packets = [
        ip(ends[0][0], ends[1][0], 17, part, fragment=(7, 1448 * number, number < len(parts) - 1))
        for number, part in enumerate(parts)
    ]
    packets.reverse()
    (one,) = found(captures.pcap([(AT, frame(1, packet)) for packet in packets]))
    assert one.data == message(size=4000)


@given(st.randoms(use_true_random=False), st.integers(1, 200))
def test_a_stream_in_any_order_and_twice(rng: random.Random, cut: int) -> None:
    stream = b"\r\n\r\n" + b"".join(message(number, number * 7) for number in range(6))
    begin = 2**32 - 100  # the numbers wrap
    parts = [(begin + at, stream[at : at + cut]) for at in range(0, len(stream), cut)]
    parts += rng.sample(parts, len(parts) // 2)
    for _ in range(5):
        at = rng.randrange(len(parts))
        parts[at - 1], parts[at] = parts[at], parts[at - 1]
    segments = [tcp(*V4, (begin - 1) & 0xFFFFFFFF, b"", 2)]
    segments += [tcp(*V4, sequence & 0xFFFFFFFF, data) for sequence, data in parts]
    packets = [(AT, frame(1, ip(V4[0][0], V4[1][0], 6, segment))) for segment in segments]
    assert [one.data for one in found(captures.pcap(packets))] == [message(n, n * 7) for n in range(6)]


def test_a_stream_from_its_middle() -> None:
    segments = [
        tcp(*V4, 500, b"half a message\r\n\r\n"),
        tcp(*V4, 518, message(1)),
        tcp(*V4, 518 + len(message(1)), message(2)),
    ]
    packets = [(AT, frame(1, ip(V4[0][0], V4[1][0], 6, segment))) for segment in segments]
    assert [one.data for one in found(captures.pcap(packets))] == [message(1), message(2)]


def test_other_packets_are_passed_over() -> None:
    other = [
        udp(*V4, b"\x80\x00rtp"), udp(*V4, b"\r\n\r\n"), udp(*V4, b""), tcp(*V4, 1, b"GET / HTTP/1.1\r\n\r\n"),
    ]  # fmt: skip
    packets = [(AT, frame(1, ip(V4[0][0], V4[1][0], 6 if n == 3 else 17, data))) for n, data in enumerate(other)]
    packets.append((AT, bytes(12) + b"\x08\x06" + bytes(28)))
    assert found(captures.pcap(packets)) == []


def test_what_is_cut_short_says_where() -> None:
    packet = frame(1, ip(V4[0][0], V4[1][0], 17, udp(*V4, message())))
    whole = captures.pcap([(AT, packet), (AT, packet)])
    items = list(pcap.read(whole[:-5]))
    assert [type(item) for item in items] == [Captured, Fault]
    assert items[1].offset == 24 + 16 + len(packet)
    ng = captures.pcapng([(AT, packet), (AT, packet)])
    assert [type(item) for item in pcap.read(ng[:-5])] == [Captured, Fault]
    assert [type(item) for item in pcap.read(whole[:10])] == [Fault]


def test_an_unknown_link_type_is_a_fault() -> None:
    (fault,) = pcap.read(captures.pcap([(AT, bytes(60))], 147))
    assert isinstance(fault, Fault)
    assert "link type 147" in fault.sentence


PACKETS = [(AT, frame(1, ip(*(end[0] for end in ends), 17, udp(*ends, message())))) for ends in (V4, V6)]
PACKETS += [(AT, frame(1, ip(V4[0][0], V4[1][0], 6, tcp(*V4, 1, message() + b"INVITE x SIP/2.0\r\n\r\n"))))]


@given(st.sampled_from([captures.pcap(PACKETS), captures.pcapng(PACKETS)]), st.data())
def test_broken_bytes_are_told_and_never_raise(whole: bytes, data: st.DataObject) -> None:
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    for item in pcap.read(bytes(broken[: data.draw(st.integers(0, len(broken)))])):
        assert 0 <= item.offset <= len(broken)


@given(st.sampled_from([*pcap.PCAP, pcap.PCAPNG]), st.binary(max_size=300))
def test_any_bytes_never_raise(magic: bytes, data: bytes) -> None:
    list(pcap.read(magic + data))
