"""What holds for the parsers whatever they read; hypothesis and the fuzzer of `tests/fuzz` ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from sipd.message.address import Address
from sipd.message.auth import Challenge, Credentials
from sipd.message.check import check
from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage
from sipd.message.framing import Framer
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.message.uri import Uri, same_uri
from sipd.message.via import Via

PARSERS: tuple[Callable[[str], object], ...] = (
    Uri.parse, Address.parse, Via.parse, CSeq.parse, Credentials.parse, Challenge.parse,
)  # fmt: skip
STARTS = ("", "sip:", "SIP/2.0/UDP ", "Digest ", 'Digest realm="r",nonce="n",', "1 ")
"""Beginnings that lead deeper into the parsers."""


def read_all(data: bytes) -> None:
    """Everything below."""
    one_message(data)
    the_same_to_framer_and_scanner(data)
    text = data.decode("utf-8", "surrogateescape")
    for start in STARTS:
        each_value(start + text)


def one_message(data: bytes) -> None:
    """Read, or refused with BadMessage; an index that covers the header bytes, each line once."""
    try:
        message = scan(data)
        check(message)
    except BadMessage:
        return
    assert message.rest(frozenset()) == b"".join(message.line(i) for i in range(len(message.names())))
    assert message.data.find(message.rest(frozenset())) >= 0
    assert message.vias


def the_same_to_framer_and_scanner(data: bytes) -> None:
    """Where the framer cuts and where the scanner sees the end is one place: else a second message could hide in the
    body of the first (request smuggling)."""
    framer = Framer()
    try:
        frames = framer.feed(data)
    except BadMessage as bad:
        frames = getattr(bad, "before", [])
    for frame in frames:
        if not isinstance(frame, bytes):
            continue
        message: Message | None = None
        with contextlib.suppress(BadMessage):
            message = scan(frame)
        if message is not None:
            assert frame.endswith(b"\r\n\r\n" + message.body), frame


def each_value(text: str) -> None:
    """Read, or refused; and what was read is the same when it is written and read again."""
    for parse in PARSERS:
        try:
            value = parse(text)
        except BadMessage:
            continue
        written = str(value)
        assert not set(written) & set("\r\n\0"), (parse, text)
        if not isinstance(value, Credentials | Challenge):
            assert parse(written) == value, (parse, text, written)
        if isinstance(value, Uri):
            assert same_uri(value, parse(written)), text  # type: ignore[arg-type]
