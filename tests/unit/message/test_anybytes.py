"""Any bytes to the parsers (see `anybytes`). Catches: another exception than BadMessage, a value that changes when it
is written and read again, framer and scanner that see different ends."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.message.anybytes import each_value, one_message, the_same_to_framer_and_scanner
from tests.unit.message.test_roundtrip import HOSTILE

LENGTHS = st.sampled_from([
    b"Content-Length: 0", b"l: 5", b"L : 3", b"Content-Length:\r\n 4", b"Content-Length: 1, 2",
    b"content-length: 0005", b"l:", b"l: -1", b"Content-Length\r\n : 5", b"X: a\r\n l: 9", b"Content-Length: 2\x0b",
    b"Content-Length: \x0c2", b"l: 2\r\nContent-Length: 2", b"l: +2", b"l: \xd9\xa3", b"l: 2\r\n ", b"l\0: 1",
    b"Xl: 4", b"l: 1 2", b"ContentLength: 7",
])  # fmt: skip
PIECES = [
    "sip:", "sips:", "tel:", "a", "@", "h", ":", "5060", "0", ";", "=", "?", "&", "%41", "%", "%00", "[", "]", "::1",
    "<", ">", '"', "\\", ",", " ", "\t", "tag", "lr", "\u00e4", "\udcff", "SIP/2.0/UDP", "h.example", "*", "\x0b", "1",
    "INVITE", "Digest", "realm", '"x"', "nonce=n", "branch", "received", "rport", "'", "\x7f", "\u2028", "\xa0",
    "1.2.3.4", "-", ".",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
STARTS = st.sampled_from([b"OPTIONS sip:a SIP/2.0", b"SIP/2.0 200 OK"])


@given(HOSTILE)
def test_one_message(data: bytes) -> None:
    one_message(data)


@given(
    st.lists(LENGTHS, max_size=3),
    st.sampled_from([b"OPTIONS sip:a SIP/2.0", b"SIP/2.0 200 OK"]),
    st.binary(max_size=12),
)
@example([b"Content-Length: 2\x0b"], b"OPTIONS sip:a SIP/2.0", b"abcd")
def test_framer_and_scanner_agree(lengths: list[bytes], start: bytes, body: bytes) -> None:
    head = b"\r\n".join([start, b"Via: SIP/2.0/TCP h", b"CSeq: 1 OPTIONS", *lengths])
    the_same_to_framer_and_scanner(head + b"\r\n\r\n" + body)


@settings(max_examples=400)
@given(TEXTS | st.text(max_size=30))
@example("a\tb <sip:h>")
def test_each_value(text: str) -> None:
    each_value(text)
