"""A stream gives the same messages whole, byte by byte, and with something behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipd.message.framing import PING, Framer, FramingError, Ping
from sipd.message.scanner import Limits

HEAD = (
    b"MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
    b"Call-ID: c\r\nCSeq: 1 MESSAGE\r\n"
)
ONE = HEAD + b"Content-Length: 4\r\n\r\nabcd"
TWO = HEAD + b"l :\r\n 0\r\n\r\n"
THREE = HEAD + b"CONTENT-LENGTH: 4\r\nl: 4\r\n\r\n\r\n\r\n"


Feed = Callable[[bytes], list[bytes | Ping]]


def whole(data: bytes) -> list[bytes | Ping]:
    return Framer().feed(data)


def one_by_one(data: bytes) -> list[bytes | Ping]:
    framer = Framer()
    return [item for byte in data for item in framer.feed(bytes([byte]))]


@pytest.mark.parametrize("feed", [whole, one_by_one])
class TestFeed:
    @pytest.mark.parametrize("message", [ONE, TWO, THREE])
    def test_one(self, feed: Feed, message: bytes) -> None:
        assert feed(message) == [message]

    def test_several(self, feed: Feed) -> None:
        assert feed(ONE + TWO + THREE + ONE) == [ONE, TWO, THREE, ONE]

    def test_keep_alives(self, feed: Feed) -> None:
        assert feed(b"\r\n\r\n" + ONE + b"\r\n" + TWO + b"\r\n\r\n\r\n" + ONE + b"\r\n\r\n") == [
            PING, ONE, TWO, PING, ONE, PING,
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (b"", 400),
            (b"Content-Length: -1\r\n", 400),
            (b"Content-Length: four\r\n", 400),
            (b"Content-Length:\r\n", 400),
            (b"Content-Length: 4\r\nl: 5\r\n", 400),
            (b"Content-Length: 4, 4\r\n", 400),
            (b"Content-Length: 65536\r\n", 513),
        ],
    )
    def test_unreadable(self, feed: Feed, lines: bytes, status: int) -> None:
        with pytest.raises(FramingError) as caught:
            feed(HEAD + lines + b"\r\n")
        assert caught.value.status == status
        assert caught.value.message is not None
        assert caught.value.message.call_id == "c"

    def test_endless_headers(self, feed: Feed) -> None:
        with pytest.raises(FramingError) as caught:
            feed(HEAD + b"X: " + b"y" * 65536)
        assert caught.value.status == 513

    def test_stray_bytes(self, feed: Feed) -> None:
        with pytest.raises(FramingError):
            feed(ONE + b"\n" + TWO)


def test_what_was_whole_before_the_fault_is_not_lost() -> None:
    with pytest.raises(FramingError) as caught:
        Framer().feed(b"\r\n\r\n" + ONE + HEAD + b"\r\n")
    assert caught.value.before == [PING, ONE]


def test_a_broken_response_has_no_answer() -> None:
    with pytest.raises(FramingError) as caught:
        Framer().feed(HEAD.replace(b"MESSAGE sip:a@b SIP/2.0", b"SIP/2.0 200 OK") + b"\r\n")
    assert caught.value.message is None


def test_names_that_only_begin_like_content_length() -> None:
    message = HEAD + b"Content-Length-X: 9\r\nLast: 8\r\nContent-Length: 0\r\n\r\n"
    assert Framer().feed(message) == [message]


def test_pending() -> None:
    framer = Framer()
    framer.feed(b"\r\n")
    assert (framer.pending, framer.unfinished) == (0, False), "half a ping is no message"
    framer.feed(ONE[:10])
    assert (framer.pending, framer.unfinished) == (10, True)
    framer.feed(ONE[10:])
    assert framer.pending == 0


def test_limit() -> None:
    framer = Framer(Limits(message=len(ONE)))
    assert framer.feed(ONE) == [ONE]
    with pytest.raises(FramingError):
        Framer(Limits(message=len(ONE) - 1)).feed(ONE)
