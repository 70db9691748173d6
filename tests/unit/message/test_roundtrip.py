"""Whatever is written can be read again, and whatever is read never breaks the reader."""

from __future__ import annotations

import contextlib
import re

from hypothesis import example, given
from hypothesis import strategies as st

from sipd.message.address import Address
from sipd.message.auth import Challenge, Credentials
from sipd.message.build import response
from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.framing import Framer
from sipd.message.grammar import format_params, parse_params, split_list
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.message.uri import Uri, same_uri
from sipd.message.via import Via
from tests.unit.message.strategies import addresses, header_params, texts, uris, vias

# Pieces of which hostile messages are made; mixed they reach deeper than plain random bytes.
PIECES = st.sampled_from(
    [
        b"INVITE sip:101@acme.example SIP/2.0", b"SIP/2.0 200 OK", b"ACK sip:a@b SIP/2.0", b"\r\n", b"\r\n\r\n", b"\r",
        b"\n", b" ", b"\t", b":", b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", b"v: ",
        b", SIP/2.0/TCP [::1]:5061;rport",
        b"From: <sip:a@b>;tag=1", b"To: \"x\" <sip:a@b>", b"Call-ID: c", b"CSeq: 1 INVITE", b"Content-Length: 4",
        b"l: -1", b"Contact: *", b"\0", b"\\", b"\"", b"<", b">", b";", b"=", b",", b"%", b"%41", b"\xff", b"\xc3\xa4",
        b"Authorization: Digest ", b"Date: now", b"Max-Forwards: 256", b"SIP/2.0", b"SIP/7.0",
    ]
)  # fmt: skip
bare_line_end = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
HOSTILE = st.binary(max_size=200) | st.lists(PIECES | st.binary(max_size=3), max_size=40).map(b"".join)


@given(HOSTILE)
@example(b"")
@example(b"\r\n")
@example(b"INVITE sip:a SIP/2.0\r\n \r\n\r\n")
@example(b"INVITE sip:a SIP/2.0\r\nVia\r\n\r\n")
@example(b"\n" * 300)
@example(b"A\n" * 300 + b"\r\n \r\n\r\n")
@example(b"INVITE sip:a SIP/2.0\r\n" + b"V:\r\n \r\n" * 300 + b"\r\n")
def test_scan_raises_nothing_but_bad_message(data: bytes) -> None:
    try:
        msg = scan(data)
        check(msg)
    except BadMessage as bad:
        if bad.message is not None:
            refuse(bad.message, bad.status, bad.reason)
    else:
        read_everything(msg)


def refuse(msg: Message, status: int, reason: str) -> None:
    assert not msg.status
    answer = response(msg, status, reason, "tag", received=("192.0.2.9", 5062))
    assert answer.startswith(b"SIP/2.0 %d " % status)
    assert not bare_line_end(answer)
    read_everything(msg)


def read_everything(msg: Message) -> None:
    for read in (
        lambda: msg.vias, lambda: msg.via, lambda: msg.cseq, lambda: msg.from_, lambda: msg.to, lambda: msg.call_id,
        lambda: msg.contacts, lambda: msg.max_forwards, lambda: msg.expires, lambda: msg.content_type,
        lambda: Uri.parse(msg.uri), lambda: msg.split("via"), lambda: msg.split("contact"),
    ):  # fmt: skip
        with contextlib.suppress(BadMessage):
            read()
    for name in msg.names():
        text = msg.get(name)
        assert text is not None
        assert "\0" not in text
        assert "\r\n" not in text
        text.encode("utf-8", "surrogateescape")
    assert msg.rest(frozenset()) in msg.data


@given(st.text(max_size=60))
@example('Digest username="\\')
@example("Digest ,,,")
@example("Digest a=b, a=c")
@example("Digest")
def test_headers_raise_nothing_but_bad_message(text: str) -> None:
    for parse in (Uri.parse, Address.parse, Via.parse, Credentials.parse, Challenge.parse, split_list, parse_params):
        for start in ("", "sip:", "SIP/2.0/UDP ", "Digest ", "Digest realm=x,"):
            with contextlib.suppress(BadMessage):
                parse(start + text)


@given(uris())
def test_uri(uri: Uri) -> None:
    assert Uri.parse(str(uri)) == uri
    assert same_uri(uri, Uri.parse(str(uri)))


@given(addresses())
def test_address(address: Address) -> None:
    assert Address.parse(str(address)) == address


@given(vias())
def test_via(via: Via) -> None:
    assert Via.parse(str(via)) == via


@given(header_params)
def test_params(params: dict[str, str | None]) -> None:
    assert parse_params(format_params(params)) == params


@given(st.lists(addresses(), min_size=1, max_size=4))
def test_lists(values: list[Address]) -> None:
    assert Address.parse_list([", ".join(map(str, values))]) == values


@given(vias(), addresses(), addresses(), st.lists(vias(), max_size=2), texts, st.booleans())
def test_answer_to_any_request_reads_again(
    top: Via, sender: Address, target: Address, others: list[Via], reason: str, joined: bool
) -> None:
    separator = ", " if joined else "\r\nv: "
    data = (
        f"OPTIONS sip:x SIP/2.0\r\nVia: {separator.join(map(str, [top, *others]))}\r\n"
        f"From: {sender}\r\nTo: {target}\r\n"
        "Call-ID: c\r\nCSeq: 7 OPTIONS\r\n\r\n"
    ).encode("utf-8", "surrogateescape")
    request = scan(data)
    answer = scan(response(request, 404, reason, "ours", received=("203.0.113.5", 1024)))
    assert (answer.status, answer.reason) == (404, reason)
    assert answer.from_ == sender
    assert answer.to.uri == target.uri
    assert answer.to.tag == (target.tag if "tag" in target.params and target.tag is not None else answer.to.tag)
    assert answer.cseq == request.cseq
    assert answer.vias[1:] == others
    assert answer.via.params["received"] == "203.0.113.5"
    assert answer.via.params.get("rport", "1024") == "1024"


@given(HOSTILE, st.lists(st.integers(1, 30), max_size=20))
def test_framer_raises_nothing_but_bad_message(data: bytes, cuts: list[int]) -> None:
    framer, pos = Framer(), 0
    with contextlib.suppress(BadMessage):
        for cut in [*cuts, len(data)]:
            framer.feed(data[pos : pos + cut])
            pos += cut
